"""Judging one attribution method on the bench, and comparing it with the controls and with the best one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from probe.core import seeds, stats
from probe.core.errors import NotApplicableError
from probe.core.progress import Advance
from studies.filters.attribution.attribute import AttributionSubject, Method, in_batches
from studies.filters.attribution.bench import (
    DRAWS,
    ROAD_SHARES,
    SHARES,
    Array,
    Bench,
    Mosaics,
    area,
    gini,
)
from studies.filters.attribution.cells import evidence
from studies.filters.attribution.controls import Centre, Edges, RandomMap

CONTROLS = (RandomMap.key, Edges.key, Centre.key)

LEAST = 5
"""The interval of fewer images, all on one side, would say more than they can."""

CHEAP = 2.5
"""Max-sensitivity is measured for maps that cost at most so many forward passes."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class MapTest:
    """One test of maps: its key, its title, and whether larger values are better (None: neither is)."""

    key: str
    title: str
    higher: bool | None


TESTS = (
    MapTest("road", "ROAD", True),
    MapTest("pointing", "Pointing game", True),
    MapTest("deletion", "Deletion", False),
    MapTest("insertion", "Insertion", True),
    MapTest("infidelity", "Infidelity", False),
)
"""The tests in which a method can be better than a control; the first is the one that the table is sorted by."""

DESCRIPTIONS = (MapTest("sensitivity", "Max-sensitivity", False), MapTest("gini", "Gini index", None))
"""What is told of the maps without a verdict: a constant map is stable, and a wrong one can be sparse."""


@dataclass(frozen=True)
class JudgedMaps:
    """What one method reached: ``values[test]`` (n,), one number an image, NaN where it is not defined.

    ``curves`` has the mean deletion and insertion curves over ``SHARES``. ``reason`` is why there is nothing.
    """

    method: Method
    values: Mapping[str, Array] = field(default_factory=dict)
    curves: Mapping[str, Array] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""

    @property
    def control(self) -> bool:
        """Whether this is a map that knows nothing of the network."""
        return self.method.key in CONTROLS


def work(method: Method, images: int, mosaics: int, size: tuple[int, int]) -> float:
    """Return what judging a method costs, in forward passes."""
    curves = 2 * (len(SHARES) - 2) + 2 * len(ROAD_SHARES)
    sensitive = DRAWS * method.passes(size) if method.passes(size) <= CHEAP else 0.0
    return images * (method.passes(size) + curves + sensitive) + 4 * mosaics * method.passes(size)


def judge(
    method: Method, subject: AttributionSubject, bench: Bench, mosaics: Mosaics | None, advance: Advance
) -> JudgedMaps:
    """Make a method's maps and put them through every test; a method that does not apply gets the reason."""
    height, width = bench.images.shape[-2:]
    count, groups = len(bench.images), 0 if mosaics is None else len(mosaics.images)
    total, done = work(method, count, groups, (height, width)), 0.0

    def step(units: float) -> None:
        nonlocal done
        advance(units)
        done += units

    started = time.perf_counter()
    try:
        maps = in_batches(method, subject, bench.images, bench.targets)
        seconds = time.perf_counter() - started
        step(method.passes((height, width)) * count)
        ranks = bench.ranks(method, maps)
        deletion, insertion = bench.deletion(ranks), bench.insertion(ranks)
        step(2 * (len(SHARES) - 2) * count)
        values = {
            "road": bench.road(ranks),
            "deletion": area(deletion),
            "insertion": area(insertion),
            "infidelity": bench.infidelity(method, maps),
            "gini": gini(maps),
        }
        step(2 * len(ROAD_SHARES) * count)
        # The controls do not see the network: that they are stable says nothing.
        if method.passes((height, width)) <= CHEAP and method.key not in CONTROLS:
            values["sensitivity"] = bench.sensitivity(
                lambda images: in_batches(method, subject, images, bench.targets), maps
            )
        if mosaics is not None:
            found = in_batches(method, subject, *mosaics.cases)
            values["pointing"] = mosaics.shares(evidence(method, found))
    except NotApplicableError as error:
        advance(total - done)
        return JudgedMaps(method, reason=str(error))
    advance(total - done)
    curves = {"deletion": deletion.mean(0), "insertion": insertion.mean(0)}
    return JudgedMaps(method, values, curves, seconds)


@dataclass(frozen=True)
class MapScore:
    """The mean of ``n`` images with its 95% bootstrap interval (None below five images)."""

    value: float | None
    n: int
    ci: tuple[float, float] | None

    @classmethod
    def of(cls, values: Array, seed: int) -> MapScore:
        """Average what is defined."""
        defined = values[np.isfinite(values)]
        if not len(defined):
            return cls(None, 0, None)
        ci = stats.bootstrap_mean(defined.tolist(), seed) if len(defined) >= LEAST else None
        return cls(float(defined.mean()), len(defined), ci)


@dataclass(frozen=True)
class Verdicts:
    """What all methods reached, with the comparisons between them; random numbers derive from ``seed``."""

    judged: tuple[JudgedMaps, ...]
    seed: int

    def of(self, key: str) -> JudgedMaps | None:
        """Return what the method with this key reached, None where it was not judged."""
        return next((one for one in self.judged if one.method.key == key and not one.reason), None)

    def score(self, one: JudgedMaps, test: MapTest) -> MapScore | None:
        """Return the mean of a method in a test, None where it was not measured."""
        if test.key not in one.values:
            return None
        return MapScore.of(one.values[test.key], seeds.derive(self.seed, "mean", test.key))

    def advantage(self, one: JudgedMaps, other: JudgedMaps, test: MapTest) -> tuple[float, float] | None:
        """Return the 95% interval of how much better one method is than another, image by image.

        None where fewer than five images have both.
        """
        if test.key not in one.values or test.key not in other.values:
            return None
        sign = 1 if test.higher else -1
        differences = sign * (one.values[test.key] - other.values[test.key])
        defined = differences[np.isfinite(differences)]
        if len(defined) < LEAST:
            return None
        return stats.bootstrap_mean(defined.tolist(), seeds.derive(self.seed, "difference", test.key))

    def better(self, one: JudgedMaps, other: JudgedMaps, test: MapTest) -> bool:
        """Return whether the whole interval says that one method is better, by more than rounding."""
        interval = self.advantage(one, other, test)
        return interval is not None and interval[0] > _ROUNDING

    def equals(self, one: JudgedMaps, test: MapTest) -> tuple[JudgedMaps, ...]:
        """Return the controls than which a method is not shown to be better in a test."""
        controls = [control for key in CONTROLS if (control := self.of(key)) is not None]
        return tuple(control for control in controls if not self.better(one, control, test))

    def passed(self, one: JudgedMaps) -> tuple[MapTest, ...]:
        """Return the tests in which a method is better than every control."""
        if one.control or one.reason:
            return ()
        return tuple(test for test in TESTS if test.key in one.values and not self.equals(one, test))

    def best(self, test: MapTest) -> tuple[JudgedMaps, ...]:
        """Return the best of the methods that passed a test, then those that the best is not shown to be better than."""
        able = [one for one in self.judged if test in self.passed(one)]
        able.sort(key=lambda one: self._order(one, test))
        return tuple(one for one in able if one is able[0] or not self.better(able[0], one, test))

    def sorted(self) -> tuple[JudgedMaps, ...]:
        """Return all methods by the first test, the best first; those without it come last."""
        return tuple(sorted(self.judged, key=lambda one: self._order(one, TESTS[0])))

    def _order(self, one: JudgedMaps, test: MapTest) -> float:
        score = self.score(one, test)
        if score is None or score.value is None:
            return math.inf
        return -score.value if test.higher else score.value


def titles(judged: Sequence[JudgedMaps]) -> str:
    """Write the names of methods in a row."""
    names = [one.method.title for one in judged]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
