"""What a network answers, and how two of them compare on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from probe.core import stats


@dataclass(frozen=True)
class Answers:
    """The answers to n images: ``predictions`` (n,), -1 where the logits were not finite, and ``losses`` (n,)."""

    predictions: NDArray[np.int64]
    losses: NDArray[np.float64]

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Answers:
        """Return the answers of (n, classes) logits; losses are cross-entropies in nats, computed in float64."""
        finite = logits.isfinite().all(1)
        predictions = logits.argmax(1).masked_fill(~finite, -1)
        losses = F.cross_entropy(logits.double(), labels, reduction="none")
        return cls(predictions.cpu().numpy(), losses.cpu().numpy())

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Return the answers to all images of several batches."""
        return cls(
            np.concatenate([part.predictions for part in parts]),
            np.concatenate([part.losses for part in parts]),
        )

    @property
    def broken(self) -> int:
        """The number of images whose logits were not finite."""
        return int((self.predictions < 0).sum())


@dataclass(frozen=True)
class Comparison:
    """A network without something against the intact one, on the same n images.

    ``right`` of n with its Wilson interval; ``lost`` and ``won``: images right only with, and only without;
    ``changed``: other answers, whether right or not; ``p``: exact McNemar test of lost against won; ``loss`` and
    ``loss_change`` (mean over images whose loss is finite in both, with its 95% t-interval).
    """

    n: int
    right: int
    ci: tuple[float, float]
    lost: int
    won: int
    changed: int
    p: float
    loss: float
    loss_change: float
    loss_ci: tuple[float, float] | None

    @property
    def accuracy(self) -> float:
        """The part of the images that are right."""
        return self.right / self.n

    @property
    def difference(self) -> float:
        """The change of accuracy against the intact network."""
        return (self.won - self.lost) / self.n


def compare(intact: Answers, cut: Answers, labels: NDArray[np.int64]) -> Comparison:
    """Compare two networks' answers; ``labels`` (n,) are the classes that count as right."""
    before, after = intact.predictions == labels, cut.predictions == labels
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    changes = cut.losses - intact.losses
    changes = changes[np.isfinite(changes)]
    finite = cut.losses[np.isfinite(cut.losses)]
    return Comparison(
        n=len(labels),
        right=int(after.sum()),
        ci=stats.wilson(int(after.sum()), len(labels)),
        lost=lost,
        won=won,
        changed=int((intact.predictions != cut.predictions).sum()),
        p=stats.mcnemar_exact(lost, won),
        loss=float(finite.mean()) if len(finite) else float("nan"),
        loss_change=float(changes.mean()) if len(changes) else float("nan"),
        loss_ci=stats.t_interval(changes.tolist()) if len(changes) > 1 else None,
    )
