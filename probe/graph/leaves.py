"""Which library modules and functions symbolic tracing should not look into."""

from __future__ import annotations

import inspect
import math
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


@dataclass(frozen=True)
class Leaves:
    """``doubtful`` modules are looked into where that works, ``functions`` are never looked into."""

    doubtful: tuple[type[nn.Module], ...]
    functions: tuple[Callable[..., Any], ...]
    namespaces: tuple[ModuleType] = (math,)

    def whole(self, module: nn.Module) -> bool:
        """Say whether a library's module is one operation: a convolution with its own padding, an activation."""
        one = isinstance(module, self.doubtful) and isinstance(module, _WHOLE)
        return one or type(module).__module__ == TIMM_ACTIVATIONS


def library_leaves() -> Leaves:
    """Return what timm and torchvision mark as untraceable, without importing either.

    A library that has not been imported cannot have made the module.
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
    return Leaves(tuple(doubtful), tuple(functions))
