"""The optimisation itself: many pictures in one batch, each from random streams of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.core import seeds
from probe.core.errors import UsageError
from probe.core.state import frozen_parameters
from studies.filters.config import STEPS
from studies.filters.optimise.basis import FourierBasis, Parametrisation, Transforms
from studies.filters.optimise.objectives import Objective, evaluate, stack

_LAST_RATE = 0.1
"""Share of the learning rate that is left at the last step."""

_WAKING_STEPS = 16
"""Steps for which a picture without gradient is changed at random; after that the channel counts as dead."""


@dataclass(frozen=True)
class PictureRecipe:
    """How pictures are optimised: Adam on coefficients, the rate falling along a half cosine.

    Each picture's gradient is brought to unit mean square before Adam sees it, so that neither
    the layer's scale nor its depth changes the pace. ``transforms`` are one set for all objectives, or one for each; None
    takes the published set for the picture's size. ``batch_size`` is the largest number of pictures at a time. ``half``
    runs the network in bfloat16 while optimising. Raises UsageError for fewer than one step.
    """

    steps: int = STEPS
    rate: float = 0.1
    transforms: Transforms | tuple[Transforms, ...] | None = None
    batch_size: int = 16
    half: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers below one."""
        if self.steps < 1 or self.batch_size < 1:
            raise UsageError("Feature visualisation needs at least 1 step and a batch size of at least 1.")

    def transforms_of(self, count: int, size: tuple[int, int]) -> tuple[Transforms, ...]:
        """Return the set of each of ``count`` objectives for pictures of ``size`` (H, W)."""
        if isinstance(self.transforms, tuple):
            return self.transforms
        return (Transforms.for_size(size) if self.transforms is None else self.transforms,) * count

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        share = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * (_LAST_RATE + (1 - _LAST_RATE) * share)


@dataclass(frozen=True)
class Rendering:
    """``pictures`` (N, C, H, W) float32 in [0, 1], on the CPU like the rest.

    ``values`` (N,) are the objectives of the final pictures, in float32 and without transformations;
    ``history`` (steps, N) holds the values during the optimisation, on moved pictures.
    """

    pictures: Tensor
    values: Tensor
    history: Tensor


@dataclass(frozen=True)
class PictureSubject:
    """The network to optimise for: ``features`` maps (N, C, H, W) pixels in [0, 1] to (N, K, h, w) or (N, K).

    ``fast`` may be a quicker module that computes the same; it is used for the gradients only. ``name``
    (of the layer) keeps the random streams of different layers apart.
    """

    features: nn.Module
    name: str = ""
    fast: nn.Module | None = None
    device: torch.device | str = "cpu"
    memory_format: torch.memory_format = torch.contiguous_format


def render(
    subject: PictureSubject,
    objectives: Sequence[Objective],
    size: tuple[int, int],
    recipe: PictureRecipe,
    *,
    channels: int = 3,
    grey: bool = False,
    seed: int = 0,
    advance: Callable[[float], None] = lambda _units: None,
) -> Rendering:
    """Optimise one picture of ``size`` (H, W) for each objective (Olah et al. 2017).

    The picture of an objective depends on ``seed``, the subject and the objective alone, not on what
    shares its batch. ``advance`` is called with the number of picture-steps done. The network is left
    as it was: no parameter gets a gradient. Raises UsageError for a channel or class that the output does not have.
    """
    parametrisation = Parametrisation(FourierBasis(*size), channels, grey)
    parts: list[Rendering] = []
    moved = list(zip(objectives, recipe.transforms_of(len(objectives), size), strict=True))
    with _differentiable(subject):
        for part in _even_parts(moved, recipe.batch_size):
            parts.append(_render_batch(subject, part, parametrisation, recipe, seed, advance))
    if not parts:
        empty = torch.zeros(0, channels, *size)
        return Rendering(empty, torch.zeros(0), torch.zeros(recipe.steps, 0))
    return Rendering(
        torch.cat([part.pictures for part in parts]),
        torch.cat([part.values for part in parts]),
        torch.cat([part.history for part in parts], 1),
    )


def _render_batch(
    subject: PictureSubject,
    moved: Sequence[tuple[Objective, Transforms]],
    parametrisation: Parametrisation,
    recipe: PictureRecipe,
    seed: int,
    advance: Callable[[float], None],
) -> Rendering:
    basis = parametrisation.basis
    size = basis.height, basis.width
    objectives = [objective for objective, _ in moved]
    streams = [seeds.generator(seed, "features", subject.name, objective.key) for objective in objectives]
    coefficients = torch.stack([parametrisation.start(stream) for stream in streams]).to(subject.device)
    draws = [each.draw(recipe.steps, size, stream) for (_, each), stream in zip(moved, streams, strict=True)]
    movements = torch.stack(draws, 1)
    moves = torch.tensor([each.moves for _, each in moved], device=subject.device).view(-1, 1, 1, 1)
    any_moves, all_move = bool(moves.any()), bool(moves.all())
    weights = stack(objectives, _output_shape(subject, parametrisation)).to(subject.device)
    ascent = torch.tensor([float(o.sign) for o in objectives], device=subject.device)
    coefficients.requires_grad_(True)
    adam = torch.optim.Adam([coefficients])
    history: list[Tensor] = []
    for step in range(recipe.steps):
        pictures = parametrisation.pictures(coefficients)
        if any_moves:
            shifted = Transforms.apply(pictures, movements[step])
            pictures = shifted if all_move else torch.where(moves, shifted, pictures)
        output = _forward(subject, pictures, recipe.half)
        history.append(evaluate(output.detach(), weights).cpu())
        downhill = -_along(weights, ascent).to(output.dtype)
        (gradient,) = torch.autograd.grad(output, coefficients, downhill)
        if step < _WAKING_STEPS:
            gradient = _wake(gradient, coefficients.detach())
        coefficients.grad = _unit_mean_square(gradient)
        adam.param_groups[0]["lr"] = recipe.rate_at(step)
        adam.step()
        advance(len(objectives))
    with torch.no_grad():
        pictures = parametrisation.pictures(coefficients)
        output = subject.features(pictures.contiguous(memory_format=subject.memory_format))
    return Rendering(
        pictures.float().cpu().contiguous(), evaluate(output, weights).cpu(), torch.stack(history)
    )


def _even_parts(
    moved: Sequence[tuple[Objective, Transforms]], most: int
) -> Iterator[Sequence[tuple[Objective, Transforms]]]:
    """Yield parts of at most ``most`` objectives whose lengths differ by one at most."""
    count = -(-len(moved) // most)
    for part in range(count):
        yield moved[part * len(moved) // count : (part + 1) * len(moved) // count]


def _forward(subject: PictureSubject, pictures: Tensor, half: bool) -> Tensor:
    network = subject.features if subject.fast is None else subject.fast
    pictures = pictures.contiguous(memory_format=subject.memory_format)
    with torch.autocast(torch.device(subject.device).type, torch.bfloat16, enabled=half):
        output: Tensor = network(pictures)
    return output


def _output_shape(subject: PictureSubject, parametrisation: Parametrisation) -> tuple[int, ...]:
    basis = parametrisation.basis
    with torch.no_grad():
        blank = torch.full(
            (1, parametrisation.channels, basis.height, basis.width), 0.5, device=subject.device
        )
        return tuple(subject.features(blank.contiguous(memory_format=subject.memory_format)).shape[1:])


def _along(weights: Tensor, factors: Tensor) -> Tensor:
    return weights * factors.view(-1, *[1] * (weights.dim() - 1))


def _wake(gradient: Tensor, coefficients: Tensor) -> Tensor:
    """Make the noise of pictures without any gradient stronger, so that units which it leaves silent may fire."""
    silent = (gradient.flatten(1) == 0).all(1)
    return torch.where(silent.view(-1, *[1] * (gradient.dim() - 1)), -coefficients, gradient)


def _unit_mean_square(gradient: Tensor) -> Tensor:
    """Scale each picture's gradient to unit mean square; what is not finite counts as zero."""
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
    size = gradient.flatten(1).square().mean(1).sqrt().clamp_min(torch.finfo(gradient.dtype).tiny)
    return gradient / size.view(-1, *[1] * (gradient.dim() - 1))


@contextmanager
def _differentiable(subject: PictureSubject) -> Iterator[None]:
    """Let gradients flow to the pictures and to nothing else."""
    with ExitStack() as stack_:
        stack_.enter_context(torch.inference_mode(False))
        stack_.enter_context(torch.enable_grad())
        for module in (subject.features, subject.fast):
            if module is not None:
                stack_.enter_context(frozen_parameters(module))
        yield
