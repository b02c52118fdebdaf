"""Growth of the perturbation through the network, and the channels that change most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.attacks.families.apgd import boundary_start
from probe.core.blocks import Axis, Cell, Column, Figure, Series, Table
from probe.core.document import Section
from probe.core.errors import NotApplicableError
from probe.core.seeds import generator
from probe.core.state import captured, last_map
from probe.core.stats import t_interval
from probe.graph.trace.layers import feature_layers, stages
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace

_LAYERS = 8
_TOP = 5


@dataclass(frozen=True)
class _Moves:
    """Effect of the perturbations on one layer: relative distances (N,), and means per channel (N, C)."""

    adversarial: Tensor
    noise: Tensor
    clean_means: Tensor
    moved_means: Tensor


@VIEWS.register("channels", order=6)
def channels(space: AdversarialWorkspace) -> Section:
    """Follow the perturbation layer by layer, and list the channels that change most."""
    if len(space.sample) < 2:
        raise NotApplicableError(space.phrases.few)
    images = space.sampled[0]
    maps = feature_layers(space.spelled.network, space.spelled.normalise(images[:1]))
    names = stages(maps, _LAYERS) if maps else ()
    if not names:
        raise NotApplicableError("The network has no layer whose output is a map (N, C, H, W).")
    noisy = boundary_start(images, space.norm, space.epsilon, generator(space.config.seed, "channels"))
    moves = _observe(space, names, images, space.sample_full, noisy)
    figure = _figure(space, names, moves)
    table = _table(space, names, moves)
    first, last = (float(moves[name].adversarial.nanmean()) for name in (names[0], names[-1]))
    still = float(moves[names[-1]].noise.nanmean())
    finding = (
        f"Under attack the activations change by {_share(first)} of their norm at {names[0]} and by {_share(last)} at "
        f"{names[-1]}; noise of the same size changes the latter by {_share(still)} ({len(images)} images)."
    )
    return Section("channels", "Layer by layer", finding, (figure, table))


def _share(value: float) -> str:
    return f"{value:.0%}" if np.isfinite(value) else "an undefined part (no image activates it)"


def _observe(
    space: AdversarialWorkspace, names: tuple[str, ...], images: Tensor, moved: Tensor, noisy: Tensor
) -> dict[str, _Moves]:
    parts: dict[str, list[_Moves]] = {name: [] for name in names}
    rows = torch.arange(len(images), device=images.device)
    size = max(1, min(8, space.config.batch_size))
    for part in torch.split(rows, size):
        activations = [_activations(space, names, x[part]) for x in (images, moved, noisy)]
        for name in names:
            clean, adversarial, noise = (outputs[name].float() for outputs in activations)
            length = clean.flatten(1).norm(dim=1)
            # Without any activation there is nothing to be relative to.
            length = torch.where(length > 0, length, torch.nan)
            parts[name].append(
                _Moves(
                    (adversarial - clean).flatten(1).norm(dim=1) / length,
                    (noise - clean).flatten(1).norm(dim=1) / length,
                    clean.mean((2, 3)),
                    adversarial.mean((2, 3)),
                )
            )
    return {
        name: _Moves(*(torch.cat([getattr(p, f) for p in batches]).cpu() for f in _FIELDS))
        for name, batches in parts.items()
    }


_FIELDS = ("adversarial", "noise", "clean_means", "moved_means")


def _activations(space: AdversarialWorkspace, names: tuple[str, ...], images: Tensor) -> dict[str, Tensor]:
    """Return the last output of each layer."""
    with torch.no_grad(), captured(space.spelled.network, names) as outputs:
        space.spelled(images.contiguous(memory_format=space.model.memory_format))
    return {name: last_map(outputs[name]) for name in names}


def _figure(space: AdversarialWorkspace, names: tuple[str, ...], moves: dict[str, _Moves]) -> Figure:
    places = tuple(float(i) for i in range(len(names)))

    def series(label: str, field: str) -> Series:
        values = [getattr(moves[name], field).double().numpy() for name in names]
        known = [v[np.isfinite(v)] for v in values]
        intervals = [t_interval(v) if len(v) > 1 else (np.nan, np.nan) for v in known]
        return Series(
            label,
            places,
            tuple(float(v.mean()) if len(v) else np.nan for v in known),
            tuple(max(0.0, low) for low, _ in intervals),
            tuple(high for _, high in intervals),
        )

    return Figure(
        "How far activations move",
        "line",
        Axis("layer, first to last", categories=names),
        Axis("distance / norm of the activations"),
        "The L2 distance between a layer's activations with and without perturbation, relative to their norm; "
        f"mean over {len(moves[names[0]].noise)} images with its 95% t-interval. Where the curve "
        "of the attack rises and that of the noise does not, these layers change more under the attack than under noise.",
        (series("attack", "adversarial"), series("noise of the same size", "noise")),
    )


def _table(space: AdversarialWorkspace, names: tuple[str, ...], moves: dict[str, _Moves]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        move = moves[name]
        shift = move.moved_means - move.clean_means
        spread = move.clean_means.std(0).clamp_min(1e-12)
        score = (shift.abs().mean(0) / spread).numpy()
        for channel in np.argsort(-score)[:_TOP]:
            rows.append(
                (
                    name,
                    int(channel),
                    float(score[channel]),
                    float(move.clean_means[:, channel].mean()),
                    float(move.moved_means[:, channel].mean()),
                    float((shift[:, channel] > 0).float().mean()),
                )
            )
    return Table(
        "Channels that change most in this sample",
        (
            Column("Layer", help="The layer's name in the network."),
            Column("Channel", help="The channel's number, from 0."),
            Column(
                "Shift",
                help="Mean |change| of the channel's mean activation, in standard deviations over images.",
            ),
            Column("Clean", help="Mean activation over positions and images."),
            Column(
                "Under attack",
                help="Mean activation over positions and adversarial images.",
            ),
            Column("Raised in", proportion=True, help="Part of the images in which the channel rose."),
        ),
        tuple(rows),
        f"The {_TOP} largest shifts of each layer, over {len(moves[names[0]].noise)} images, without intervals: on other images "
        "the order can differ. A channel with a shift above 1 changed by more than images usually differ from one another. `probe "
        "filters --layers … --channels …` shows what these channels respond to.",
    )
