"""Activations, poolings and dropout: recognition of functions, and the equivalent modules."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from probe.graph.trace.leaves import TIMM_ACTIVATIONS, is_dropout_like

Maker = Callable[..., nn.Module | None]

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU,
    nn.LogSigmoid, nn.LogSoftmax, nn.Mish, nn.PReLU, nn.RReLU, nn.ReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softmax,
    nn.Softmax2d, nn.Softmin, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip


class UpperClamp(nn.Hardtanh):
    """Clip values above ``bound``; after a ReLU this gives ReLU6."""

    def __init__(self, bound: float) -> None:
        super().__init__(-float("inf"), float(bound))


class Clamp(nn.Module):
    """Clip values to [low, high]; None means no bound."""

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, input: Tensor) -> Tensor:
        """Return the clamped input."""
        return input.clamp(self.low, self.high)


def clamp(min: Any = None, max: Any = None) -> nn.Module | None:
    """Return a module that clamps, a ReLU if the lower bound is 0; None if a bound is a tensor."""
    if not all(bound is None or isinstance(bound, Real) for bound in (min, max)):
        return None
    if min is None:
        return UpperClamp(max)
    if min != 0:
        return Clamp(min, max)
    return nn.ReLU() if max is None else nn.Sequential(nn.ReLU(), UpperClamp(max))


def _plain(kind: type[nn.Module], *names: str) -> Maker:
    """Return a constructor for functions whose options are the module's arguments ``names``, in this order."""

    def make(*values: Any, inplace: bool = False, **options: Any) -> nn.Module:
        return kind(**dict(zip(names, values, strict=False)), **options)

    return make


def _hardtanh(min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> nn.Module | None:
    return clamp(min_val, max_val) if min_val == 0 else nn.Hardtanh(min_val, max_val)


def _threshold(threshold: float, value: float, inplace: bool = False) -> nn.Module:
    return nn.ReLU() if threshold == value == 0 else nn.Threshold(threshold, value)


def _rrelu(lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False) -> Any:
    return None if training else nn.RReLU(lower, upper)


def _softmax(kind: type[nn.Module]) -> Maker:
    def make(dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> nn.Module | None:
        return kind(dim) if dtype is None and dim is not None else None

    return make


def _dropout(kind: type[nn.Module]) -> Maker:
    def make(
        p: float = 0.5, training: bool = True, inplace: bool = False, train: bool = True
    ) -> nn.Module | None:
        return None if training and train else kind(p)

    return make


def _max_pool(kind: type[nn.Module]) -> Maker:
    def make(
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> nn.Module | None:
        if return_indices:
            return None
        return kind(kernel_size, stride or None, padding, dilation, ceil_mode=ceil_mode)

    return make


def _avg_pool(kind: type[nn.Module]) -> Maker:
    def make(kernel_size: Any, stride: Any = None, *rest: Any, **options: Any) -> nn.Module:
        return kind(kernel_size, stride or None, *rest, **options)

    return make


def _adaptive_max_pool(kind: type[nn.Module]) -> Maker:
    def make(output_size: Any, return_indices: bool = False) -> nn.Module | None:
        return None if return_indices else kind(output_size)

    return make


_ACTIVATION_MAKERS: dict[str, Maker] = {
    "celu": _plain(nn.CELU, "alpha"),
    "clamp": clamp,
    "clamp_max": lambda max: clamp(None, max),
    "clamp_min": lambda min: clamp(min, None),
    "clip": clamp,
    "elu": _plain(nn.ELU, "alpha"),
    "gelu": _plain(nn.GELU, "approximate"),
    "glu": _plain(nn.GLU, "dim"),
    "hardshrink": _plain(nn.Hardshrink, "lambd"),
    "hardsigmoid": _plain(nn.Hardsigmoid),
    "hardswish": _plain(nn.Hardswish),
    "hardtanh": _hardtanh,
    "leaky_relu": _plain(nn.LeakyReLU, "negative_slope"),
    "log_softmax": _softmax(nn.LogSoftmax),
    "logsigmoid": _plain(nn.LogSigmoid),
    "mish": _plain(nn.Mish),
    "relu": _plain(nn.ReLU),
    "relu6": lambda inplace=False: clamp(0.0, 6.0),
    "rrelu": _rrelu,
    "selu": _plain(nn.SELU),
    "sigmoid": _plain(nn.Sigmoid),
    "silu": _plain(nn.SiLU),
    "softmax": _softmax(nn.Softmax),
    "softmin": _softmax(nn.Softmin),
    "softplus": _plain(nn.Softplus, "beta", "threshold"),
    "softshrink": _plain(nn.Softshrink, "lambd"),
    "softsign": _plain(nn.Softsign),
    "tanh": _plain(nn.Tanh),
    "tanhshrink": _plain(nn.Tanhshrink),
    "threshold": _threshold,
}

_OTHER_MAKERS: dict[str, Maker] = {
    "alpha_dropout": _dropout(nn.AlphaDropout),
    "dropout": _dropout(nn.Dropout),
    "dropout1d": _dropout(nn.Dropout1d),
    "dropout2d": _dropout(nn.Dropout2d),
    "dropout3d": _dropout(nn.Dropout3d),
    "feature_alpha_dropout": _dropout(nn.FeatureAlphaDropout),
    "feature_dropout": _dropout(nn.Dropout2d),
    "lp_pool1d": _plain(nn.LPPool1d, "norm_type", "kernel_size", "stride", "ceil_mode"),
    "lp_pool2d": _plain(nn.LPPool2d, "norm_type", "kernel_size", "stride", "ceil_mode"),
    "adaptive_avg_pool1d": _plain(nn.AdaptiveAvgPool1d, "output_size"),
    "adaptive_avg_pool2d": _plain(nn.AdaptiveAvgPool2d, "output_size"),
    "adaptive_avg_pool3d": _plain(nn.AdaptiveAvgPool3d, "output_size"),
    "adaptive_max_pool1d": _adaptive_max_pool(nn.AdaptiveMaxPool1d),
    "adaptive_max_pool2d": _adaptive_max_pool(nn.AdaptiveMaxPool2d),
    "adaptive_max_pool3d": _adaptive_max_pool(nn.AdaptiveMaxPool3d),
    "avg_pool1d": _avg_pool(nn.AvgPool1d),
    "avg_pool2d": _avg_pool(nn.AvgPool2d),
    "avg_pool3d": _avg_pool(nn.AvgPool3d),
    "max_pool1d": _max_pool(nn.MaxPool1d),
    "max_pool2d": _max_pool(nn.MaxPool2d),
    "max_pool3d": _max_pool(nn.MaxPool3d),
}

MAKERS = MappingProxyType(_ACTIVATION_MAKERS | _OTHER_MAKERS)
"""Function name → constructor of the module from the function's arguments after the first; may return None."""

ACTIVATION_FUNCTIONS = frozenset(_ACTIVATION_MAKERS) | {"prelu"}
HIDEABLE = ACTIVATION_FUNCTIONS - {"clamp", "clamp_max", "clamp_min", "clip"}
"""Functions that are always activations; a clamp may be arithmetic."""

_LABELS = {kind.__name__.lower(): kind.__name__ for kind in (*ACTIVATIONS, nn.ReLU6)}


def _functions() -> dict[Any, str]:
    names: dict[Any, str] = {}
    for name in (*MAKERS, *ACTIVATION_FUNCTIONS):
        for spelling in (name, name + "_"):
            for place in (F, torch, torch._C._nn, Tensor):
                function = getattr(place, spelling, None)
                if function is not None:
                    names[function] = name
    names[torch.special.expit] = "sigmoid"
    return names


FUNCTIONS = MappingProxyType(_functions())
"""Every spelling of these functions (``F.relu``, ``torch.relu_`` …) → its plain name."""


def function_name(node: fx.Node) -> str | None:
    """Return the plain name (``relu``, ``max_pool2d``) of the function or method that ``node`` calls, or None."""
    if node.op == "call_function":
        if isinstance(node.target, torch._ops.OpOverload):
            plain = str(node.target._schema.name).rpartition("::")[2].removesuffix("_")
            return plain if plain in MAKERS or plain in ACTIVATION_FUNCTIONS else None
        return FUNCTIONS.get(node.target)
    name = str(node.target).removesuffix("_") if node.op == "call_method" else None
    return name if name in MAKERS or name in ACTIVATION_FUNCTIONS else None


def module_activation(module: nn.Module) -> str | None:
    """Return the class name of ``module`` if it is an activation, else None."""
    if isinstance(module, ACTIVATIONS) or type(module).__module__ == TIMM_ACTIVATIONS:
        return type(module).__name__
    return None


def node_activation(traced: fx.GraphModule, node: fx.Node) -> str | None:
    """Return the name of the activation (``ReLU``) that ``node`` computes, as a module or a function, or None."""
    if node.op == "call_module":
        return module_activation(traced.get_submodule(str(node.target)))
    name = function_name(node)
    if name not in ACTIVATION_FUNCTIONS:
        return None
    return _LABELS.get(str(name).replace("_", ""), name)


def is_idle(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether ``node`` returns its input unchanged in eval mode."""
    if node.op == "call_module":
        sub = traced.get_submodule(str(node.target))
        return isinstance(sub, nn.Identity) or is_dropout_like(sub)
    return "dropout" in (function_name(node) or "") and not node.kwargs.get("training", False)
