"""The optimisation itself: many pictures in one batch, each from random streams of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from probe.core import seeds
from probe.core.errors import UsageError
from probe.core.state import frozen_parameters
from studies.filters.config import STEPS
from studies.filters.optimise.basis import FourierBasis, Parametrisation, Transforms
from studies.filters.optimise.maco import Crops, FixedMagnitude
from studies.filters.optimise.objectives import Objective, VariantObjective, evaluate, stack
from studies.filters.optimise.terms import Diversity, Nearness, PullBack, Term

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

    ``magnitude`` (planes, H, W // 2 + 1) fixes the Fourier magnitude, so that only phases are optimised (MACO). Of each objective
    ``variants`` pictures are made, one after the other; ``diversity`` is how strongly they are pulled apart, relative to the pull of
    the objective and times their similarity. With ``near`` the pictures start from images and stay near them.
    """

    steps: int = STEPS
    rate: float = 0.1
    transforms: Transforms | tuple[Transforms, ...] | None = None
    batch_size: int = 16
    half: bool = False
    magnitude: Tensor | None = field(default=None, compare=False)
    variants: int = 1
    diversity: float = 0.0
    near: Nearness | None = None

    def __post_init__(self) -> None:
        """Refuse numbers below one."""
        if self.steps < 1 or self.batch_size < 1 or self.variants < 1:
            raise UsageError(
                "Feature visualisation needs at least 1 step, 1 variant and a batch size of at least 1."
            )

    def parametrisation(self, size: tuple[int, int], channels: int, grey: bool) -> Parametrisation:
        """Return how pictures of ``size`` (H, W) are made of what is optimised."""
        basis = FourierBasis(*size)
        if self.magnitude is None:
            return Parametrisation(basis, channels, grey)
        return FixedMagnitude(basis, channels, grey, self.magnitude)

    def transforms_of(self, count: int, size: tuple[int, int]) -> tuple[Transforms, ...]:
        """Return the set of each of ``count`` objectives for pictures of ``size`` (H, W)."""
        if isinstance(self.transforms, tuple):
            return self.transforms
        usual = Transforms.for_size(size) if self.magnitude is None else Crops()
        return (usual if self.transforms is None else self.transforms,) * count

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        share = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * (_LAST_RATE + (1 - _LAST_RATE) * share)


@dataclass(frozen=True)
class Rendering:
    """``pictures`` (N, C, H, W) float32 in [0, 1], on the CPU like the rest.

    ``values`` (N,) are the objectives of the final pictures, in float32 and without transformations;
    ``history`` (steps, N) holds the values during the optimisation, on moved pictures. ``importance`` (N, H, W) is how much each
    pixel mattered: the absolute gradient of the objective with respect to it, averaged over channels and summed over the steps
    (Fel et al. 2023); only of pictures with a fixed magnitude.
    """

    pictures: Tensor
    values: Tensor
    history: Tensor
    importance: Tensor | None = None


@dataclass(frozen=True)
class _Job:
    """One picture: what it is for, how it moves, and the image (C, H, W) that it starts from, if any."""

    objective: Objective
    transforms: Transforms
    image: Tensor | None


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
    """Optimise one picture of ``size`` (H, W), or the recipe's variants, for each objective (Olah et al. 2017).

    The pictures of an objective depend on ``seed``, the subject and the objective alone, not on what
    shares their batch. ``advance`` is called with the number of picture-steps done. The network is left
    as it was: no parameter gets a gradient. Raises UsageError for a channel or class that the output does not have.
    """
    parametrisation = recipe.parametrisation(size, channels, grey)
    parts: list[Rendering] = []
    with _differentiable(subject, recipe):
        for jobs in _even_parts(_groups(objectives, recipe, size), recipe.batch_size // recipe.variants):
            parts.append(_render_batch(subject, jobs, parametrisation, recipe, seed, advance))
    if not parts:
        empty = torch.zeros(0, channels, *size)
        return Rendering(empty, torch.zeros(0), torch.zeros(recipe.steps, 0))
    weighed = [part.importance for part in parts if part.importance is not None]
    return Rendering(
        torch.cat([part.pictures for part in parts]),
        torch.cat([part.values for part in parts]),
        torch.cat([part.history for part in parts], 1),
        torch.cat(weighed) if weighed else None,
    )


def _render_batch(
    subject: PictureSubject,
    jobs: Sequence[_Job],
    parametrisation: Parametrisation,
    recipe: PictureRecipe,
    seed: int,
    advance: Callable[[float], None],
) -> Rendering:
    basis = parametrisation.basis
    size = basis.height, basis.width
    objectives = [job.objective for job in jobs]
    streams = [seeds.generator(seed, "features", subject.name, objective.key) for objective in objectives]
    coefficients = torch.stack(
        [_start(job, parametrisation, stream) for job, stream in zip(jobs, streams, strict=True)]
    ).to(subject.device)
    movements = torch.stack(
        [job.transforms.draw(recipe.steps, size, stream) for job, stream in zip(jobs, streams, strict=True)],
        1,
    )
    moves = torch.tensor([job.transforms.moves for job in jobs], device=subject.device).view(-1, 1, 1, 1)
    any_moves, all_move = bool(moves.any()), bool(moves.all())
    weights = stack(objectives, _output_shape(subject, parametrisation)).to(subject.device)
    ascent = torch.tensor([float(o.sign) for o in objectives], device=subject.device)
    terms = _terms(subject, recipe, parametrisation.pictures(coefficients))
    pace = 1.0 if recipe.near is None else recipe.near.strength
    coefficients.requires_grad_(True)
    adam = torch.optim.Adam([coefficients])
    history: list[Tensor] = []
    importance = None if recipe.magnitude is None else torch.zeros(len(jobs), *size, device=subject.device)
    for step in range(recipe.steps):
        pictures = moved = parametrisation.pictures(coefficients)
        if any_moves:
            shifted = Transforms.apply(pictures, movements[step])
            moved = shifted if all_move else torch.where(moves, shifted, pictures)
        output = _forward(subject, _noisy(moved, jobs, streams), recipe.half)
        history.append(evaluate(output.detach(), weights).cpu())
        downhill = -_along(weights, ascent).to(output.dtype)
        wanted = [coefficients] if importance is None else [coefficients, pictures]
        gradient, *of_pixels = torch.autograd.grad(output, wanted, downhill, retain_graph=bool(terms))
        if importance is not None:
            importance += of_pixels[0].nan_to_num(0.0, 0.0, 0.0).abs().mean(1)
        if step < _WAKING_STEPS and recipe.near is None:
            gradient = _wake(gradient, coefficients.detach())
        gradient = _unit_mean_square(gradient)
        if terms:
            gradient = pace * gradient + _pulls(terms, pictures, output, coefficients)
        coefficients.grad = gradient
        adam.param_groups[0]["lr"] = recipe.rate_at(step)
        adam.step()
        advance(len(objectives))
    with torch.no_grad():
        pictures = parametrisation.pictures(coefficients)
        output = subject.features(pictures.contiguous(memory_format=subject.memory_format))
    return Rendering(
        pictures.float().cpu().contiguous(),
        evaluate(output, weights).cpu(),
        torch.stack(history),
        None if importance is None else importance.cpu(),
    )


def _groups(
    objectives: Sequence[Objective], recipe: PictureRecipe, size: tuple[int, int]
) -> list[tuple[_Job, ...]]:
    """Return the pictures of each objective, which share a batch."""
    images: Sequence[Tensor | None] = [None] * len(objectives)
    if recipe.near is not None:
        if recipe.near.images.shape[-2:] != size:
            raise UsageError("Images to start from must have the size of the pictures.")
        images = list(recipe.near.images)
    found = []
    moved = recipe.transforms_of(len(objectives), size)
    for objective, transforms, image in zip(objectives, moved, images, strict=True):
        alike = [objective] if recipe.variants == 1 else VariantObjective.several(objective, recipe.variants)
        found.append(tuple(_Job(each, transforms, image) for each in alike))
    return found


def _even_parts(groups: Sequence[tuple[_Job, ...]], most: int) -> Iterator[Sequence[_Job]]:
    """Yield the jobs of at most ``most`` groups, at least one, at a time; these numbers differ by one at most."""
    count = -(-len(groups) // max(most, 1))
    for part in range(count):
        chosen = groups[part * len(groups) // count : (part + 1) * len(groups) // count]
        yield [job for group in chosen for job in group]


def _start(job: _Job, parametrisation: Parametrisation, stream: torch.Generator) -> Tensor:
    if job.image is None:
        return parametrisation.start(stream)
    return parametrisation.coefficients(job.image[None].float().cpu())[0]


def _noisy(pictures: Tensor, jobs: Sequence[_Job], streams: Sequence[torch.Generator]) -> Tensor:
    """Add to each picture the noise of its movements, from its own stream."""
    if not any(job.transforms.noise for job in jobs):
        return pictures
    noise = [
        job.transforms.noise * torch.randn(pictures.shape[1:], generator=stream)
        for job, stream in zip(jobs, streams, strict=True)
    ]
    return pictures + torch.stack(noise).to(pictures)


def _terms(subject: PictureSubject, recipe: PictureRecipe, pictures: Tensor) -> list[Term]:
    """Return what else pulls at ``pictures``, which are as they start."""
    terms: list[Term] = []
    if recipe.variants > 1 and recipe.diversity:
        terms.append(Diversity(recipe.variants, recipe.diversity))
    if recipe.near is not None:
        see = _seen_by(recipe.near.features, subject, recipe.half)
        with torch.no_grad():
            terms.append(PullBack(see, see(pictures)))
    return terms


def _seen_by(features: nn.Module | None, subject: PictureSubject, half: bool) -> Callable[[Tensor], Tensor]:
    if features is None:
        return lambda pictures: pictures
    earlier = PictureSubject(features, device=subject.device, memory_format=subject.memory_format)
    return lambda pictures: _forward(earlier, pictures, half)


def _pulls(terms: Sequence[Term], pictures: Tensor, output: Tensor, coefficients: Tensor) -> Tensor:
    """Return the sum of the terms' gradients, each of unit mean square times its pull."""
    total = torch.zeros_like(coefficients)
    for term in terms:
        losses, pull = term(pictures, output)
        (gradient,) = torch.autograd.grad(losses.sum(), coefficients, retain_graph=True)
        total += _unit_mean_square(gradient) * pull.to(total).view(-1, *[1] * (total.dim() - 1))
    return total


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
def _differentiable(subject: PictureSubject, recipe: PictureRecipe) -> Iterator[None]:
    """Let gradients flow to the pictures and to nothing else."""
    with ExitStack() as stack_:
        stack_.enter_context(torch.inference_mode(False))
        stack_.enter_context(torch.enable_grad())
        earlier = None if recipe.near is None else recipe.near.features
        for module in (subject.features, subject.fast, earlier):
            if module is not None:
                stack_.enter_context(frozen_parameters(module))
        yield
