"""Differences between runs: one for every common result, with the test that suits it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from probe.core import stats
from probe.core.document import Result
from probe.tools.compare.outcomes import PLACE, Outcomes, labels, outcomes
from probe.tools.compare.pairs import Pair, Unmatched, match
from probe.tools.compare.runs import Run

How = Literal["paired", "unpaired", "seeds", "none"]
Relation = Literal["same", "apart", "overlap"]

HOW: dict[How, str] = {
    "paired": "McNemar,\u00a0paired",
    "unpaired": "Fisher,\u00a0unpaired",
    "seeds": "Welch,\u00a0over\u00a0seeds",
    "none": "no\u00a0test",
}
LEVEL = 0.05
_OVER_SEEDS = "retrain_"
"""Results of the ablation study whose n is the number of trainings."""


@dataclass(frozen=True)
class Difference:
    """The difference between a result of ``run`` and the same result of the reference.

    ``value`` is run − reference, ``ci`` its 95% interval, ``p`` two-sided, ``corrected`` after Holm over all tests of
    the comparison, and ``joint`` the interval at Bonferroni's level for all of them, of ``interval``. ``lost`` and
    ``won`` count the images that are correct only in the reference, and only in the run. ``setting`` is where both were
    measured, such as an epsilon; ``why`` says why there is no test.
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
    setting: str = ""
    why: str = ""
    joint: tuple[float, float] | None = None
    interval: Callable[[float], tuple[float, float] | None] | None = field(default=None, repr=False)

    @property
    def tied(self) -> bool:
        """Whether every image has the same outcome in both runs."""
        return self.lost == 0 and self.won == 0

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
    """Compare every other run with the first one; p-values and joint intervals are corrected over all tests together."""
    reference = runs[0]
    compared = [_difference(pair, reference, run) for run in runs[1:] for pair in match(reference, run)[0]]
    tested = [place for place, difference in enumerate(compared) if difference.p is not None]
    corrected = stats.holm([compared[place].p or 0.0 for place in tested])
    level = joint_level(len(tested))
    for place, p in zip(tested, corrected, strict=True):
        one = compared[place]
        joint = one.interval(level) if one.interval is not None else None
        compared[place] = dataclasses.replace(one, corrected=p, joint=joint)
    return tuple(compared)


def unmatched(runs: Sequence[Run]) -> tuple[Unmatched, ...]:
    """Return the results that are not compared, because the other run has none that was measured in the same way."""
    return tuple(one for run in runs[1:] for one in match(runs[0], run)[1])


def joint_level(tests: int) -> float:
    """Return the level of each interval with which all of them together cover the true differences in 95% of cases."""
    return 1 - LEVEL / max(tests, 1)


def _difference(pair: Pair, reference: Run, run: Run) -> Difference:
    first, second = pair.first, pair.second
    value = float(second.value or 0) - float(first.value or 0)
    plain = Difference(pair.name, run, first, second, "none", value, setting=pair.setting)
    counts = [successes(result) for result in (first, second)]
    relation = relate(reference, run)
    if counts[0] is not None and counts[1] is not None:
        paired = _paired(plain, reference)
        if paired is not None:
            return paired
        if relation == "apart":
            return _unpaired(plain, counts[0], counts[1])
        return dataclasses.replace(plain, why=_why(relation, first, second))
    if pair.name.startswith(_OVER_SEEDS):
        if not _same_data(reference, run):
            return dataclasses.replace(plain, why="measured on different held-out images")
        return _over_seeds(plain)
    return dataclasses.replace(plain, why="neither a count of images nor a mean over seeds")


def _why(relation: Relation, first: Result, second: Result) -> str:
    if first.n != second.n and relation == "same":
        return "the same images, but each run counts only some of them"
    return {
        "same": "the same images, without the outcome for each: neither paired nor independent",
        "overlap": "some of the images may be the same: neither paired nor independent",
        "apart": "",
    }[relation]


def relate(first: Run, second: Run) -> Relation:
    """Return whether two runs used the same images, different ones, or possibly some of the same."""
    if _same_data(first, second):
        return "same"
    names = [str(run.part("data").get("name")) for run in (first, second)]
    named = names[0].startswith(names[1]) or names[1].startswith(names[0])
    images = [set(labels(run)) for run in (first, second)]
    if not named:
        # In other data, an index is not the same image.
        images = [{image for image in own if PLACE not in image} for own in images]
        return "overlap" if images[0] & images[1] else "apart"
    return "apart" if images[0] and images[1] and not images[0] & images[1] else "overlap"


def _same_data(first: Run, second: Run) -> bool:
    mine, theirs = labels(first), labels(second)
    if mine and theirs and mine != theirs:
        return False
    keys = ("name", "n", "total", "sha256")
    same = all(first.part("data").get(key) == second.part("data").get(key) for key in keys)
    data = first.part("data")
    whole = data.get("n") == data.get("total")
    drawn = first.document.get("seed") == second.document.get("seed")
    return same and (whole or drawn or bool(mine and theirs))


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

    def interval(level: float) -> tuple[float, float]:
        return stats.newcombe_paired(both, lost, won, len(before) - both - lost - won, level)

    return dataclasses.replace(
        plain,
        how="paired",
        ci=interval(0.95),
        interval=interval,
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
        plain,
        how="unpaired",
        ci=stats.newcombe(*counts),
        interval=lambda level: stats.newcombe(*counts, confidence=level),
        p=stats.fisher_exact(*counts),
    )


def _over_seeds(plain: Difference) -> Difference:
    """Compare two means over seeds, using their intervals (Welch 1947)."""
    moments = _moments(plain.first), _moments(plain.second)
    test = stats.welch(*moments)
    if test is None:
        return dataclasses.replace(plain, why="the spread over seeds is not known or 0")

    def interval(level: float) -> tuple[float, float] | None:
        again = stats.welch(*moments, confidence=level)
        return None if again is None else again[1]

    return dataclasses.replace(plain, how="seeds", ci=test[1], interval=interval, p=test[0])


def _moments(result: Result) -> tuple[float, float, int]:
    """Return mean, standard error and n of a result over seeds, from its interval; NaN as the error if it has none of ours.

    That is Student's where it is symmetric, else the one of a mean of proportions (``stats.mean_proportion``).
    """
    value, n = float(result.value or 0), result.n or 0
    if n < 2 or result.ci is None:
        return value, math.nan, n
    low, high = result.ci
    if math.isclose(low + high, 2 * value, abs_tol=1e-6 * max(1.0, abs(low), abs(high))):
        return value, (high - low) / 2 / stats.t_quantile(n), n
    return value, stats.error_of_proportion(value, (low, high), n), n
