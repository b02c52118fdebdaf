"""The smallest adversarial image of each image that a search has seen, and how to make it smaller without gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.attacks.base import AttackInputs
from probe.attacks.losses import adversarial
from probe.attacks.norms import per_image


class Smallest:
    """The smallest adversarial image found for each of N images, and its size (inf: none, and the image is clean)."""

    def __init__(self, inputs: AttackInputs) -> None:
        self.inputs = inputs
        self.images = inputs.images.clone()
        self.sizes = inputs.images.new_full((len(inputs.images),), torch.inf)

    @property
    def found(self) -> Tensor:
        """Which images have an adversarial image, (N,)."""
        return self.sizes.isfinite()

    def offer(self, hit: Tensor, images: Tensor, where: Tensor | None = None) -> None:
        """Keep those of ``images`` (M, C, H, W) that are adversarial, ``hit`` (M,), and smaller than the one so far.

        ``where`` (M,) are their places among the N, None: all of them in order.
        """
        rows = torch.arange(len(images), device=images.device) if where is None else where
        sizes = self.inputs.norm.size(images - self.inputs.images[rows])
        better = hit & (sizes < self.sizes[rows])
        self.images[rows[better]], self.sizes[rows[better]] = images[better], sizes[better]

    def try_out(self, images: Tensor) -> Tensor:
        """Ask the plain network about ``images`` (N, C, H, W), keep the better ones; returns which are adversarial."""
        inputs = self.inputs
        hit = adversarial(inputs.model.verdict(images), inputs.labels, inputs.targets)
        self.offer(hit, images)
        return hit

    def shorten(self, queries: int) -> None:
        """Bisect the segment between each image and its smallest adversarial image."""
        clean, far = self.inputs.images, self.images.clone()
        low, high = torch.zeros_like(self.sizes), torch.ones_like(self.sizes)
        for _ in range(queries):
            middle = (low + high) / 2
            hit = self.try_out(clean + per_image(middle, clean) * (far - clean))
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)

    def blend(self, queries: int) -> None:
        """Look for images without any on the way to the negative, black, white and grey, and bisect there."""
        clean = self.inputs.images
        missing = ~self.found
        for end in (1 - clean, torch.zeros_like(clean), torch.ones_like(clean), torch.full_like(clean, 0.5)):
            if bool(self.found.all()):
                break
            self.try_out(torch.where(per_image(self.found, clean).bool(), self.images, end))
        if bool((missing & self.found).any()):
            self.shorten(queries)

    def drop_pixels(self, gradient: Tensor, queries: int) -> None:
        """Revert changed pixels as long as the images remain adversarial, those that promise the least first.

        ``gradient`` (N, C, H, W) of the gain at the smallest images: a pixel's promise is its change times the gradient.
        Groups are tried whole, a quarter of the pixels at first, and halved where that fails; single pixels that fail
        are kept for good.
        """
        clean, x = self.inputs.images, self.images.clone()
        promise = (gradient * (x - clean)).sum(1).flatten(1)
        needed = torch.zeros_like(promise, dtype=torch.bool)
        group = self._changed(x).sum(1).div(4).floor().clamp_min(1)
        for _ in range(queries):
            loose = self._changed(x) & ~needed
            group = torch.minimum(group, loose.sum(1).div(2).ceil().clamp_min(1))
            rank = torch.where(loose, promise, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
            dropped = loose & (rank < group[:, None])
            if not bool(dropped.any()):
                return
            mask = dropped.reshape(len(x), 1, *x.shape[2:])
            candidate = torch.where(mask, clean, x)
            hit = self.try_out(candidate)
            x = torch.where(per_image(hit, x).bool(), candidate, x)
            needed |= dropped & (~hit & (group <= 1))[:, None]
            group = torch.where(hit, group, group.div(2).floor().clamp_min(1))

    def _changed(self, x: Tensor) -> Tensor:
        return (x != self.inputs.images).any(1).flatten(1)


__all__ = ["Smallest"]
