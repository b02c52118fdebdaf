"""What pulls at pictures besides their objective: away from their variants, and back to the image that they started from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from probe.core.errors import UsageError

NEAR_RATE = 0.05
"""Learning rate of pictures that start from an image: half of that from noise, for they have less far to go."""


class Term(Protocol):
    """A loss of each picture, with the strength of its pull relative to that of the objective."""

    def __call__(self, pictures: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses (N,) and pulls (N,) of pictures (N, C, H, W) before movements and the output (N, …) after them."""
        ...


@dataclass(frozen=True)
class Diversity:
    """Variants of a picture must differ in style: the mean cosine of their Gram matrices (Olah et al. 2017) is lowered.

    ``variants`` pictures in a row belong together. Each is pulled ``weight`` × its mean cosine with the others.
    """

    variants: int
    weight: float

    def __call__(self, pictures: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return each picture's mean cosine with its variants, and its pull."""
        similar = gram_similarity(output, self.variants)
        return similar, self.weight * similar.detach()


@dataclass(frozen=True)
class Nearness:
    """Pictures start from images and stay near them in an earlier layer (feature accentuation, Hamblin et al. 2024).

    ``images`` (N, C, H, W) in [0, 1], one for each objective. ``features`` is the network up to the earlier layer; None
    compares the pixels. The further a picture is, by distance over the length of the image's activations, the
    stronger it is pulled back, until at a relative distance of ``strength`` this is as strong as the objective's pull. 0 leaves
    the image as it is. Raises UsageError below 0.
    """

    images: Tensor = field(compare=False)
    strength: float = 0.3
    features: nn.Module | None = None

    def __post_init__(self) -> None:
        """Refuse a strength below zero."""
        if self.strength < 0:
            raise UsageError(f"The strength of an accentuation is at least 0, not {self.strength:g}.")


@dataclass(frozen=True)
class PullBack:
    """The relative squared distance from ``target`` (N, …), where ``see`` maps pictures to what is compared."""

    see: Callable[[Tensor], Tensor]
    target: Tensor

    def __call__(self, pictures: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return each picture's squared relative distance, and its pull, the relative distance."""
        squared = squared_distance(self.see(pictures), self.target)
        return squared, squared.detach().sqrt()


def gram_similarity(maps: Tensor, variants: int) -> Tensor:
    """Return the mean cosine of each picture's Gram matrix with those of the other ``variants`` in its row, (N,).

    ``maps`` (N, K, h, w); the Gram matrix of its channels is (K, K). Raises UsageError for outputs without a map.
    """
    if maps.dim() != 4:
        raise UsageError(f"Gram matrices need maps (N, K, h, w), not an output of shape {tuple(maps.shape)}.")
    rows = maps.flatten(2).view(-1, variants, maps.shape[1], maps.shape[2] * maps.shape[3])
    rows = rows if rows.dtype == torch.float64 else rows.float()
    products = _gram_products(rows)
    lengths = products.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(products.dtype).tiny).sqrt()
    cosines = products / (lengths[:, :, None] * lengths[:, None, :])
    others = cosines.sum(2) - cosines.diagonal(dim1=1, dim2=2)
    return (others / max(variants - 1, 1)).flatten()


def _gram_products(rows: Tensor) -> Tensor:
    """Return the inner products of the Gram matrices of rows (G, V, K, P), (G, V, V)."""
    groups, variants, channels, places = rows.shape
    if channels <= variants * places:
        grams = (rows @ rows.transpose(2, 3)).flatten(2)
        return grams @ grams.transpose(1, 2)
    # ⟨A Aᵀ, B Bᵀ⟩ = ‖Aᵀ B‖²: with many channels and few places this is much less work.
    columns = rows.transpose(2, 3).flatten(1, 2)
    crossed = (columns @ columns.transpose(1, 2)).square()
    products: Tensor = crossed.view(groups, variants, places, variants, places).sum((2, 4))
    return products


def squared_distance(values: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance of values (N, …) from ``target`` over the squared length of ``target``, (N,), float32."""
    target = target.float()
    length = target.flatten(1).square().sum(1).clamp_min(torch.finfo(torch.float32).tiny)
    return (values.float() - target).flatten(1).square().sum(1) / length
