"""Differences between runs: one for every common result, with the test that suits it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from probe.core import stats
from probe.core.document import Json, Result
from probe.tools.compare.outcomes import PLACE, Outcomes, labels, outcomes
from probe.tools.compare.runs import Run

How = Literal["paired", "unpaired", "seeds", "none"]

HOW: dict[How, str] = {
    "paired": "McNemar,\u00a0paired",
    "unpaired": "Fisher,\u00a0unpaired",
    "seeds": "Welch,\u00a0over\u00a0seeds",
    "none": "no\u00a0test",
}
LEVEL = 0.05
_OVER_SEEDS = "retrain_"
"""Results of the ablation study whose n is the number of trainings and whose interval is Student's."""


@dataclass(frozen=True)
class Difference:
    """The difference between a result of ``run`` and the same result of the reference.

    ``value`` is run − reference, ``ci`` its 95% interval, ``p`` two-sided, ``corrected`` after Holm over all tests of
    the comparison. ``lost`` and ``won`` count the images that are correct only in the reference, and only in the run.
    """

    name: str
    run: Run
    first: Result
    second: Result
    how: How
    value: float
    ci: tuple[float, float] | None = None
    p: float | None = None
    corrected: float | None = None
    lost: int | None = None
    won: int | None = None

    @property
    def significant(self) -> bool:
        """Whether the difference is significant after the correction."""
        return self.corrected is not None and self.corrected < LEVEL

    @property
    def better(self) -> bool | None:
        """Whether the run is better than the reference in this result, None if neither is."""
        way = self.second.higher_is_better
        return None if way is None or self.value == 0 else (self.value > 0) is way


def differences(runs: Sequence[Run]) -> tuple[Difference, ...]:
    """Compare every other run with the first one; the p-values are corrected over all tests together.

    A result that occurs twice under different names, such as the headline number on its own curve, is compared once.
    """
    reference = runs[0]
    compared = [
        _difference(name, reference, run)
        for run in runs[1:]
        for name in _distinct_names(reference, run)
        if _numeric(reference.results[name].value) and _numeric(run.results[name].value)
    ]
    tested = [place for place, difference in enumerate(compared) if difference.p is not None]
    corrected = stats.holm([compared[place].p or 0.0 for place in tested])
    for place, p in zip(tested, corrected, strict=True):
        compared[place] = dataclasses.replace(compared[place], corrected=p)
    return tuple(compared)


def _distinct_names(first: Run, second: Run) -> list[str]:
    seen: set[tuple[object, ...]] = set()
    names = []
    for name, result in first.results.items():
        if name not in second.results:
            continue
        other, stem = second.results[name], name.partition("@")[0].partition(":")[0]
        key = (stem, result.value, result.n, result.ci, other.value, other.n, other.ci)
        if result.ci is not None and name != stem and key in seen and _repeats(name, stem):
            continue
        seen.add(key)
        names.append(name)
    return names


def _repeats(name: str, stem: str) -> bool:
    """Return whether a name is a point on the curve of its stem: ``robust_accuracy@0.03``."""
    return name.startswith(f"{stem}@")


def _numeric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _difference(name: str, reference: Run, run: Run) -> Difference:
    first, second = reference.results[name], run.results[name]
    plain = Difference(name, run, first, second, "none", float(second.value or 0) - float(first.value or 0))
    counts = [successes(result) for result in (first, second)]
    if counts[0] is not None and counts[1] is not None:
        return _paired(plain, reference) or _unpaired(plain, counts[0], counts[1])
    if name.startswith(_OVER_SEEDS):
        return _over_seeds(plain)
    return plain


def successes(result: Result) -> int | None:
    """Return the number of successes of a proportion; None if it is not a count of images with Wilson's interval."""
    if result.unit != "proportion" or not result.n or result.ci is None:
        return None
    count = float(result.value or 0) * result.n
    if abs(count - round(count)) > 1e-6 or not 0 <= round(count) <= result.n:
        return None
    wilson = stats.wilson(round(count), result.n)
    near = all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(wilson, result.ci, strict=True))
    return round(count) if near else None


def _paired(plain: Difference, reference: Run) -> Difference | None:
    before, after = outcomes(reference, plain.first), outcomes(plain.run, plain.second)
    if before is None or after is None or not same_images(reference, plain.run, before, after):
        return None
    both = sum(before[image] and after[image] for image in before)
    lost = sum(before[image] and not after[image] for image in before)
    won = sum(after[image] and not before[image] for image in before)
    return dataclasses.replace(
        plain,
        how="paired",
        ci=stats.newcombe_paired(both, lost, won, len(before) - both - lost - won),
        p=stats.mcnemar_exact(lost, won),
        lost=lost,
        won=won,
    )


def same_images(first: Run, second: Run, before: Outcomes, after: Outcomes) -> bool:
    """Return whether two runs used the same images with the same labels, according to names and hashes.

    If images are identified only by their index, the samples must match in seed, size and total.
    """
    data, other = first.part("data"), second.part("data")
    hashes = {part.get("sha256") for part in (data, other)} - {None}
    if before.keys() != after.keys() or len(hashes) > 1 or data.get("name") != other.get("name"):
        return False
    draws = [
        (run.document.get("seed"), part.get("n"), part.get("total"))
        for run, part in ((first, data), (second, other))
    ]
    if any(PLACE in image for image in before) and draws[0] != draws[1]:
        return False
    mine, theirs = labels(first), labels(second)
    return all(mine.get(image) == theirs.get(image) for image in before)


def _unpaired(plain: Difference, before: int, after: int) -> Difference:
    counts = (before, plain.first.n or 0, after, plain.second.n or 0)
    return dataclasses.replace(
        plain, how="unpaired", ci=stats.newcombe(*counts), p=stats.fisher_exact(*counts)
    )


def _over_seeds(plain: Difference) -> Difference:
    """Compare two means over seeds, using their intervals (Welch 1947)."""
    test = stats.welch(_moments(plain.first), _moments(plain.second))
    if test is None:
        return plain
    p, ci = test
    return dataclasses.replace(plain, how="seeds", ci=ci, p=p)


def _moments(result: Result) -> tuple[float, float, int]:
    """Return mean, standard error and n of a result with a t-interval; NaN as the error if there is no such interval."""
    value, n = float(result.value or 0), result.n or 0
    if n < 2 or result.ci is None:
        return value, math.nan, n
    low, high = result.ci
    if not math.isclose(low + high, 2 * value, abs_tol=1e-6 * max(1.0, abs(low), abs(high))):
        return value, math.nan, n
    return value, (high - low) / 2 / stats.t_quantile(n), n


_PARTS = ("model", "data", "config", "environment")
_LEFT_OUT = ("model.notes", "data.skipped")
_LONGEST = 120
NOTHING = "–"


@dataclass(frozen=True)
class Fact:
    """A recorded property that is not the same in all runs, as text for each run."""

    part: str
    name: str
    values: tuple[str, ...]


def differing_facts(runs: Sequence[Run]) -> tuple[Fact, ...]:
    """Return every property that is not the same in all runs: model, data, options, environment, seed."""
    facts = []
    for part in (*_PARTS, "run"):
        columns = [dict(_facts(run, part)) for run in runs]
        for name in dict.fromkeys(name for column in columns for name in column):
            values = tuple(_text(column[name]) if name in column else NOTHING for column in columns)
            if len(set(values)) > 1 and f"{part}.{name}" not in _LEFT_OUT:
                facts.append(Fact(part, name, tuple(map(_short, values))))
    return tuple(facts)


def _facts(run: Run, part: str) -> Iterator[tuple[str, Json]]:
    if part == "run":
        yield from ((key, run.document.get(key)) for key in ("seed", "status"))
        return
    yield from _leaves(run.part(part))


def _leaves(value: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, f"{prefix}{key}.")
        elif prefix or key != "seed":  # the run's own, a line below
            yield f"{prefix}{key}", item


def _text(value: Json) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
