"""A learning-rate sweep: a few steps from the same start at each rate of a log grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probe.core.progress import Advance
from probe.tools.doctor.plan import TrainingPlan
from probe.tools.doctor.training_run import Outcome, TrainingRun, run_training

PER_DECADE = 2
DECADES_BELOW, DECADES_ABOVE = 3, 2
"""The range of the grid below and above the given rate, which is part of the grid."""

STEPS = 12
"""Maximum number of steps at each rate: enough to detect a rate that is too large, which takes a few updates."""

_LARGEST = 100.0

_COMMON = tuple(10 ** (power / PER_DECADE) for power in range(-5 * PER_DECADE, PER_DECADE + 1))
"""Rates from 1e-5 to 10, the range of the rates in common use."""


@dataclass(frozen=True)
class Point:
    """The outcome of one rate: ``after`` is the loss at the end on fixed images, NaN if it was not finite."""

    lr: float
    after: float
    outcome: Outcome
    steps: int


@dataclass(frozen=True)
class Sweep:
    """The points in order of increasing rate, and their common loss at the start."""

    points: tuple[Point, ...]
    before: float
    steps: int

    @property
    def best(self) -> Point | None:
        """The point with the lowest loss among those that learned; None if none did."""
        return self.learned()

    @property
    def stable(self) -> float | None:
        """The largest rate up to which every rate of the grid from the best one on learned; None if none did."""
        if self.best is None:
            return None
        stable = self.best.lr
        for point in self.points:
            if point.lr > stable:
                if point.outcome != "learned":
                    break
                stable = point.lr
        return stable

    @property
    def bounded(self) -> bool:
        """Whether a rate above the largest stable one was tried."""
        return self.stable is not None and self.stable < self.points[-1].lr

    @property
    def suggestion(self) -> float | None:
        """The best rate, but at most half of the largest stable rate if a larger one failed; None without a best rate.

        At the limit of stability, the first few steps may succeed and the next few fail.
        """
        if self.best is None or self.stable is None:
            return None
        return min(self.best.lr, self.stable / 2) if self.bounded else self.best.lr

    def learned(self, below: float = math.inf, above: float = 0.0) -> Point | None:
        """Return the point with the lowest loss among those that learned at rates between the bounds."""
        able = [point for point in self.points if point.outcome == "learned" and above < point.lr < below]
        return min(able, key=lambda point: point.after, default=None)

    def at(self, lr: float) -> Point | None:
        """Return the point at a rate, None if that rate was not tried."""
        return next((point for point in self.points if math.isclose(point.lr, lr, rel_tol=1e-6)), None)


def grid(lr: float) -> tuple[float, ...]:
    """Return increasing rates around ``lr``, two per decade, including ``lr`` itself; none is above 100 or ``lr``."""
    powers = np.arange(-DECADES_BELOW * PER_DECADE, DECADES_ABOVE * PER_DECADE + 1) / PER_DECADE
    return tuple(rate for rate in (float(lr * 10**power) for power in powers) if rate <= max(_LARGEST, lr))


def wide_grid(lr: float) -> tuple[float, ...]:
    """Return the common rates, and every other rate of the grid around ``lr``, without near duplicates."""
    around = grid(lr)[::PER_DECADE]
    far = [rate for rate in _COMMON if all(abs(math.log(rate / other)) > 0.2 for other in around)]
    return tuple(sorted((*around, *far)))


def sweep(
    plan: TrainingPlan,
    rates: Sequence[float] | None = None,
    advance: Advance | None = None,
    steps: int = STEPS,
) -> Sweep:
    """Train for a few steps at each rate, each time from the same start, with the same batches and dropout.

    The module is restored afterwards. After two neighbouring rates that diverge, larger rates are assumed to
    diverge as well and skipped. Raises ValueError without a rate.
    """
    chosen = sorted(grid(plan.lr) if rates is None else rates)
    if not chosen:
        raise ValueError("no learning rate to try")
    steps = min(steps, plan.steps)
    courses: list[TrainingRun] = []
    for done, rate in enumerate(chosen, 1):
        courses.append(run_training(plan, lr=rate, steps=steps))
        last = [course.outcome for course in courses[-2:]]
        stop = rate >= plan.lr and last == ["diverged", "diverged"]
        if advance is not None:
            advance(len(chosen) - done + 1 if stop else 1)
        if stop:
            break
    points = tuple(Point(course.lr, course.after, course.outcome, len(course.losses)) for course in courses)
    return Sweep(points, courses[0].before, steps)
