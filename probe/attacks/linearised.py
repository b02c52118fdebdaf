"""The nearest boundary of an image where the network is replaced by its linearisation."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.attacks.losses import at_once
from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm

_GROWTH = 2.0
"""How many times as large as at the last look the gradient of a class may be, for the class to be looked at again."""


class NearestBoundary:
    """Finds the nearest linearised boundary of N images, step after step.

    ``candidates`` limits the search to this number of most likely other classes, None: all. At an image's first step the
    gradients of all of them are computed. Later steps begin with the class that would be nearest if gradients had the sizes
    that they had when they were last computed, and end when no other could be nearer with a gradient twice as large.
    """

    def __init__(self, model: AttackedModel, n: int, norm: Norm, candidates: int | None) -> None:
        self.model, self.norm, self.candidates, self._n = model, norm, candidates, n
        self._sizes: Tensor | None = None

    def __call__(self, x: Tensor, labels: Tensor, logits: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """Return the boundary's deficit (M,) and normal (M, D) at ``x`` (M, C, H, W), the images ``where`` (M,) of the N.

        ``logits`` (M, K) are the plain network's at ``x``: gradients may have reduced precision, distances do not. The
        deficit is the label's logit minus the other class's. Boundaries whose normal is 0 or not finite are never the
        nearest.
        """
        if self._sizes is None:
            self._sizes = logits.new_zeros(self._n, logits.shape[1])
        rows = torch.arange(len(x), device=x.device)
        parts = [
            self._nearest(x[part], labels[part], logits[part], self._sizes, where[part])
            for part in torch.split(rows, at_once(x))
        ]
        deficit, normal = (torch.cat(column) for column in zip(*parts, strict=True))
        return deficit, normal

    def _nearest(
        self, x: Tensor, labels: Tensor, logits: Tensor, known: Tensor, where: Tensor
    ) -> tuple[Tensor, Tensor]:
        others = logits.scatter(1, labels[:, None], -torch.inf)
        count = min(self.candidates or others.shape[1], others.shape[1] - 1)
        classes = others.topk(count, dim=1).indices
        gaps = logits.gather(1, labels[:, None]) - logits.gather(1, classes)
        search = _Candidates(gaps, known[where[:, None], classes], x[0].numel(), self.norm)
        if bool(search.sizes.any()):
            for rows, columns in iter(search.promising, None):
                gains = self._gains(leaf := x[rows].detach().requires_grad_(), labels[rows], classes[rows])
                gains = gains.gather(1, columns[:, None])
                search.offer(rows, columns, _gradient(gains[:, 0], leaf))
        else:
            leaf, rows = x.detach().requires_grad_(), torch.arange(len(x), device=x.device)
            gains = self._gains(leaf, labels, classes)
            for column in range(count):
                gradient = _gradient(gains[:, column], leaf, keep=column + 1 < count)
                search.offer(rows, torch.full_like(rows, column), gradient)
        known[where[:, None], classes] = search.sizes
        return search.deficit, search.normal

    def _gains(self, leaf: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        answers: Tensor = self.model(leaf)
        return answers.gather(1, classes) - answers.gather(1, labels[:, None])


class _Candidates:
    """The nearest boundary so far of each of M images, and which candidates have been looked at.

    ``gaps`` and ``sizes`` (M, candidates): the label's logit minus the candidate's, and the size of the gradient of that
    difference in the dual norm when it was last computed (0: never).
    """

    def __init__(self, gaps: Tensor, sizes: Tensor, dimensions: int, norm: Norm) -> None:
        self.gaps, self.sizes, self.norm = gaps, sizes, norm
        self.nearest = gaps.new_full((len(gaps),), torch.inf)
        self.deficit, self.normal = gaps.new_zeros(len(gaps)), gaps.new_zeros(len(gaps), dimensions)
        self._promised = torch.where(sizes > 0, gaps.abs() / (_GROWTH * sizes.clamp_min(1e-30)), 0.0)

    def promising(self) -> tuple[Tensor, Tensor] | None:
        """Return the images of which a candidate may be nearer than the nearest so far, and the candidates; None: no more."""
        promise, column = self._promised.min(1)
        rows = (promise < self.nearest).nonzero()[:, 0]
        return (rows, column[rows]) if len(rows) else None

    def offer(self, rows: Tensor, columns: Tensor, gradient: Tensor) -> None:
        """Look at one candidate of each of the images ``rows``; ``gradient`` (M, D) is that of its gain on the label."""
        size, gap = _dual(gradient, self.norm), self.gaps[rows, columns]
        usable = gradient.isfinite().all(1) & gradient.any(1)
        distance = torch.where(usable, gap.abs() / size.clamp_min(1e-30), torch.inf)
        self._promised[rows, columns] = torch.inf
        self.sizes[rows, columns] = torch.where(usable, size, 0.0)
        better = distance < self.nearest[rows]
        self.nearest[rows[better]], self.deficit[rows[better]] = distance[better], gap[better]
        self.normal[rows[better]] = gradient[better]


def _gradient(gains: Tensor, leaf: Tensor, keep: bool = False) -> Tensor:
    """Return the gradient of each gain with respect to its image, (N, D); 0 where the network passes none on."""
    if not gains.requires_grad:
        return torch.zeros_like(leaf).flatten(1)
    (gradient,) = torch.autograd.grad(gains.sum(), leaf, retain_graph=keep, materialize_grads=True)
    return gradient.flatten(1)


def _dual(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the size of a gradient (N, D) in the dual norm, (N,)."""
    order = {"Linf": 1.0, "L2": 2.0, "L1": float("inf")}[norm.name]
    size: Tensor = torch.linalg.vector_norm(gradient, order, dim=1)
    return size
