"""Pooling: maximum, average, or plain striding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, fx, nn

from probe.graph.edit.joins import only_for_gates
from probe.graph.edit.structure import STRUCTURES, ModuleReplacement

To = Literal["other", "max", "average", "strided"]


@STRUCTURES.register("pool")
@dataclass(frozen=True)
class Pool(ModuleReplacement):
    """A pooling, replaced by the other kind (max ↔ average), or with ``to``: max, average or strided.

    The size of the output stays the same. ``strided`` uses the value at the centre of each window, without pooling.
    """

    to: To = "other"
    name: ClassVar[str] = "pool"

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:lenet"

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid kind."""
        if self.to not in ("other", "max", "average", "strided"):
            raise ValueError(f"to must be other, max, average or strided, not {self.to}")

    def replacement(self, module: nn.Module) -> nn.Module | None:
        """Return a pooling of the requested kind with the same geometry, None if it already is of that kind."""
        kind = _kind(module)
        if kind is None:
            return None
        new_kind = {"max": "average", "average": "max"}[kind] if self.to == "other" else self.to
        return None if new_kind == kind else _made(module, new_kind)

    def excluded(self, graph: fx.GraphModule) -> frozenset[fx.Node]:
        """Return poolings that only squeeze a map for a gate."""
        return only_for_gates(graph)

    def form(self, module: nn.Module) -> str:
        """Describe the replacement: old → new class."""
        new = self.replacement(module)
        return f"{type(module).__name__} → {type(new).__name__}"


class Strided(nn.Module):
    """Return the value at the centre of each window; ``size`` and ``stride`` are (height, width)."""

    def __init__(
        self, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], ceil_mode: bool
    ) -> None:
        super().__init__()
        self.shaper = nn.MaxPool2d(size, stride, padding, ceil_mode=ceil_mode)
        self.offset = tuple((k - 1) // 2 - p for k, p in zip(size, padding, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H′, W′) values of ``x`` (N, C, H, W)."""
        target = self.shaper(torch.empty(1, 1, *x.shape[2:], device="meta")).shape[2:]
        for dim, (count, stride, offset) in enumerate(
            zip(target, _pair(self.shaper.stride), self.offset, strict=True), start=2
        ):
            places = torch.arange(count, device=x.device) * stride + offset
            x = x.index_select(dim, places.clamp(0, x.shape[dim] - 1))
        return x


class AdaptiveStrided(nn.Module):
    """Return the value at the centre of each window of an adaptive pooling."""

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = _pair(output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, *output_size) values of ``x``."""
        for dim, wanted in enumerate(self.output_size, start=2):
            count = x.shape[dim] if wanted is None else wanted
            places = torch.arange(count, device=x.device) * x.shape[dim] // count + x.shape[dim] // count // 2
            x = x.index_select(dim, places.clamp(0, x.shape[dim] - 1))
        return x


def _kind(module: nn.Module) -> str | None:
    if isinstance(module, nn.MaxPool2d | nn.AdaptiveMaxPool2d):
        return None if module.return_indices else "max"
    return "average" if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d) else None


def _made(module: nn.Module, new_kind: str) -> nn.Module | None:
    if isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
        kinds: dict[str, Any] = {
            "max": nn.AdaptiveMaxPool2d,
            "average": nn.AdaptiveAvgPool2d,
            "strided": AdaptiveStrided,
        }
        new: nn.Module = kinds[new_kind](module.output_size)
        return new
    if not isinstance(module, nn.MaxPool2d | nn.AvgPool2d) or _pair(getattr(module, "dilation", 1)) != (1, 1):
        return None
    size, stride, padding = _pair(module.kernel_size), _pair(module.stride), _pair(module.padding)
    if new_kind == "max":
        return nn.MaxPool2d(size, stride, padding, ceil_mode=module.ceil_mode)
    if new_kind == "average":
        # Padding is not part of the image and must not affect the mean.
        return nn.AvgPool2d(size, stride, padding, ceil_mode=module.ceil_mode, count_include_pad=False)
    return Strided(size, stride, padding, module.ceil_mode)


def _pair(value: Any) -> tuple[Any, Any]:
    return (value, value) if isinstance(value, int) or value is None else (value[0], value[1])
