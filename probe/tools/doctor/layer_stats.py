"""Statistics of one forward pass: the inputs and outputs of layers, and the units that never fire."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probe.tools.doctor.operations import inside

LAYER_DEAD, ALL_DEAD = 0.9, 0.5
"""Shares of dead units, in one layer or in all layers, that are too large. An untrained LeNet has up to 45% dead units in
a layer and 35% in all, and learns; a layer with only a tenth of its units is an unintended bottleneck."""

_RELUS = ("relu", "relu_", "relu6")


@dataclass(frozen=True)
class LayerActivity:
    """Input and output statistics of a module that owns weights of two or more dimensions.

    ``mean``, ``std``, ``low`` and ``high`` are of its input, ``rms`` is the root mean square of its output,
    ``weight`` the L2 norm of its weights. NaN if a value is not finite or not a tensor.
    """

    name: str
    mean: float
    std: float
    low: float
    high: float
    rms: float
    weight: float


@dataclass(frozen=True)
class Relu:
    """A ReLU (module or function) and how many of its ``units`` (channels) are 0 at every position of all images."""

    name: str
    dead: int
    units: int


@dataclass(frozen=True)
class LayerStats:
    """Layers and ReLUs in the order of their first call, and the shape of the output."""

    layers: tuple[LayerActivity, ...]
    relus: tuple[Relu, ...]
    shape: tuple[int, ...]
    images: int

    @property
    def dead(self) -> int:
        """The number of dead units."""
        return sum(relu.dead for relu in self.relus)

    @property
    def units(self) -> int:
        """The number of units with a ReLU."""
        return sum(relu.units for relu in self.relus)

    @property
    def mostly_dead(self) -> bool:
        """Whether a layer, or the network as a whole, has too many dead units."""
        worst = max((relu.dead / relu.units for relu in self.relus if relu.units), default=0.0)
        return worst >= LAYER_DEAD or (self.units > 0 and self.dead >= ALL_DEAD * self.units)


def take(module: nn.Module, forward: Callable[[], Tensor], n: int) -> LayerStats:
    """Run a forward pass on ``n`` images without gradients and return its statistics.

    The caller restores the buffers. A layer that is called several times is measured at its first call; every call of a
    ReLU is measured separately.
    """
    layers: dict[str, LayerActivity] = {}
    relus: list[Relu] = []
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for name, sub in module.named_modules():
            weights = [parameter for parameter in sub.parameters(recurse=False) if parameter.dim() >= 2]
            if weights:
                stack.callback(sub.register_forward_hook(_look(name, weights, layers)).remove)
        layer = stack.enter_context(inside(module))
        stack.enter_context(_Relus(layer, relus))
        output = forward()
    return LayerStats(tuple(layers.values()), _number_calls(relus), tuple(output.shape), n)


class _Relus(TorchFunctionMode):
    def __init__(self, layer: Callable[[], str | None], relus: list[Relu]) -> None:
        super().__init__()
        self.layer, self.relus = layer, relus

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in _RELUS and isinstance(result, Tensor) and result.dim() >= 2:
            fires = (result != 0).transpose(0, 1).flatten(1).any(1)
            self.relus.append(Relu(self.layer() or "", int((~fires).sum()), len(fires)))
        return result


def _number_calls(relus: list[Relu]) -> tuple[Relu, ...]:
    """Number the calls of each module or function, so that names are unique."""
    names = [relu.name or "forward" for relu in relus]
    call_counts: dict[str, int] = {}
    numbered = []
    for call, name in zip(relus, names, strict=True):
        call_counts[name] = call_counts.get(name, 0) + 1
        shown = f"{name} (call {call_counts[name]})" if names.count(name) > 1 else name
        numbered.append(Relu(shown, call.dead, call.units))
    return tuple(numbered)


def _look(name: str, weights: Sequence[Tensor], layers: dict[str, LayerActivity]) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if name in layers:
            return
        received = _wide(args[0]) if args and isinstance(args[0], Tensor) else None
        returned = _wide(output) if isinstance(output, Tensor) else None
        some = received is not None and received.numel() > 0
        layers[name] = LayerActivity(
            name,
            float(received.mean()) if some and received is not None else math.nan,
            float(received.std(correction=0)) if some and received is not None else math.nan,
            float(received.min()) if some and received is not None else math.nan,
            float(received.max()) if some and received is not None else math.nan,
            float(returned.square().mean().sqrt()) if returned is not None and returned.numel() else math.nan,
            math.hypot(*(float(torch.linalg.vector_norm(_wide(weight))) for weight in weights)),
        )

    return hook


def _wide(x: Tensor) -> Tensor:
    """Return the values in float64, where squares of large float32 values do not overflow (MPS has only float32)."""
    return x.detach().to(torch.float32 if x.device.type == "mps" else torch.float64)
