"""Measurements of channels and sites: lesions on clean and attacked images, activation changes, weights, activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.core.progress import Progress
from probe.core.state import captured
from probe.graph.edit.cut import CutSubject, cut, find_sites
from probe.graph.edit.site import Site
from probe.graph.edit.structure import get_structure
from probe.models.loaded import LoadedModel
from probe.tools.dossier.choose import DossierChoice
from studies.ablation.evaluate import Comparison, EvaluationBatch, Evaluator, compare
from studies.adversarial.workspace import AdversarialWorkspace
from studies.filters.observe import observe
from studies.filters.views.weights import analyse

Values = NDArray[np.float64]
_PADDED = 32
"""Kernels are padded to this side before the Fourier transform."""


@dataclass(frozen=True)
class AttackedImages:
    """The images of a run, clean and attacked at ``epsilon``, (N, C, H, W), and the reference classes, (N,).

    The images were made by an attack on the intact network.
    """

    clean: Tensor
    images: Tensor
    labels: Tensor
    epsilon: float
    robust: int


@dataclass(frozen=True)
class Lesion:
    """The effect of removing one site, on clean and on attacked images."""

    site: str
    clean: Comparison
    attacked: Comparison


@dataclass(frozen=True)
class Channels:
    """The measured channels of one convolution: their lesions, and one number per channel for every measure."""

    chosen: DossierChoice
    lesions: tuple[Lesion, ...]
    measures: dict[str, Values]

    @property
    def channels(self) -> tuple[int, ...]:
        """The indices of the channels, in the order of all values."""
        return self.chosen.channels


CLEAN_LOSS_INCREASE, ATTACKED_LOSS_INCREASE, ACTIVATION_CHANGE = (
    "clean loss increase",
    "attacked loss increase",
    "activation change under attack",
)
OUTCOMES = (CLEAN_LOSS_INCREASE, ATTACKED_LOSS_INCREASE, ACTIVATION_CHANGE)
"""The measures of a channel's role; the other measures describe its weights and activations."""


def attacked_images(space: AdversarialWorkspace) -> AttackedImages:
    """Attack all images at the epsilon of the curve at which about half of the correct images are still correct.

    At an epsilon that breaks all images, no lesion could reduce robust accuracy further; at one that breaks none, a
    lesion would have the same effect as on clean images.
    """
    results = space.results
    half = float(results.clean_correct.sum()) / 2
    epsilons = [epsilon for epsilon in results.epsilons if epsilon > 0] or [space.epsilon]
    epsilon = min(
        epsilons,
        key=lambda candidate: (abs(float(results.robust(results.worst, candidate).sum()) - half), candidate),
    )
    every = range(results.n)
    parts: list[Tensor] = []
    clean: list[Tensor] = []
    with space.progress.task("Attacking for the lesions", results.n) as advance:
        for start in range(0, results.n, space.config.batch_size):
            places = every[start : start + space.config.batch_size]
            images = space.pixels(places)
            verdict = space.full(images, space.labels(places), space.targets(places), epsilon)
            clean.append(images)
            parts.append(verdict.images)
            advance(len(places))
    n_robust = int(results.robust(results.worst, epsilon).sum())
    return AttackedImages(torch.cat(clean), torch.cat(parts), space.labels(every), epsilon, n_robust)


def lesions(
    model: LoadedModel,
    subject: CutSubject,
    sites: Sequence[Site],
    attacked: AttackedImages,
    batch_size: int,
    progress: Progress,
    label: str,
) -> tuple[Lesion, ...]:
    """Remove each site individually and compare with the intact network, on clean and on attacked images.

    Sites that cannot be removed are skipped.
    """
    cuts = {}
    for site in sites:
        try:
            cuts[site.name] = cut(subject, [site])
        except NotApplicableError:
            continue
    evaluator = Evaluator(model, subject, list(cuts.values()))
    answers = []
    labels = attacked.labels.cpu().numpy()
    with progress.task(f"Lesions of {label}", 2 * len(labels)) as advance:
        for images in (attacked.clean, attacked.images):
            batches = [
                EvaluationBatch(x, y)
                for x, y in zip(
                    torch.split(images, batch_size), torch.split(attacked.labels, batch_size), strict=True
                )
            ]
            answers.append(evaluator.answer(batches, advance))
    (clean, *without), (hit, *without_hit) = answers
    return tuple(
        Lesion(name, compare(clean, answer, labels), compare(hit, attacked_answer, labels))
        for name, answer, attacked_answer in zip(cuts, without, without_hit, strict=True)
    )


def measure_channels(
    model: LoadedModel,
    subject: CutSubject,
    chosen: DossierChoice,
    space: AdversarialWorkspace,
    attacked: AttackedImages,
) -> Channels:
    """Measure the chosen channels of one convolution with all measures that apply to it.

    Raises NotApplicableError if its channels cannot be removed individually.
    """
    names = {f"{chosen.name}:{channel}" for channel in chosen.channels}
    sites = [site for site in find_sites(subject, get_structure("filter")) if site.name in names]
    config, progress = space.config, space.progress
    effects = lesions(
        model, subject, sites, attacked, config.batch_size, progress, f"channels of {chosen.name}"
    )
    if len(effects) != len(chosen.channels):
        raise NotApplicableError(f"Not every channel of {chosen.name} can be silenced.")
    rows = list(chosen.channels)
    measures: dict[str, Values] = {
        CLEAN_LOSS_INCREASE: np.array([effect.clean.loss_change for effect in effects]),
        ATTACKED_LOSS_INCREASE: np.array([effect.attacked.loss_change for effect in effects]),
        ACTIVATION_CHANGE: _activation_change(model, chosen.answers, attacked, config.batch_size)[rows],
        **_weights(chosen, rows),
    }
    activity = observe(model, space.images, (chosen.answers,), config.batch_size, progress).layers[
        chosen.answers
    ]
    measures |= {
        "mean maximum activation": activity.mean.double().numpy()[rows],
        "SD of maximum activation": activity.deviation.double().numpy()[rows],
        "activating images": activity.fired.double().numpy()[rows],
    }
    return Channels(chosen, effects, measures)


def _activation_change(model: LoadedModel, layer: str, attacked: AttackedImages, batch_size: int) -> Values:
    """Return the attack's change of each channel's map relative to the map's L2 norm, mean over images, (C,)."""
    parts = []
    for clean, hit in zip(
        torch.split(attacked.clean, batch_size), torch.split(attacked.images, batch_size), strict=True
    ):
        maps = [_map(model, layer, images) for images in (clean, hit)]
        parts.append(relative_change(*maps))
    values: Values = torch.cat(parts).mean(0).numpy()
    return values


def _map(model: LoadedModel, layer: str, images: Tensor) -> Tensor:
    with torch.no_grad(), captured(model.network, (layer,)) as outputs:
        model.module(images.contiguous(memory_format=model.memory_format))
    return outputs[layer][-1].float().cpu()


def relative_change(clean: Tensor, attacked: Tensor) -> Tensor:
    """Return |attacked − clean| / |clean| of every map, L2, (N, C) in float64; 0 where both maps are zero.

    Both are (N, C, H, W).
    """
    change = (attacked - clean).double().flatten(2).norm(dim=2)
    length = clean.double().flatten(2).norm(dim=2)
    return torch.where(change > 0, change / length.clamp_min(1e-12), 0.0)


def _weights(chosen: DossierChoice, rows: list[int]) -> dict[str, Values]:
    """Return the measures of the filters' weights, one value for each of ``rows``.

    ``filter norm`` is the L2 norm, ``maximum cosine similarity`` that to the most similar other filter, and
    ``spatial frequency``, for spatial kernels only, the mean frequency in cycles per pixel.
    """
    weight = chosen.convolution.module.weight
    bank = analyse(weight)
    measures = {"filter norm": bank.norms[rows], "maximum cosine similarity": bank.cosine[rows]}
    if max(weight.shape[2:]) > 1:
        measures["spatial frequency"] = frequencies(weight)[rows]
    return measures


def frequencies(weight: Tensor) -> Values:
    """Return each filter's mean spatial frequency in cycles per pixel, weighted by power, (C,).

    ``weight`` (C, C_in / groups, kh, kw). 0 is constant, 0.5 the finest stripes along an axis; NaN for a zero filter.
    """
    kernels = weight.detach().cpu().double().numpy()
    power = (np.abs(np.fft.fft2(kernels, s=(_PADDED, _PADDED))) ** 2).sum(1)
    axis = np.fft.fftfreq(_PADDED)
    radius = np.hypot(axis[:, None], axis[None, :])
    total = power.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        values: Values = np.where(total > 0, (power * radius).sum((1, 2)) / total, math.nan)
    return values
