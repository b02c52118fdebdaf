"""Library modules and functions that symbolic tracing treats as leaves."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

TIMM_ACTIVATIONS = "timm.layers.activations"
_WHOLE = (_ConvNd, _MaxPoolNd, _AvgPoolNd)
_TRACED_OPS = frozenset({"stochastic_depth", "drop_block2d", "drop_block3d"})
_DROPS = re.compile(r"drop_?(out|path|block|connect)|stochastic_?depth", re.IGNORECASE)
_LRN = re.compile(r"(^|_)lrn|(local|cross_?map)_?(response|lrn)", re.IGNORECASE)


def is_dropout_like(module: nn.Module) -> bool:
    """Return whether a module only drops values or paths in training (dropout, drop path).

    Such modules are recognised by name, because every library has its own; they have no parameters or submodules.
    """
    return bool(_DROPS.search(type(module).__name__)) and _is_single(module)


def is_lrn(module: nn.Module) -> bool:
    """Return whether a module is a local response normalisation, by its class or its name."""
    return isinstance(module, nn.LocalResponseNorm) or (
        bool(_LRN.search(type(module).__name__)) and next(module.parameters(), None) is None
    )


def _is_single(module: nn.Module) -> bool:
    return next(module.parameters(), None) is None and next(module.children(), None) is None


@dataclass(frozen=True)
class TraceLeaves:
    """The leaves of tracing: ``doubtful`` modules are traced if that works, ``functions`` are never traced."""

    doubtful: tuple[type[nn.Module], ...]
    functions: tuple[Callable[..., Any], ...]
    namespaces: tuple[ModuleType] = (math,)

    def whole(self, module: nn.Module) -> bool:
        """Return whether a module is one operation: a library's convolution with padding or activation, or a dropout.

        Dropout must be a leaf, because it does not appear in the graph in eval mode.
        """
        doubtful = isinstance(module, self.doubtful) and isinstance(module, _WHOLE)
        return (
            doubtful
            or type(module).__module__ == TIMM_ACTIVATIONS
            or is_dropout_like(module)
            or is_lrn(module)
        )


def library_leaves() -> TraceLeaves:
    """Return the modules and functions that timm and torchvision mark as untraceable, without importing either.

    A library that has not been imported cannot have built the module.
    """
    doubtful: list[type[nn.Module]] = []
    functions: list[Callable[..., Any]] = []
    timm_fx = sys.modules.get("timm.layers._fx")
    if timm_fx is not None:
        doubtful += timm_fx.get_notrace_modules()
        functions += [function for function in timm_fx.get_notrace_functions() if callable(function)]
    ops = sys.modules.get("torchvision.ops")
    if ops is not None:
        for name, member in inspect.getmembers(ops):
            if inspect.isclass(member) and issubclass(member, nn.Module):
                doubtful.append(member)
            elif inspect.isfunction(member) and name not in _TRACED_OPS:
                functions.append(member)
    return TraceLeaves(tuple(doubtful), tuple(functions))
