"""The part of a network that a picture is optimised for, and the size of that picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.graph.edit.fold import folded
from probe.graph.edit.input_gradient import slow_in_bf16, with_quick_gradients
from probe.graph.edit.truncate import truncate
from probe.graph.trace.trace import TraceError, trace
from probe.models.loaded import LoadedModel
from studies.filters.optimise.rendering import PictureSubject

_UNITS = 12
"""How many units of a map a picture should span along each side, where the limits below allow it."""

_SMALLEST, _LARGEST, _STEP = 64, 112, 16
_FEWEST_UNITS = 3


@dataclass(frozen=True)
class LayerSubject:
    """A layer below its activation (``subject``), the layer's own output, the picture's (H, W).

    ``stride`` is the distance in pixels between neighbouring units of the map.
    """

    subject: PictureSubject
    output: nn.Module
    size: tuple[int, int]
    stride: float


def layer_subject(model: LoadedModel, traced: nn.Module, layer: str, example: Tensor) -> LayerSubject:
    """Cut ``model`` above ``layer``; ``traced`` is its graph for ``example`` (1, C, H, W).

    The picture is as small as the layer allows and at most 112 pixels; the model's own input size where
    that is smaller or where the layer cannot be run on anything else. Raises NotApplicableError as ``truncate``.
    """
    name = f"network.{layer}"
    below = truncate(traced, name, example, before_activation=True)
    output = truncate(traced, name, example)
    units = _map_size(output, example)
    channels = _shape(output, example)[1]
    stride = max(side / max(count, 1) for side, count in zip(example.shape[2:], units, strict=True))
    # By shape, because a picture must not hang on what a layer is called.
    shape = "×".join(map(str, (channels, *units)))
    return LayerSubject(_subject(model, below, shape), output, picture_size(output, example), stride)


def class_subject(model: LoadedModel, traced: nn.Module) -> PictureSubject:
    """Return the whole network, for its logits."""
    return _subject(model, traced, "logits")


def traced_model(model: LoadedModel, example: Tensor) -> nn.Module:
    """Return the model's graph, so that it is traced once for all layers; the module itself if it has none."""
    try:
        return trace(model.module, example)
    except TraceError:
        return model.module


def picture_size(features: nn.Module, example: Tensor) -> tuple[int, int]:
    """Choose the (H, W) of a picture for a layer that gives maps, seen at the model's own input size.

    About 12 units of the map a side, between 64 and 112 pixels in steps of 16, never more than the model's
    input and never so few that the map has less than 3 units a side.
    """
    own = int(example.shape[2]), int(example.shape[3])
    units = _map_size(features, example)
    size = tuple(min(side, _side(side / max(count, 1))) for side, count in zip(own, units, strict=True))
    requested = size[0], size[1]
    if requested == own:
        return own
    try:
        result = _map_size(features, example[:, :, : requested[0], : requested[1]])
    except (RuntimeError, ValueError, AssertionError, IndexError):
        # Some layers only take the size that the network was built for.
        return own
    return requested if min(result) >= min(_FEWEST_UNITS, *units) else own


def _side(stride: float) -> int:
    steps = -(-_UNITS * stride // _STEP)
    return int(min(max(steps * _STEP, _SMALLEST), _LARGEST))


def _map_size(features: nn.Module, example: Tensor) -> tuple[int, int]:
    shape = _shape(features, example)
    return shape[2], shape[3]


def _shape(features: nn.Module, example: Tensor) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(features(example.contiguous()).shape)


def _subject(model: LoadedModel, features: nn.Module, name: str) -> PictureSubject:
    quick = folded(features)
    if quick is not features:  # then it is a graph of copies
        with_quick_gradients(quick)
    return PictureSubject(features, name, quick, model.device, model.memory_format)


def half_helps(module: nn.Module, device: torch.device | str) -> bool:
    """Tell whether bfloat16 makes ``module`` faster: a CPU with bfloat16 arithmetic, and convolutions.

    On such processors convolutions run at about twice the speed of float32; the gradients of depthwise ones do only
    with ``with_quick_gradients``.
    """
    if torch.device(device).type != "cpu" or not (_has("avx512_bf16") or _has("amx_bf16")):
        return False
    return any(isinstance(sub, nn.Conv2d) for sub in module.modules()) and not slow_in_bf16(module)


def _has(capability: str) -> bool:
    known: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get(capability, False))
