"""Tests of attribution maps: completeness, and dependence on the weights (parameter randomisation)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.core import stats
from probe.core.errors import NotApplicableError
from probe.core.progress import Advance
from probe.graph.trace.trace import no_side_effects, shared_copy
from studies.filters.attribution.attribute import (
    AttributionSubject,
    Baseline,
    Method,
    baseline_of,
    in_batches,
)

HARDLY = 0.8
"""A mean rank correlation with randomised weights from which a map counts as hardly changed."""

PARTLY = 0.4
"""A mean rank correlation with every weight randomised from which a map counts as partly unchanged."""

_TINY = 1e-2


@dataclass(frozen=True)
class Completeness:
    """|Σ map − (f(image) − f(baseline))| per map, in logits and relative to |f(image) − f(baseline)|.

    ``relative`` leaves out maps whose denominator is below 1% of the larger of the two logits.
    """

    absolute: tuple[float, ...]
    relative: tuple[float, ...]

    @property
    def typical(self) -> float | None:
        """The median relative error, None when no denominator is large enough."""
        return float(np.median(self.relative)) if self.relative else None

    @property
    def largest(self) -> float:
        """The largest absolute error in logits."""
        return max(self.absolute)


def completeness(
    module: nn.Module, images: Tensor, targets: Tensor, maps: Tensor, baseline: Baseline
) -> Completeness:
    """Compare each map's sum with the change of the logit from the baseline to the image."""
    with torch.no_grad():
        rows = torch.arange(len(images), device=images.device)
        here = module(images)[rows, targets].double()
        there = module(baseline_of(images, baseline))[rows, targets].double()
    change = here - there
    error = (maps.double().flatten(1).sum(1) - change).abs()
    usable = change.abs() > _TINY * torch.maximum(here.abs(), there.abs())
    relative = (error[usable] / change[usable].abs()).tolist()
    return Completeness(tuple(error.tolist()), tuple(relative))


def spearman(first: Tensor, second: Tensor) -> NDArray[np.float64]:
    """Return Spearman's rank correlation of two sets of maps, one value per image; ties get their mean rank.

    Maps (N, C, H, W) are compared by Σ over channels of |map|. A constant or non-finite map has no ranks:
    NaN.
    """
    from scipy.stats import rankdata

    ranks = []
    for maps in (first, second):
        sizes = maps.detach().abs().sum(1).flatten(1).cpu().double().numpy()
        sizes = np.where(np.isfinite(sizes).all(axis=1, keepdims=True), sizes, np.nan)
        rank = rankdata(sizes, axis=1, nan_policy="propagate")
        ranks.append(rank - rank.mean(axis=1, keepdims=True))
    spread = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    product = (ranks[0] * ranks[1]).sum(1)
    defined = np.isfinite(spread) & (spread > 0)
    return np.where(defined, product / np.where(defined, spread, 1.0), np.nan)


@dataclass(frozen=True)
class MapCorrelation:
    """A mean rank correlation over ``n`` images with its 95% t-interval (None below two images)."""

    value: float | None
    n: int
    ci: tuple[float, float] | None

    @classmethod
    def over_images(cls, draws: Sequence[NDArray[np.float64]]) -> MapCorrelation:
        """Average over draws, then over images; an image without a defined value in any draw is left out."""
        table = np.stack(draws)
        counted = np.isfinite(table).any(axis=0)
        values = [float(np.nanmean(column)) for column in table[:, counted].T]
        if not values:
            return cls(None, 0, None)
        ci = None
        if len(values) > 1:
            low, high = stats.t_interval(values)
            ci = (max(-1.0, low), min(1.0, high))
        return cls(float(np.mean(values)), len(values), ci)


@dataclass(frozen=True)
class RandomisationResult:
    """Similarity of a method's maps when only the classifier, and when every weight, is randomised."""

    classifier: MapCorrelation
    everything: MapCorrelation
    draws: int


@dataclass(frozen=True)
class RandomisationTrial:
    """One method in the check: its options there, the trained network's maps with them, how many draws."""

    method: Method
    reference: Tensor
    draws: int


def randomise(
    trials: Sequence[RandomisationTrial],
    networks: Callable[[int], tuple[AttributionSubject, AttributionSubject]],
    images: Tensor,
    targets: Tensor,
    advance: Advance,
) -> dict[str, RandomisationResult]:
    """Run the parameter-randomisation check (Adebayo et al. 2018); the result is keyed by the method's key.

    ``networks(draw)`` gives the network with a redrawn classifier and the one with every weight redrawn.
    The same logits are explained as in the trained network. ``advance`` counts forward passes.
    """
    result: dict[str, tuple[list[NDArray[np.float64]], ...]] = {t.method.key: ([], []) for t in trials}
    work = images.shape[-2], images.shape[-1]
    for draw in range(max((trial.draws for trial in trials), default=0)):
        subjects = networks(draw)
        for trial in trials:
            if draw >= trial.draws:
                continue
            for values, subject in zip(result[trial.method.key], subjects, strict=True):
                maps = in_batches(trial.method, subject, images, targets)
                values.append(spearman(trial.reference, maps))
                advance(trial.method.passes(work) * len(images))
    return {
        trial.method.key: RandomisationResult(
            classifier=MapCorrelation.over_images(result[trial.method.key][0]),
            everything=MapCorrelation.over_images(result[trial.method.key][1]),
            draws=trial.draws,
        )
        for trial in trials
    }


def verdict(randomised: RandomisationResult) -> str:
    """Write in one sentence what the check means for a reader of the maps."""
    classifier, everything = randomised.classifier.value, randomised.everything.value
    if classifier is None or everything is None:
        return "Cannot be judged: the maps of a randomised network are constant."
    if everything >= HARDLY:
        return "Hardly changes when every weight is randomised: on these images it depends little on what the network learned."
    if classifier >= HARDLY:
        return "Hardly changes when the classifier is randomised: on these images it says little about the class."
    if everything >= PARTLY:
        return "Partly unchanged when every weight is randomised: interpret it with care."
    return "Changes when the weights are randomised."


def classifier_of(module: nn.Module, example: Tensor) -> str:
    """Return the name of the last linear or convolutional layer that runs.

    Raises NotApplicableError when no module of the network has a weight of two or more dimensions.
    """
    ran: list[str] = []

    def record(name: str) -> Callable[..., None]:
        return lambda *_: ran.append(name)

    with ExitStack() as stack:
        for name, sub in module.named_modules():
            weight = getattr(sub, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim >= 2:
                stack.callback(sub.register_forward_hook(record(name)).remove)
        stack.enter_context(no_side_effects(module))
        module(example)
    if not ran:
        raise NotApplicableError("the network has no linear or convolutional layer to randomise")
    return ran[-1]


def redraw_classifier(module: nn.Module, fresh: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of ``module`` whose last layer has the weights of the same layer in ``fresh``.

    Every other tensor is shared with ``module``, whose own weights stay as they are.
    """
    mixed = shared_copy(module)
    name = classifier_of(mixed, example)
    mixed.set_submodule(name, shared_copy(fresh.get_submodule(name)))
    return mixed
