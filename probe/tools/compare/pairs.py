"""Which results of two runs were measured in the same way: at one epsilon, by one attack, on the same kind of images."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from probe.core.document import Json, Result
from probe.tools.compare.outcomes import number
from probe.tools.compare.runs import Run

_CURVE = re.compile(r"^(robust_accuracy|robust_agreement|resistance)(@.+)?$")
UNATTACKED = re.compile(r"^(clean_|accuracy:|agreement:)")
_WITHOUT_EPSILON = re.compile(r"^(median|lower_quartile|upper_quartile)_smallest_epsilon$")
_P_VALUE = re.compile(r"(^|_)p(_holm)?(:|$)")
_BOUND = re.compile(r" > (.+)$")
_STRENGTH = ("attacks", "attack options", "restarts", "steps")
_LISTED = 6
_NO_MEANING = "a p-value: the difference of two p-values has no meaning"


@dataclass(frozen=True)
class Pair:
    """A result of the reference and the same of another run; ``setting`` is where both were measured, if anywhere."""

    name: str
    first: Result
    second: Result
    setting: str = ""


@dataclass(frozen=True)
class Unmatched:
    """A result of ``run`` or of the reference that is not compared, and why."""

    name: str
    run: Run
    why: str


def match(reference: Run, run: Run) -> tuple[list[Pair], list[Unmatched]]:
    """Return the pairs of numbers measured in the same way, and those that have no partner."""
    if reference.study == "adversarial":
        return _Attacks(reference, run).match()
    pairs: list[Pair] = []
    alone: list[Unmatched] = []
    for name, first, second in _common(reference, run):
        why = _NO_MEANING if is_p_value(name) else _setting_differs(reference, run, name)
        if why:
            alone.append(Unmatched(name, run, why))
        else:
            pairs.append(Pair(name, first, second))
    return pairs, alone


def _common(reference: Run, run: Run) -> Iterator[tuple[str, Result, Result]]:
    for name, first in reference.results.items():
        second = run.results.get(name)
        if second is not None and numeric(first.value) and numeric(second.value):
            yield name, first, second


def numeric(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_p_value(name: str) -> bool:
    """Return whether a result is a p-value, by its name."""
    return _P_VALUE.search(name) is not None


def _setting_differs(reference: Run, run: Run, name: str) -> str:
    """Return which option of the attack differs for a result that depends on an attack; empty if none does."""
    wanted: tuple[str, ...] = ()
    if reference.study == "ablation" and "robust_accuracy" in name:
        wanted = ("norm", "epsilon")
    elif reference.study == "dossier" and (
        (name.startswith("adversarial:") and ":clean_" not in name) or name.endswith(":attacked")
    ):
        wanted = ("norm", "epsilon", "quick", *(("epsilon of the lesions",) * name.endswith(":attacked")))
    return _differing(reference, run, wanted)


def _differing(reference: Run, run: Run, keys: tuple[str, ...]) -> str:
    for key in keys:
        a, b = (each.part("config").get(key) for each in (reference, run))
        if a != b:
            return f"{key} {_short(a)} in {reference.letter}, {_short(b)} in {run.letter}"
    return ""


def _short(value: Json) -> str:
    text = "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


@dataclass(frozen=True)
class _Attacks:
    """The pairs of two adversarial runs."""

    reference: Run
    run: Run

    def match(self) -> tuple[list[Pair], list[Unmatched]]:
        pairs: list[Pair] = []
        alone: list[Unmatched] = []
        curves: set[str] = set()
        later: list[Pair] = []
        for name, first in self.reference.results.items():
            if (found := _CURVE.match(name)) is not None:
                if found[1] not in curves:
                    curves.add(found[1])
                    own, listed = self._curve(found[1])
                    pairs += own[:1]
                    later += own[1:]
                    alone += listed
                continue
            second = self.run.results.get(name)
            if second is None or not (numeric(first.value) and numeric(second.value)):
                continue
            why, setting = self._condition(name, first, second)
            if why:
                alone.append(Unmatched(name, self.run, why))
            else:
                pairs.append(Pair(name, first, second, setting))
        return [*pairs, *later], alone

    def _condition(self, name: str, first: Result, second: Result) -> tuple[str, str]:
        """Return why two results of the same name are not alike, and at which epsilon both were measured."""
        if UNATTACKED.match(name):
            return "", ""
        why = self._labels() or self._threat() or self._strength(name)
        if why or _WITHOUT_EPSILON.match(name):
            return why, ""
        points = [_epsilon(run, result) for run, result in ((self.reference, first), (self.run, second))]
        if not _same(*points):
            at = ["an unknown epsilon" if point is None else f"epsilon {point:.4g}" for point in points]
            return f"measured at {at[0]} in {self.reference.letter}, at {at[1]} in {self.run.letter}", ""
        return "", self._at(points[0] or 0.0)

    def _curve(self, stem: str) -> tuple[list[Pair], list[Unmatched]]:
        """Pair the points of a curve by epsilon, first the one that the reference reports or the nearest to it."""
        ours, theirs = _points(self.reference, stem), _points(self.run, stem)
        if not theirs:
            return [], []
        why = self._threat() or self._strength(stem)
        if why:
            return [], [Unmatched(stem, self.run, why)]
        shared = [(a, b) for a in ours for b in theirs if _same(a, b) and a > 0]
        lone = [
            (self.reference, self.run, [a for a in ours if a > 0 and not any(_same(a, b) for b in theirs)]),
            (self.run, self.reference, [b for b in theirs if b > 0 and not any(_same(a, b) for a in ours)]),
        ]
        listed = [
            Unmatched(f"{stem} at {_list(points)}", of, f"measured in {of.letter}, not in {other.letter}")
            for of, other, points in lone
            if points
        ]
        pairs = [
            Pair(
                stem if ours[a].name == theirs[b].name == stem else f"{stem}@{a:.6g}",
                ours[a],
                theirs[b],
                self._at(a),
            )
            for a, b in shared
        ]
        main = _reported(self.reference, stem)
        if main is not None:
            order = sorted(range(len(pairs)), key=lambda i: abs(math.log(shared[i][0] / main)))
            pairs = [pairs[i] for i in order[:1]] + [
                pair for i, pair in enumerate(pairs) if i not in order[:1]
            ]
        return pairs, listed

    def _labels(self) -> str:
        """Return what correct means in each run, where it differs: the label, or the network's own answer."""
        labelled = [bool(run.part("data").get("labelled")) for run in (self.reference, self.run)]
        if labelled[0] == labelled[1]:
            return ""
        words = ["the labels" if known else "the network's own answers" for known in labelled]
        return (
            f"counted against {words[0]} in {self.reference.letter}, against {words[1]} in {self.run.letter}"
        )

    def _threat(self) -> str:
        return _differing(self.reference, self.run, ("norm", "target"))

    def _strength(self, name: str) -> str:
        """Return how the attacks differ: those of the worst case, or the one that the name ends with."""
        single = name.partition(":")[2]
        options = [
            made[single]
            for run in (self.reference, self.run)
            if isinstance(made := run.part("config").get("attack options"), dict) and single in made
        ]
        if single and len(options) == 2:
            return "" if options[0] == options[1] else f"the options of {single} differ"
        why = _differing(self.reference, self.run, _STRENGTH)
        return f"attacks of different strength: {why}" if why else ""

    def _at(self, epsilon: float) -> str:
        norm = self.reference.part("config").get("norm")
        return f"epsilon {epsilon:.4g}" + (f", {norm}" if norm else "")


def _points(run: Run, stem: str) -> dict[float, Result]:
    """Return the results of a curve by epsilon; the reported one takes the place of its point on the curve."""
    points: dict[float, Result] = {}
    for name, result in run.results.items():
        found = _CURVE.match(name)
        if found is None or found[1] != stem or not numeric(result.value):
            continue
        epsilon = _epsilon(run, result)
        if epsilon is not None and not any(_same(epsilon, known) for known in points):
            points[epsilon] = result
    return points


def _reported(run: Run, stem: str) -> float | None:
    epsilon = _epsilon(run, run.results[stem]) if stem in run.results else None
    return epsilon if epsilon else None


def _epsilon(run: Run, result: Result) -> float | None:
    """Return the epsilon of a result: of its samples, of its name, or that of the run's reported result."""
    if (bound := _BOUND.search(result.per_image)) is not None:
        return number(bound[1])
    if "@" in result.name:
        return number(result.name.rpartition("@")[2])
    main = next(
        (
            own
            for name, own in run.results.items()
            if _CURVE.match(name) and "@" not in name and own.per_image
        ),
        None,
    )
    if main is not None and main is not result:
        return _epsilon(run, main)
    listed = run.part("config").get("epsilons")
    return number(str(listed[0])) if isinstance(listed, list) and len(listed) == 1 else None


def _same(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-12)


def _list(points: list[float]) -> str:
    shown = ", ".join(f"{point:.4g}" for point in points[:_LISTED])
    return f"epsilon {shown}" + (f" and {len(points) - _LISTED} more" if len(points) > _LISTED else "")
