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
"""The grid reaches so far below and above the rate in question, and contains it."""

STEPS = 12
"""Steps at each rate, at most: enough for a rate that is too large to show, which takes a few updates."""

_LARGEST = 100.0


@dataclass(frozen=True)
class Point:
    """What came of one rate: ``after`` is the loss at the end on fixed images, NaN where it was not finite."""

    lr: float
    after: float
    outcome: Outcome
    steps: int


@dataclass(frozen=True)
class Sweep:
    """The points, by rising rate, and the loss at the start that all have in common."""

    points: tuple[Point, ...]
    before: float
    steps: int

    @property
    def best(self) -> Point | None:
        """The point with the lowest loss among those that learned; None when none did."""
        return self.learned()

    @property
    def stable(self) -> float | None:
        """The largest rate up to which, from the best one on, every rate of the grid learned; None when none did."""
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
        """The best rate, but at most half of the largest stable one where that limit was met; None without.

        At the edge of what is stable a few steps may go well and the next few not.
        """
        if self.best is None or self.stable is None:
            return None
        return min(self.best.lr, self.stable / 2) if self.bounded else self.best.lr

    def learned(self, below: float = math.inf, above: float = 0.0) -> Point | None:
        """Return the point with the lowest loss among those that learned at rates between the bounds."""
        able = [one for one in self.points if one.outcome == "learned" and above < one.lr < below]
        return min(able, key=lambda one: one.after, default=None)

    def at(self, lr: float) -> Point | None:
        """Return the point at a rate."""
        return next((one for one in self.points if math.isclose(one.lr, lr, rel_tol=1e-6)), None)


def grid(lr: float) -> tuple[float, ...]:
    """Return rates around ``lr``, rising, two a decade; ``lr`` is among them and none is above 100."""
    powers = np.arange(-DECADES_BELOW * PER_DECADE, DECADES_ABOVE * PER_DECADE + 1) / PER_DECADE
    return tuple(rate for rate in (float(lr * 10**power) for power in powers) if rate <= max(_LARGEST, lr))


def sweep(
    plan: TrainingPlan,
    rates: Sequence[float] | None = None,
    advance: Advance | None = None,
    steps: int = STEPS,
) -> Sweep:
    """Train for a few steps at each rate, each time from the same start, with the same batches and dropout.

    The module is as before afterwards. After two neighbouring rates that diverge, the larger ones are taken to
    diverge as well and left out. Raises ValueError without a rate.
    """
    chosen = sorted(grid(plan.lr) if rates is None else rates)
    if not chosen:
        raise ValueError("no learning rate to try")
    steps = min(steps, plan.steps)
    courses: list[TrainingRun] = []
    for done, rate in enumerate(chosen, 1):
        courses.append(run_training(plan, lr=rate, steps=steps))
        last = [one.outcome for one in courses[-2:]]
        stop = rate >= plan.lr and last == ["diverged", "diverged"]
        if advance is not None:
            advance(len(chosen) - done + 1 if stop else 1)
        if stop:
            break
    points = tuple(Point(one.lr, one.after, one.outcome, len(one.losses)) for one in courses)
    return Sweep(points, courses[0].before, steps)
