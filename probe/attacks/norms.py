"""The norms of perturbations (N, C, H, W), with projections, steepest directions and random starts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from probe.core.errors import UsageError

Epsilon = float | Tensor
"""One radius, or one per image (N,)."""


def per_image(values: Epsilon, like: Tensor) -> Tensor:
    """Return the values as a tensor that broadcasts over ``like``, one per image."""
    tensor = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    return tensor.reshape(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class Norm(ABC):
    """A norm of perturbations of images (N, C, H, W); sizes are in pixel units, where [0, 1] is black to white."""

    name: ClassVar[str]
    unit: ClassVar[str] = ""

    @abstractmethod
    def size(self, delta: Tensor) -> Tensor:
        """Return the size of each perturbation, (N,)."""

    @abstractmethod
    def project(self, images: Tensor, moved: Tensor, epsilon: Epsilon) -> Tensor:
        """Return images within ``epsilon`` of ``images`` and within [0, 1], near ``moved``.

        For Linf, L1 and L0 the result is the nearest such image; for L2 it is the projection to the ball, clipped to
        the range, which stays in the ball. Up to rounding, projecting again does not change the result.
        """

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the perturbation of size 1 that increases a linear function with this gradient most.

        A zero gradient gives zero. For L0 the best step along a single pixel is unbounded, so the result is
        the gradient's L1 direction instead (Croce and Hein 2019, PGD_0).
        """

    @abstractmethod
    def start(self, images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """Return randomly perturbed images within ``epsilon`` and [0, 1]."""

    def largest(self, shape: tuple[int, ...]) -> float:
        """Return the maximum size of a perturbation of images of shape (C, H, W)."""
        return float(self.size(torch.ones(1, *shape)))


@dataclass(frozen=True)
class Linf(Norm):
    """Linf: the largest change of any value."""

    name: ClassVar[str] = "Linf"

    def size(self, delta: Tensor) -> Tensor:
        """Return max |delta| of each image."""
        return delta.flatten(1).abs().amax(1)

    def project(self, images: Tensor, moved: Tensor, epsilon: Epsilon) -> Tensor:
        """Clip to the cube and to [0, 1]."""
        radius = per_image(epsilon, images)
        return torch.minimum(torch.maximum(moved, images - radius), images + radius).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the sign."""
        return gradient.sign()

    def start(self, images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """Draw every value uniformly."""
        noise = _draw(torch.rand, images, generator) * 2 - 1
        return self.project(images, images + epsilon * noise, epsilon)


@dataclass(frozen=True)
class L2(Norm):
    """L2: the Euclidean length over all pixels and channels."""

    name: ClassVar[str] = "L2"

    def size(self, delta: Tensor) -> Tensor:
        """Return the root of the sum of squares of each image."""
        length: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
        return length

    def project(self, images: Tensor, moved: Tensor, epsilon: Epsilon) -> Tensor:
        """Scale down to the radius, then clip to [0, 1]."""
        delta = moved - images
        radius = per_image(epsilon, images)
        length = per_image(self.size(delta), images)
        shortened = delta * (radius / length.clamp_min(1e-12)).clamp_max(1)
        return (images + shortened).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the gradient scaled to length 1."""
        # Scaled by its largest value first, because the squares of tiny gradients would underflow.
        scaled = gradient / per_image(gradient.flatten(1).abs().amax(1).clamp_min(1e-38), gradient)
        length = per_image(self.size(scaled), gradient)
        return torch.where(length > 0, scaled / length.clamp_min(1e-12), 0.0)

    def start(self, images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """Draw a direction uniformly and a length uniformly up to epsilon."""
        noise = _draw(torch.randn, images, generator)
        length = torch.rand(len(images), generator=generator).to(images)
        direction = noise / per_image(self.size(noise), images)
        return self.project(images, images + per_image(epsilon * length, images) * direction, epsilon)


@dataclass(frozen=True)
class L1(Norm):
    """L1: the sum of all changes."""

    name: ClassVar[str] = "L1"

    def size(self, delta: Tensor) -> Tensor:
        """Return the sum of |delta| of each image."""
        return delta.flatten(1).abs().sum(1)

    def project(self, images: Tensor, moved: Tensor, epsilon: Epsilon) -> Tensor:
        """Return the nearest image (in L2) in the intersection of the L1 ball and [0, 1].

        Of all points with |d_i| ≤ room_i, the nearest to d is clip(|d| − t, 0, room) for the smallest t ≥ 0 that meets
        the radius (Croce and Hein 2021, "Mind the box", proposition 2.1). t is found by bisection.
        """
        delta = (moved - images).flatten(1)
        base = images.flatten(1)
        room = torch.where(delta > 0, 1 - base, base)
        size = delta.abs()
        radius = torch.as_tensor(epsilon, dtype=delta.dtype, device=delta.device).expand(len(delta))
        low, high = torch.zeros_like(radius), size.amax(1)
        fits = torch.minimum(size, room).sum(1) <= radius
        for _ in range(40):
            middle = (low + high) / 2
            inside = torch.minimum((size - middle[:, None]).clamp_min(0), room).sum(1) <= radius
            low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
        threshold = torch.where(fits, torch.zeros_like(high), high)
        projected = torch.minimum((size - threshold[:, None]).clamp_min(0), room) * delta.sign()
        return (base + projected).clamp(0, 1).reshape(images.shape)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return ±1 at the value with the largest gradient."""
        flat = gradient.flatten(1)
        place = flat.abs().argmax(1, keepdim=True)
        step = torch.zeros_like(flat).scatter_(1, place, flat.gather(1, place).sign())
        return step.reshape(gradient.shape)

    def start(self, images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """Draw from a Laplace distribution, scaled to a length uniform up to epsilon."""
        uniform = _draw(torch.rand, images, generator) - 0.5
        noise = -uniform.sign() * torch.log1p(-2 * uniform.abs().clamp_max(0.4999999))
        length = torch.rand(len(images), generator=generator).to(images)
        direction = noise / per_image(self.size(noise), images)
        return self.project(images, images + per_image(epsilon * length, images) * direction, epsilon)


@dataclass(frozen=True)
class L0(Norm):
    """L0: the number of pixels that change; a pixel counts once, however many channels change."""

    name: ClassVar[str] = "L0"
    unit: ClassVar[str] = "pixels"

    def size(self, delta: Tensor) -> Tensor:
        """Return how many pixels differ, as floats."""
        return (delta != 0).any(1).flatten(1).sum(1).to(delta.dtype)

    def project(self, images: Tensor, moved: Tensor, epsilon: Epsilon) -> Tensor:
        """Keep the pixels with the largest changes (in L2 over the channels, after clipping to [0, 1])."""
        delta = moved.clamp(0, 1) - images
        moves = delta.square().sum(1).flatten(1)
        order = moves.sort(dim=1, descending=True, stable=True).indices
        rank = torch.zeros_like(order).scatter_(
            1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
        )
        count = torch.as_tensor(epsilon, device=delta.device).floor().reshape(-1, 1)
        largest = (rank < count).reshape(len(images), 1, *images.shape[2:])
        return torch.where(largest, moved.clamp(0, 1), images)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the gradient scaled to L1 length 1."""
        length = per_image(gradient.flatten(1).abs().sum(1), gradient)
        return torch.where(length > 0, gradient / length.clamp_min(1e-38), 0.0)

    def start(self, images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """Draw the pixels uniformly and give each a uniform colour."""
        pixels = _draw(torch.rand, images, generator)
        order = torch.rand(len(images), images[0, 0].numel(), generator=generator).argsort(1).argsort(1)
        chosen = (order < math.floor(epsilon)).reshape(len(images), 1, *images.shape[2:]).to(images.device)
        return torch.where(chosen, pixels, images)


NORMS: dict[str, Norm] = {norm.name: norm for norm in (Linf(), L2(), L1(), L0())}


def get_norm(name: str) -> Norm:
    """Return the norm called ``Linf``, ``L2``, ``L1`` or ``L0`` (case is ignored); raises UsageError for others."""
    for norm in NORMS.values():
        if norm.name.lower() == name.lower():
            return norm
    raise UsageError(f"There is no norm '{name}'. Available: {', '.join(NORMS)}.")


def _draw(how: object, images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw on the generator's device, so that the numbers do not depend on the images' device."""
    drawn: Tensor = how(images.shape, generator=generator, device=generator.device)  # type: ignore[operator]
    return torch.empty_like(images).copy_(drawn)


MOST = 200
"""The maximum number of epsilons in a range."""


def parse_epsilons(text: str, norm: Norm) -> tuple[float, ...]:
    """Parse epsilons; returns them ascending and without repetitions, in pixel units (L0: number of pixels).

    Numbers may be fractions; several are separated by commas; ``FROM:TO:COUNT`` means evenly spaced numbers including
    both ends. Raises UsageError for anything else, for negative or infinite numbers, and for an Linf epsilon above 1.
    """
    parts = [part.strip() for part in text.split(",")]
    values: list[float] = []
    for part in parts:
        values += _range(part, text) if ":" in part else [_number(part, text)]
    for value in values:
        _check(value, norm)
    return tuple(sorted(set(values)))


def _number(word: str, text: str) -> float:
    try:
        value = float(Fraction(word.replace(" ", ""))) if "/" in word else float(word)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(
            f"'{word or text}' is not an epsilon: write a number such as 0.2 or 8/255, several separated by commas, or "
            "FROM:TO:COUNT such as 0:8/255:9."
        ) from None
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"An epsilon must be a finite number of at least 0; got {word}.")
    return value


def _range(part: str, text: str) -> list[float]:
    words = part.split(":")
    if len(words) != 3 or not words[2].strip().isdigit() or not 2 <= int(words[2]) <= MOST:
        raise UsageError(
            f"'{part}' is not FROM:TO:COUNT with a count from 2 to {MOST}; for example, write 0:8/255:9."
        )
    first, last, count = _number(words[0].strip(), text), _number(words[1].strip(), text), int(words[2])
    if last <= first:
        raise UsageError(f"In '{part}' the second number must be larger than the first.")
    return [first + (last - first) * step / (count - 1) for step in range(count)]


def _check(value: float, norm: Norm) -> None:
    if norm.name == "Linf" and value > 1:
        raise UsageError(
            f"--eps {value:g} is more than the whole range of a pixel: epsilon is in units of [0, 1]. "
            f"Did you mean {value:g}/255?"
        )
    if norm.name == "L0" and value != int(value):
        raise UsageError(f"--eps is a number of pixels for L0 and must be an integer; got {value:g}.")


def shown(value: float, norm: Norm) -> str:
    """Format an epsilon as usual: ``8/255`` for such fractions, short decimals (0.2) as they are, else with three digits."""
    if norm.name == "L0":
        return f"{value:g} pixels"
    scaled = value * 255
    short = math.isclose(value, round(value, 2), abs_tol=1e-9)
    if norm.name == "Linf" and not short and abs(scaled - round(scaled)) < 1e-6:
        return f"{round(scaled)}/255"
    return f"{value:.3g}"
