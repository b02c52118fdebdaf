"""Automatic choice of the layers, channels and images of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probe.core.errors import NotApplicableError, UsageError, unknown
from probe.core.seeds import generator
from probe.graph.trace.layers import LayerInfo, stages
from studies.filters.observe import LayerObservation, Observations

AUTO_LAYERS = 5
AUTO_CHANNELS = 5


def choose_layers(maps: Sequence[LayerInfo], requested: Sequence[str] | None) -> tuple[str, ...]:
    """Return the wanted layers in execution order, or the last layer of every resolution.

    Raises UsageError, with similar names, for a name that is not a layer with a map.
    """
    known = [info.name for info in maps]
    if not known:
        raise NotApplicableError("The network has no layer whose output is a map (N, C, H, W).")
    if requested is None:
        return stages(maps, AUTO_LAYERS)
    for name in requested:
        if name not in known:
            raise unknown("layer with a map", name, known)
    return tuple(name for name in known if name in set(requested))


def choose_channels(
    observed: LayerObservation, requested: Sequence[int] | None, layer: str
) -> tuple[int, ...]:
    """Return the wanted channels, or those whose strongest response exceeds their mean peak by most.

    Without ``requested`` channels are ranked by (largest − mean) / standard deviation of the images' peaks. Raises
    UsageError for a number outside the layer.
    """
    channels = observed.values.shape[1]
    if requested is not None:
        for channel in requested:
            if not 0 <= channel < channels:
                raise UsageError(
                    f"Layer '{layer}' has channels 0 to {channels - 1}; there is no channel {channel}."
                )
        return tuple(dict.fromkeys(requested))
    score = standout(observed.values[0], observed)
    return tuple(score.sort(descending=True, stable=True).indices[:AUTO_CHANNELS].sort().values.tolist())


def standout(values: Tensor, observed: LayerObservation) -> Tensor:
    """Return how many standard deviations each channel's value lies above its mean peak; 0 for constant channels."""
    return torch.where(
        observed.deviation > 0, (values - observed.mean) / observed.deviation.clamp_min(1e-12), 0.0
    )


def choose_images(observed: Observations, requested: int | Sequence[int], seed: int) -> tuple[int, ...]:
    """Return the wanted images, or a seeded draw that includes a misclassified image if there is one.

    Raises UsageError for an index that is not among the readable images.
    """
    readable = observed.indices.tolist()
    if not isinstance(requested, int):
        for index in requested:
            if index not in set(readable):
                raise UsageError(f"There is no readable image {index}; indices go from 0 to {max(readable)}.")
        return tuple(dict.fromkeys(requested))
    if requested < 1:
        raise UsageError(f"--images must be at least 1; got {requested}.")
    order = torch.randperm(len(readable), generator=generator(seed, "shown")).tolist()
    picked = order[:requested]
    wrong = [p for p in order if observed.labels[p] >= 0 and observed.labels[p] != observed.predictions[p]]
    if wrong and requested > 1 and not set(wrong) & set(picked):
        picked[-1] = wrong[0]
    return tuple(sorted(readable[p] for p in picked))


def answering_layer(network: nn.Module, maps: Sequence[LayerInfo], convolution: str) -> str:
    """Return the layer at which a convolution's filters fire: the norm that runs right after it, or itself.

    The usual activations keep the sign of their input, so a filter fires where this layer is positive.
    """
    names = [info.name for info in maps]
    at = names.index(convolution)
    own = maps[at].shape
    for info in maps[at + 1 : at + 2]:
        after = network.get_submodule(info.name)
        if info.shape == own and _is_norm(after):
            return info.name
    return convolution


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()
