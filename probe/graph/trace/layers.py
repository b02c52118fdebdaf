"""The layers of a network: feature maps in execution order, stages, convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from probe.core.state import refuse_torchscript
from probe.graph.trace.trace import no_side_effects, shared_copy

Shape = tuple[int, int, int]
_SAME_SCALE = 0.75
_NO_WORK = ("Pool", "Dropout", "Identity", "Flatten", "Pad")


@dataclass(frozen=True)
class LayerInfo:
    """A layer whose output is a map: its name, output shape (C, H, W), class name, and nesting depth (1 = top)."""

    name: str
    shape: Shape
    kind: str
    depth: int

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the map."""
        return self.shape[1:]


@dataclass(frozen=True)
class ConvolutionInfo:
    """A convolution that the network calls: its name, the module itself, its output shape (C, H, W)."""

    name: str
    module: nn.Conv2d
    shape: Shape


def feature_layers(module: nn.Module, example: Tensor) -> tuple[LayerInfo, ...]:
    """Return every submodule whose output is a map (N, C, H, W), in the order in which they finish.

    ``example`` is an input (N, C, H, W). For a reused module, the last call counts. Outputs with the channels last are
    skipped. The module is not changed.
    """
    return tuple(
        LayerInfo(name, shape, type(sub).__name__, name.count(".") + 1)
        for name, sub, shape in _run(module, example)
    )


def convolutions(module: nn.Module, example: Tensor) -> tuple[ConvolutionInfo, ...]:
    """Return the two-dimensional convolutions that run for an input like ``example``, in execution order."""
    return tuple(
        ConvolutionInfo(name, sub, shape)
        for name, sub, shape in _run(module, example)
        if isinstance(sub, nn.Conv2d)
    )


def last_map_layer(module: nn.Module, example: Tensor) -> str:
    """Return the name of the last module that finishes and returns (N, C, H, W) with H, W > 1, or "".

    ``example`` is an input (N, C, H, W). The network is run in eval mode and is not changed.
    """
    refuse_torchscript(module)
    copy = shared_copy(module)
    finished: list[str] = []

    def noting(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                finished.append(name)

        return hook

    for name, sub in copy.named_modules():
        if name:
            sub.register_forward_hook(noting(name))
    with no_side_effects(copy):
        copy(example)
    return finished[-1] if finished else ""


def stages(infos: Sequence[LayerInfo], most: int = 5) -> tuple[str, ...]:
    """Choose layers that represent the stages of a network, first to last, at most ``most``.

    For each resolution this is the last of the outermost layers (resnet18: relu, layer1 … layer4). Resolutions that
    differ only by padding count as one; those of poolings only, and 1 × 1 maps, are skipped. If there
    is only one resolution, evenly spaced outermost layers are chosen.
    """
    outer = [info for info in _outermost(infos) if info.resolution != (1, 1)]
    groups = [group for group in _by_scale(outer) if not all(_idle(info) for info in group)] or _by_scale(
        outer
    )
    chosen = [group[-1] for group in groups] if len(groups) > 1 else _opened(outer, infos, most)
    return _spread([info.name for info in chosen], most)


def _outermost(infos: Sequence[LayerInfo]) -> list[LayerInfo]:
    """Return the layers that are not part of another layer, unless that contains a whole sequence of stages."""
    named = {info.name: info for info in infos}
    wrappers = {info.name for info in infos if _wraps(info, infos)}
    return [
        info
        for info in infos
        if info.name not in wrappers
        and not any(p in named and p not in wrappers for p in _parents(info.name))
    ]


def _wraps(info: LayerInfo, infos: Sequence[LayerInfo]) -> bool:
    """Return whether ``info`` contains every layer of some resolution other than its own."""
    prefix = info.name + "."
    inside = {other.resolution for other in infos if other.name.startswith(prefix)}
    outside = {other.resolution for other in infos if not other.name.startswith(prefix) and other != info}
    return bool(inside - outside - {info.resolution, (1, 1)})


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _opened(outer: list[LayerInfo], infos: Sequence[LayerInfo], most: int) -> list[LayerInfo]:
    """Replace containers by their contents until there are enough layers to choose from."""
    layers = [info for info in outer if not _idle(info)] or outer
    while len(layers) < most:
        parts = [_parts(info, infos) or [info] for info in layers]
        if all(len(part) == 1 for part in parts):
            break
        layers = [info for part in parts for info in part]
    return layers


def _parts(info: LayerInfo, infos: Sequence[LayerInfo]) -> list[LayerInfo]:
    inside = [i for i in infos if i.name.rpartition(".")[0] == info.name and i.resolution == info.resolution]
    return [part for part in inside if not _idle(part)]


def _by_scale(infos: Sequence[LayerInfo]) -> list[list[LayerInfo]]:
    """Group the layers by resolution, in the order of the last occurrence of each resolution."""
    last: dict[tuple[int, int], list[LayerInfo]] = {}
    for info in infos:
        group = last.pop(info.resolution, [])
        last[info.resolution] = [*group, info]
    groups: list[list[LayerInfo]] = []
    for (height, width), group in last.items():
        if groups:
            before = groups[-1][-1].resolution
            if all(_SAME_SCALE < new / old <= 1 for new, old in zip((height, width), before, strict=True)):
                groups[-1] += group
                continue
        groups.append(group)
    return groups


def _idle(info: LayerInfo) -> bool:
    return "Conv" not in info.kind and any(word in info.kind for word in _NO_WORK)


def _spread(names: Sequence[str], most: int) -> tuple[str, ...]:
    if len(names) <= most:
        return tuple(names)
    if most == 1:
        return (names[-1],)
    return tuple(names[round(i * (len(names) - 1) / (most - 1))] for i in range(most))


def _is_map(output: Tensor, example: Tensor) -> bool:
    """Return whether ``output`` is (N, C, H, W): the image's proportions fit at least as well as for (N, H, W, C)."""
    if output.dim() != 4 or output.shape[0] != example.shape[0] or not output.numel():
        return False
    _, first, second, third = output.shape
    aspect_ratio = example.shape[2] / example.shape[3]
    return abs(second / third - aspect_ratio) <= abs(first / second - aspect_ratio)


def _run(module: nn.Module, example: Tensor) -> list[tuple[str, nn.Module, Shape]]:
    refuse_torchscript(module)
    copy = shared_copy(module)
    shapes: dict[str, Shape] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: Any) -> None:
            if isinstance(output, Tensor) and _is_map(output, example):
                shapes.pop(name, None)
                _, channels, height, width = output.shape
                shapes[name] = (channels, height, width)

        return hook

    for name, sub in copy.named_modules():
        if name:
            sub.register_forward_hook(note(name))
    with no_side_effects(copy):
        copy(example.clone())
    return [(name, module.get_submodule(name), shape) for name, shape in shapes.items()]
