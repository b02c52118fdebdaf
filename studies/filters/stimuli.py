"""Synthetic stimuli and what channels are tuned to: gratings of every orientation, frequency and phase, forms, and colours.

Angles are in degrees. A grating's orientation is that of its stripes: 0 lies, 90 stands upright; its frequency is in
cycles per pixel. The response of a channel is that of the unit in the middle of its map, less the response to even grey.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studies.filters.forms import KINDS as FORMS
from studies.filters.forms import forms

Array = NDArray[np.float64]
Respond = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) in [0, 1] → responses (N, K)."""

ORIENTATIONS = tuple(15.0 * step for step in range(12))
PHASES = tuple(45.0 * step for step in range(8))
CONTRASTS = (0.125, 0.25, 0.5, 1.0)
HUES = tuple(30.0 * step for step in range(12))
SATURATIONS = (0.25, 0.5, 1.0)

KINDS = ("grating", *FORMS, "colour")
"""Kinds of stimuli; colours only where there are three channels."""

_FINEST, _COARSEST = 0.25, 2.0
"""The highest frequency in cycles per pixel, and the lowest in cycles per image."""

_FREQUENCIES = 6
_GREY = 0.5
_VALUE = 0.5
"""The mean of the channels of every colour: hues differ in nothing else."""


def frequencies(size: tuple[int, int]) -> tuple[float, ...]:
    """Return six frequencies for images (H, W), evenly on a logarithmic scale from two cycles an image to 1/4 per pixel."""
    low = min(_COARSEST / min(size), _FINEST / 2)
    return tuple(float(f) for f in np.geomspace(low, _FINEST, _FREQUENCIES))


def grating(
    size: tuple[int, int, int], orientation: float, frequency: float, phase: float, contrast: float = 1.0
) -> Tensor:
    """Return a grating (C, H, W) in [0, 1] around grey; with phase 0 the middle of the image lies on a bright stripe."""
    channels, height, width = size
    rows = torch.arange(height, dtype=torch.float64) - height // 2
    columns = torch.arange(width, dtype=torch.float64) - width // 2
    # The wave runs across the stripes.
    angle = math.radians(orientation)
    across = columns[None, :] * math.sin(angle) + rows[:, None] * math.cos(angle)
    wave = torch.cos(2 * math.pi * frequency * across + math.radians(phase))
    return (_GREY + _GREY * contrast * wave).float().expand(channels, height, width).contiguous()


def colour(size: tuple[int, int, int], hue: float, saturation: float = 1.0) -> Tensor:
    """Return an even field (3, H, W) of a colour.

    Colours of all hues have the same mean over R, G and B, and those of one saturation the same distance from grey.
    """
    pure = np.array(colorsys.hsv_to_rgb(hue / 360, 1.0, 1.0))
    shift = pure - pure.mean()
    # Pure red, green and blue reach the edge of the range first: 1 − 1/3 on one channel, of a length of √(2/3).
    reach = _VALUE / math.sqrt(2 / 3)
    field = torch.tensor(_VALUE + saturation * reach * shift / np.linalg.norm(shift), dtype=torch.float32)
    return field[:, None, None].expand(3, size[1], size[2]).contiguous()


@dataclass(frozen=True)
class Tuning:
    """What K channels are tuned to; NaN where a channel answers no stimulus more than grey.

    ``curves`` (K, orientations, frequencies): the largest response over the phases. ``orientation``, ``frequency`` (K,):
    those of the largest; ``selectivity`` (K,): |Σ R e^{2iθ}| / Σ R over the orientations at that frequency, 0 for a channel
    that answers all alike, 1 for one orientation only. ``modulation`` (K,): the amplitude of the response's first harmonic
    over the phases, relative to its mean: a rectified linear unit has about π/2 (a simple cell), one that does not mind the
    phase 0 (a complex cell); the border is drawn at 1 (Skottun et al. 1991). ``contrasts`` (K, contrasts): the response to
    the preferred grating. ``width`` (K,): degrees for which the response at the preferred frequency is above half of its
    largest, 180 where it is so everywhere. ``kinds`` (K, kinds of ``KINDS``): the largest response to each kind of stimulus.
    ``hue`` (K,) and ``hue_selectivity``: the same for colours, and ``saturations`` (K, saturations) the response to the
    preferred hue; None without three colour channels.
    """

    frequencies: tuple[float, ...]
    curves: Array
    orientation: Array
    frequency: Array
    selectivity: Array
    modulation: Array
    contrasts: Array
    width: Array
    kinds: Array
    hue: Array | None
    hue_selectivity: Array | None
    saturations: Array | None

    def part(self, channels: slice) -> Tuning:
        """Return the tuning of some of the channels."""
        found: dict[str, Any] = {
            one.name: value[channels]
            for one in fields(self)
            if isinstance(value := getattr(self, one.name), np.ndarray)
        }
        return replace(self, **found)


def measure(
    respond: Respond,
    size: tuple[int, int, int],
    batch_size: int,
    done: Callable[[int], None] = lambda _: None,
) -> Tuning:
    """Show every stimulus and return the tuning of all channels. ``done`` is called with the number of images shown."""
    rates = frequencies(size[1:])

    def run(stimuli: Sequence[Callable[[], Tensor]]) -> Array:
        parts = []
        for start in range(0, len(stimuli), batch_size):
            images = torch.stack([make() for make in stimuli[start : start + batch_size]])
            parts.append(respond(images).double().cpu().numpy())
            done(len(images))
        return np.concatenate(parts)

    grey = run([partial(torch.full, size, _GREY)])[0]
    shown = [(o, f, p) for o in ORIENTATIONS for f in rates for p in PHASES]
    responses = run([partial(grating, size, *each) for each in shown]) - grey
    responses = responses.reshape(len(ORIENTATIONS), len(rates), len(PHASES), -1)
    curves = np.moveaxis(responses.max(2), -1, 0)
    k = np.arange(len(curves))
    flat = curves.reshape(len(curves), -1).argmax(1)
    best_o, best_f = flat // len(rates), flat % len(rates)
    silent = curves.reshape(len(curves), -1).max(1) <= 0
    over_phases = np.moveaxis(responses, -1, 0)[k, best_o, best_f]
    strongest = over_phases.argmax(1)
    best = sorted({(int(o), int(f), int(p)) for o, f, p in zip(best_o, best_f, strongest, strict=True)})
    weaker = [(place, c) for place in best for c in CONTRASTS]
    answers = run(
        [partial(grating, size, ORIENTATIONS[o], rates[f], PHASES[p], c) for (o, f, p), c in weaker]
    )
    answers = (answers - grey).reshape(len(best), len(CONTRASTS), -1)
    at = [best.index((int(o), int(f), int(p))) for o, f, p in zip(best_o, best_f, strongest, strict=True)]
    kinds = _kinds(run, size, curves.reshape(len(curves), -1).max(1), grey)
    hue = hue_selectivity = saturations = None
    if size[0] == 3:
        every = [partial(colour, size, hue, saturation) for saturation in SATURATIONS for hue in HUES]
        shades = (run(every) - grey).reshape(len(SATURATIONS), len(HUES), -1)
        colours = shades[-1].T
        saturations = shades[:, colours.argmax(1), k].T
        kinds = np.concatenate([kinds, colours.max(1)[:, None]], 1)
        hue = np.where(colours.max(1) > 0, np.array(HUES)[colours.argmax(1)], np.nan)
        hue_selectivity = selectivity(colours, np.array(HUES), turns=1)
    return Tuning(
        frequencies=rates,
        curves=curves,
        orientation=np.where(silent, np.nan, np.array(ORIENTATIONS)[best_o]),
        frequency=np.where(silent, np.nan, np.array(rates)[best_f]),
        selectivity=selectivity(curves[k, :, best_f], np.array(ORIENTATIONS), turns=2),
        modulation=np.where(silent, np.nan, modulation(over_phases)),
        contrasts=answers[at, :, k],
        width=half_width(curves[k, :, best_f]),
        kinds=kinds,
        hue=hue,
        hue_selectivity=hue_selectivity,
        saturations=saturations,
    )


def selectivity(responses: Array, angles: Array, turns: int) -> Array:
    """Return |Σ R e^{i·turns·θ}| / Σ R of responses (K, angles), those below 0 counted as 0; NaN where all are (K,)."""
    positive = np.maximum(responses, 0)
    total = positive.sum(1)
    vector = np.abs((positive * np.exp(1j * turns * np.radians(angles))).sum(1))
    return np.where(total > 0, vector / np.where(total > 0, total, 1), np.nan)


def _kinds(
    run: Callable[[list[Callable[[], Tensor]]], Array],
    size: tuple[int, int, int],
    gratings: Array,
    grey: Array,
) -> Array:
    """Return the largest response (K, kinds) to gratings and to each kind of form."""
    shown = list(forms(size))
    answers = run([make for _, make in shown]) - grey
    names = np.array([kind for kind, _ in shown])
    return np.stack([gratings, *(answers[names == kind].max(0) for kind in FORMS)], 1)


def half_width(responses: Array) -> Array:
    """Return the degrees (K,) around the peak of responses (K, orientations) above half of it, interpolated; NaN without a peak above 0."""
    count = responses.shape[1]
    step = 180.0 / count
    found = []
    for row in responses:
        peak, half = int(row.argmax()), row.max() / 2
        total = 0.0
        if half <= 0:
            found.append(float("nan"))
            continue
        for sign in (1, -1):
            turned = np.array([row[(peak + sign * place) % count] for place in range(count // 2 + 1)])
            below = np.flatnonzero(turned < half)
            if len(below) == 0:
                total += 90.0
                continue
            end = below[0]
            total += step * (end - 1 + (turned[end - 1] - half) / (turned[end - 1] - turned[end]))
        found.append(total)
    return np.array(found)


def modulation(responses: Array) -> Array:
    """Return the first harmonic's amplitude over the mean of responses (K, phases), those below 0 counted as 0, (K,)."""
    positive = np.maximum(responses, 0)
    mean = positive.mean(1)
    wave = np.abs((positive * np.exp(1j * np.radians(np.array(PHASES)))).mean(1)) * 2
    return np.where(mean > 0, wave / np.where(mean > 0, mean, 1), np.nan)


def count(size: tuple[int, int, int]) -> int:
    """Return how many images ``measure`` shows at least."""
    colours = len(HUES) * len(SATURATIONS) if size[0] == 3 else 0
    return 1 + len(ORIENTATIONS) * _FREQUENCIES * len(PHASES) + len(list(forms(size))) + colours
