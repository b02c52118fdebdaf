"""Outcome of an attack: arrays with one entry for each image, that can be saved, joined and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-6

THEN = "then "
"""Begins the name of an attack that goes on with what the attacks before it left, and counts what they broke."""

MEASURES = ("confidence", "linf", "l2", "l1", "l0", "ssim")


@dataclass
class Outcome:
    """Outcome of one attack on N images: float32 and bool arrays (N,), and totals.

    ``smallest`` is the size of the smallest adversarial perturbation found, an upper bound (0: misclassified without any,
    inf: none found). The rest describes the adversarial image at the reported epsilon, where there is one: the network's
    prediction and its confidence, the perturbation's size in every norm, SSIM. ``outside`` marks images for which
    some proposal was outside the ball, ``invalid`` those with values that were not finite.
    """

    smallest: NDArray[Any]
    prediction: NDArray[Any]
    confidence: NDArray[Any]
    linf: NDArray[Any]
    l2: NDArray[Any]
    l1: NDArray[Any]
    l0: NDArray[Any]
    ssim: NDArray[Any]
    outside: NDArray[Any]
    invalid: NDArray[Any]
    totals: NDArray[Any]

    @classmethod
    def blank(cls, n: int) -> Outcome:
        """Return an outcome in which nothing has been found."""
        missing = {name: np.full(n, np.nan, dtype=np.float32) for name in MEASURES}
        return cls(
            smallest=np.full(n, np.inf, dtype=np.float32),
            prediction=np.full(n, -1, dtype=np.int64),
            outside=np.zeros(n, dtype=bool),
            invalid=np.zeros(n, dtype=bool),
            totals=np.zeros(4, dtype=np.float64),
            **missing,
        )

    def success(self, epsilon: float) -> NDArray[np.bool_]:
        """Return which images are broken within ``epsilon``, those misclassified from the start included, (N,)."""
        return np.asarray(self.smallest <= np.float32(epsilon * (1 + _ROUNDING) + 1e-9))

    @property
    def queries(self) -> float:
        """Images forwarded."""
        return float(self.totals[0])

    @property
    def gradients(self) -> float:
        """Images for which a gradient was computed."""
        return float(self.totals[1])

    @property
    def seconds(self) -> float:
        """Time spent."""
        return float(self.totals[2])

    @property
    def rescued(self) -> int:
        """Images whose adversarial example the attack passed but did not return."""
        return int(self.totals[3])


def just_beyond(epsilon: float) -> float:
    """Return the smallest size that does not count as within ``epsilon``, up to rounding."""
    return epsilon * (1 + 2 * _ROUNDING) + 2e-9


def join(outcomes: Sequence[Outcome]) -> Outcome:
    """Put the outcomes of successive batches together."""
    columns = {
        field.name: np.concatenate([getattr(outcome, field.name) for outcome in outcomes])
        for field in fields(Outcome)
        if field.name != "totals"
    }
    return Outcome(totals=np.sum([outcome.totals for outcome in outcomes], axis=0), **columns)


def to_arrays(name: str, outcome: Outcome) -> dict[str, NDArray[Any]]:
    """Return an outcome as named arrays for a journal."""
    return {f"{name}/{field.name}": getattr(outcome, field.name) for field in fields(Outcome)}


def from_arrays(name: str, arrays: Mapping[str, NDArray[Any]]) -> Outcome:
    """Return the outcome kept under ``name``; raises KeyError when it is not there."""
    return Outcome(**{field.name: arrays[f"{name}/{field.name}"] for field in fields(Outcome)})


def best_attack(outcomes: Sequence[Outcome]) -> NDArray[np.int64]:
    """Return for each image the number of the attack with the smallest perturbation, (N,); the first of several."""
    best: NDArray[np.int64] = np.stack([outcome.smallest for outcome in outcomes]).argmin(0)
    return best


def worst_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return, image by image, the outcome of the attack with the smallest perturbation; totals are 0."""
    best = best_attack(outcomes)
    columns = {
        field.name: np.stack([getattr(outcome, field.name) for outcome in outcomes])[
            best, np.arange(len(best))
        ]
        for field in fields(Outcome)
        if field.name not in ("totals", "outside", "invalid")
    }
    flags = {
        name: np.any([getattr(outcome, name) for outcome in outcomes], axis=0)
        for name in ("outside", "invalid")
    }
    return Outcome(totals=np.zeros(4), **columns, **flags)


def broken_by(outcomes: Sequence[Outcome], epsilon: float) -> Outcome:
    """Return what some attacks found where they broke an image within ``epsilon``, and nothing elsewhere; totals are 0."""
    found = worst_of(outcomes)
    outcome, broken = Outcome.blank(len(found.smallest)), found.success(epsilon)
    for name in ("smallest", "prediction", *MEASURES):
        getattr(outcome, name)[broken] = getattr(found, name)[broken]
    return outcome
