"""Which operations of a graph are affine in the network's input, and which have relaxations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd

from probe.graph.trace.leaves import is_dropout_like

_MODULES = (
    _ConvNd, nn.Linear, _AvgPoolNd, _AdaptiveAvgPoolNd, nn.Identity, nn.Flatten, nn.Unflatten,
    nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ChannelShuffle, nn.PixelShuffle,
    nn.PixelUnshuffle, nn.UpsamplingNearest2d,
)  # fmt: skip

_LINEAR = frozenset({
    operator.neg, torch.neg, torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze,
    torch.mean, torch.sum, torch.cat, torch.concat, torch.chunk, torch.split, torch.channel_shuffle, torch.clone,
    F.avg_pool2d, F.adaptive_avg_pool2d, F.pixel_shuffle, operator.getitem,
})  # fmt: skip
"""Functions that are linear in every tensor they take."""

_SUMS = frozenset({operator.add, operator.iadd, torch.add, operator.sub, operator.isub, torch.sub})
_PRODUCTS = frozenset({operator.mul, operator.imul, torch.mul})
_QUOTIENTS = frozenset({operator.truediv, operator.itruediv, torch.div})
_WEIGHTED = frozenset({F.linear, F.conv1d, F.conv2d, F.conv_transpose2d})

_METHODS = frozenset({
    "view", "reshape", "flatten", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", "mean", "sum", "chunk",
    "split", "size", "dim", "clone", "neg", "expand", "unflatten", "t", "numel", "ndimension",
})  # fmt: skip
_METHOD_OF = {
    "add": operator.add, "add_": operator.add, "sub": operator.sub, "sub_": operator.sub, "mul": operator.mul,
    "mul_": operator.mul, "div": operator.truediv, "div_": operator.truediv, "relu": F.relu, "relu_": F.relu,
    "__add__": operator.add, "__mul__": operator.mul, "clamp": torch.clamp, "clamp_": torch.clamp,
}  # fmt: skip
OUT_OF_PLACE = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul, operator.itruediv: operator.truediv,
}  # fmt: skip
"""In-place operators and those that leave their operands as they are."""


def function_of(method: str) -> Any:
    """Return the function that a method of tensors is, None if it has no other name here."""
    return _METHOD_OF.get(method)


def is_torchs_own(module: nn.Module) -> bool:
    """Tell whether a layer does what torch's class of that name does: a subclass or a hook could do anything."""
    return not module._forward_hooks and type(module).forward.__module__.startswith("torch.nn.")


def affine_module(module: nn.Module) -> bool:
    """Tell whether a layer is affine in eval mode."""
    if not is_torchs_own(module):
        return is_dropout_like(module) and not module.training
    if isinstance(module, _BatchNorm):
        return not module.training and module.running_mean is not None
    if isinstance(module, _DropoutNd) or is_dropout_like(module):
        return not module.training
    return isinstance(module, _MODULES)


def affine_function(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], depends: Callable[[Any], bool]
) -> bool:
    """Tell whether a call is affine in the arguments of which ``depends`` says that they come from the input."""
    if function is getattr:  # of a tensor: its shape and the like; .data would hide what depends on the input
        return args[1] in ("shape", "ndim", "dtype", "device", "T", "mT")
    if function in _LINEAR or function in _SUMS:
        return True
    first, rest = args[:1], (*args[1:], *kwargs.values())
    if function in _PRODUCTS:
        return sum(map(depends, (*args, *kwargs.values()))) == 1
    if function in _QUOTIENTS or function in _WEIGHTED:
        return depends(first) and not any(map(depends, rest)) and "rounding_mode" not in kwargs
    if function in (F.dropout, F.dropout2d):
        return not kwargs.get("training", args[2] if len(args) > 2 else True)
    if function is F.batch_norm:
        training = kwargs.get("training", args[5] if len(args) > 5 else False)
        return not training and not any(map(depends, rest))
    if function is F.pad:
        return kwargs.get("mode", args[2] if len(args) > 2 else "constant") in (
            "constant",
            "reflect",
            "replicate",
        )
    return False


def affine_method(name: str) -> bool:
    """Tell whether a method of tensors is linear in the tensor."""
    return name in _METHODS


def pooling(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of ``F.max_pool2d`` after the tensor, complete; None where it also returns places."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = dict(zip(names, args, strict=False)) | kwargs
    if given.pop("return_indices", False):
        return None
    stride = given.get("stride")
    return {
        "kernel_size": given["kernel_size"],
        "stride": given["kernel_size"] if stride in (None, []) else stride,
        "padding": given.get("padding", 0),
        "dilation": given.get("dilation", 1),
        "ceil_mode": given.get("ceil_mode", False),
    }


def limits(module: nn.Module) -> tuple[float, float, float] | None:
    """Return (slope below 0, value at the left end, at the right end) of a layer that ReLUs can be written for, or None.

    The layer is then slope · z + (1 − slope) · relu(z) for ``LeakyReLU``, and a ReLU cut off on the right for ``ReLU6``.
    """
    if isinstance(module, nn.ReLU6):
        return 0.0, 0.0, 6.0
    if isinstance(module, nn.Hardtanh):
        return 0.0, float(module.min_val), float(module.max_val)
    if isinstance(module, nn.LeakyReLU):
        return float(module.negative_slope), 0.0, torch.inf
    return (0.0, 0.0, torch.inf) if isinstance(module, nn.ReLU) else None


def is_tensor(value: object) -> bool:
    """Tell whether a value is a floating-point tensor."""
    return isinstance(value, Tensor) and value.is_floating_point()
