"""Stimuli: which orientation, frequency, phase, contrast, form and colour each channel is tuned to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from probe.core.blocks import Axis, Block, Cell, Column, Figure, Series, Table
from probe.core.document import Result, Section
from probe.core.state import captured, last_map
from studies.filters import stimuli as shown
from studies.filters.forms import KINDS as FORMS
from studies.filters.registries import VIEWS
from studies.filters.workspace import FiltersWorkspace

_LISTED = 64
"""Channels of a layer that its table lists at most; results.json has the medians of all."""

_SELECTIVE = 0.3
"""The orientation selectivity from which a channel counts as tuned to an orientation."""


@VIEWS.register("stimuli", order=10, optional=True, passes=(1100, 0))
def stimuli(space: FiltersWorkspace) -> Section:
    """Show gratings, forms and colours, and measure what each channel is tuned to."""
    size = space.model.input.size
    blocks: list[Block] = []
    results: list[Result] = []
    findings: list[str] = []
    with space.progress.task("Stimuli", shown.count(size)) as advance:
        every = shown.measure(partial(_middle, space), size, space.config.batch_size, advance)
    start = 0
    for layer in space.layers:
        stop = start + len(space.observed.layers[layer].mean)
        tuning = every.part(slice(start, stop))
        start = stop
        blocks += [
            _orientations(layer, tuning, space.channels[layer]),
            _frequencies(layer, tuning, space.channels[layer]),
            _preferred(layer, tuning),
            _table(layer, tuning),
        ]
        found = np.isfinite(tuning.selectivity)
        kinds = [_kind(row)[0] for row in tuning.kinds]
        tuned = int((tuning.selectivity[found] >= _SELECTIVE).sum())
        results += [
            Result.proportion(f"stimuli.{layer}.oriented", tuned, len(found)),
            Result(f"stimuli.{layer}.selectivity", _median(tuning.selectivity), int(found.sum())),
            Result(f"stimuli.{layer}.modulation", _median(tuning.modulation), int(found.sum())),
            Result(f"stimuli.{layer}.width", _median(tuning.width), int(found.sum()), unit="°"),
            *(
                Result.proportion(f"stimuli.{layer}.answers.{kind}", kinds.count(kind), len(kinds))
                for kind in shown.KINDS[: tuning.kinds.shape[1]]
            ),
        ]
        findings.append(
            f"{tuned} of {len(found)} channels of {layer} are tuned to an orientation (selectivity ≥ {_SELECTIVE})."
        )
    return Section(
        "stimuli",
        "Tuning to stimuli",
        f"{len(shown.ORIENTATIONS)} orientations × {len(shown.frequencies(size[1:]))} frequencies × {len(shown.PHASES)} phases"
        + f", {', '.join(FORMS)} in three sizes, bright and dark"
        + (f", {len(shown.HUES)} hues × {len(shown.SATURATIONS)} saturations" if size[0] == 3 else "")
        + ", and the preferred grating at four contrasts; the response is that of the unit in the middle, less that to grey.",
        tuple(blocks),
        results=tuple(results),
        findings=tuple(findings[:1]),
    )


def _middle(space: FiltersWorkspace, images: Tensor) -> Tensor:
    """Return the activations of all layers' channels in the middle of their maps, (N, channels of all layers)."""
    with torch.inference_mode(), captured(space.model.network, space.layers) as outputs:
        space.model.module(images.to(space.model.device, memory_format=space.model.memory_format))
        maps = [last_map(outputs[layer]).float() for layer in space.layers]
    return torch.cat([each[:, :, each.shape[2] // 2, each.shape[3] // 2] for each in maps], 1)


def orientation_title(layer: str) -> str:
    """Return the title of the chart of a layer's tuning to orientation; its series are called ``ch 17``."""
    return f"{layer}: tuning to orientation"


def _orientations(layer: str, tuning: shown.Tuning, channels: Sequence[int]) -> Figure:
    # Stripes look the same after half a turn.
    angles = (*shown.ORIENTATIONS, *(angle + 180 for angle in shown.ORIENTATIONS))
    series = []
    for channel in channels:
        curve = tuning.curves[channel]
        best = _relative(curve[:, int(curve.max(0).argmax())])
        series.append(Series(f"ch {channel}", angles, best + best))
    reading = (
        "The largest response over the phases at the channel's preferred frequency, relative to the channel's largest, at "
        "the angle of the stripes and, as they look the same turned by half, opposite to it. A narrow bow tie is a preferred "
        "orientation; a circle answers all alike, or to something that no grating has; responses below that to grey lie in the centre."
    )
    return Figure(
        orientation_title(layer),
        "polar",
        Axis("orientation of the stripes (0° lies, 90° stands)"),
        Axis("relative response"),
        reading,
        tuple(series),
    )


def _frequencies(layer: str, tuning: shown.Tuning, channels: Sequence[int]) -> Figure:
    series = []
    for channel in channels:
        curve = tuning.curves[channel]
        best = _relative(curve[int(curve.max(1).argmax())])
        series.append(Series(f"ch {channel}", tuning.frequencies, best))
    return Figure(
        f"{layer}: tuning to frequency",
        "line",
        Axis("cycles per pixel", "log"),
        Axis("relative response"),
        "The largest response over the phases at the channel's preferred orientation, relative to the channel's largest. Left are "
        "broad stripes, right fine ones.",
        tuple(series),
    )


def _relative(responses: shown.Array) -> tuple[float, ...]:
    scale = float(np.abs(responses).max()) or 1.0
    return tuple(float(value / scale) for value in responses)


def _table(layer: str, tuning: shown.Tuning) -> Table:
    columns = [
        Column("channel"),
        Column("orientation", "°", "Of the stripes: 0 lies, 90 stands upright."),
        Column("frequency", "1/px", "Cycles per pixel of the preferred grating."),
        Column(
            "width",
            "°",
            "Over which orientations the response is above half of the largest; 180: all.",
            digits=3,
        ),
        Column("selectivity", help="0: answers every orientation alike; 1: one only."),
        Column(
            "modulation",
            help="First harmonic over mean as the phase moves: above 1 like a simple cell, below like a complex one.",
        ),
        Column(
            "half contrast", help="The least contrast shown that gives half of the response to full contrast."
        ),
    ]
    if tuning.hue is not None:
        columns += [
            Column("hue", "°", "0 red, 120 green, 240 blue."),
            Column("hue selectivity", help="0: answers every hue alike; 1: one only."),
        ]
    columns += [
        Column("answers most", help="The kind of stimulus with the largest response."),
        Column("lead", help="By which part of that response the next kind is behind; 0: tied."),
    ]
    order = np.argsort(-np.nan_to_num(tuning.selectivity, nan=-1), kind="stable")[:_LISTED]
    rows: list[tuple[Cell, ...]] = []
    for channel in order:
        row: list[Cell] = [int(channel)]
        row += [
            _cell(values[channel])
            for values in (tuning.orientation, tuning.frequency, tuning.width, tuning.selectivity)
        ]
        row += [_cell(tuning.modulation[channel]), _half(tuning.contrasts[channel])]
        if tuning.hue is not None and tuning.hue_selectivity is not None:
            row += [_cell(tuning.hue[channel]), _cell(tuning.hue_selectivity[channel])]
        row += _kind(tuning.kinds[channel])
        rows.append(tuple(row))
    return Table(
        f"{layer}: tuning of channels", tuple(columns), tuple(rows), "The most selective channels first."
    )


def _kind(responses: shown.Array) -> tuple[str | None, float | None]:
    """Return the kind with the largest of the ``responses`` and its lead, None where there is none above that to grey."""
    best = int(responses.argmax())
    if responses[best] <= 0:
        return None, None
    rest = max(float(np.delete(responses, best).max()), 0.0)
    return shown.KINDS[best], 1 - rest / float(responses[best])


def _preferred(layer: str, tuning: shown.Tuning) -> Figure:
    """Draw how many channels prefer each orientation, weighted alike, among those that are tuned to one."""
    tuned = np.nan_to_num(tuning.selectivity, nan=0.0) >= _SELECTIVE
    counts = [int((tuning.orientation[tuned] == angle).sum()) for angle in shown.ORIENTATIONS]
    return Figure(
        f"{layer}: preferred orientations",
        "bar",
        Axis(
            "orientation of the stripes (0° lies, 90° stands)",
            categories=tuple(f"{a:g}°" for a in shown.ORIENTATIONS),
        ),
        Axis("channels"),
        f"Of the {int(tuned.sum())} channels with a selectivity of {_SELECTIVE} and more, how many prefer each orientation. Peaks at 0° "
        "and 90° may come from the pixels' grid as well as from what the network was trained on.",
        (Series("channels", tuple(float(n) for n in range(len(counts))), tuple(float(c) for c in counts)),),
    )


def _half(responses: shown.Array) -> float | None:
    """Return the least contrast with half of the response at full contrast, None where there is no response."""
    if responses[-1] <= 0:
        return None
    return next(c for c, value in zip(shown.CONTRASTS, responses, strict=True) if value >= responses[-1] / 2)


def _cell(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _median(values: shown.Array) -> float | None:
    found = values[np.isfinite(values)]
    return float(np.median(found)) if len(found) else None
