"""A network whose layers that are spelled as functions are modules, under their own names and in its own code."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from contextlib import nullcontext
from types import FrameType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from probe.graph.edit.activations import FUNCTIONS, MAKERS
from probe.graph.edit.spelling import LAYER_FUNCTIONS, called_layer
from probe.graph.trace.leaves import library_leaves
from probe.graph.trace.ops import is_norm
from probe.graph.trace.trace import no_side_effects, shared_copy, tensors

_DISTRIBUTIONS = ("softmax", "log_softmax", "softmin")
"""Functions of attention, whose maps are none of the image."""

Net = TypeVar("Net", bound=nn.Module)

_CALLS, _NAMES = "_spelled_calls", "_spelled_names"


def spelled(module: Net, example: Tensor) -> Net:
    """Return a network that calls a module wherever ``module`` calls a function that is a layer.

    ``F.relu``, ``x.clamp(min=0)``, ``F.max_pool2d``, ``F.conv2d`` and the like become submodules of the module in
    whose code they are, named after the function, so that whatever hooks layers sees them. Containers keep their names,
    weights are shared, and what is inside a layer or an attention stays there. ``example`` is an input (N, C, H, W).
    A network without such functions, or whose outputs would not stay the same, is returned as it is.
    """
    if _graph_or_script(module):
        return module
    copy = cast("Net", shared_copy(module))
    finder = _Finder(copy)
    try:
        with no_side_effects(copy), finder:
            expected = list(tensors(copy(example.clone())))
        found = [sub for key, sub in finder.found.items() if key not in finder.attending]
        if not found:
            return module
        for sub in found:
            sub.__class__ = _spelling_class(type(sub))
        with no_side_effects(copy), _Writer():
            copy(example.clone())
        with no_side_effects(copy):
            actual = list(tensors(copy(example.clone())))
    except Exception:
        # Whatever a network's own code does when it is run in another way, it can be studied as it is.
        return module
    same = len(expected) == len(actual) and all(map(torch.equal, expected, actual))
    return copy.eval() if same else module


class _Speller(TorchFunctionMode):
    """Call a submodule where the code of a module calls a function."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        child = self.submodule(func, args, kwargs)
        return func(*args, **kwargs) if child is None else child(args[0] if args else kwargs["input"])

    def submodule(self, func: Any, args: Any, kwargs: Any) -> nn.Module | None:
        """Return the submodule to call instead of a function or a method, None if there is none."""
        name = _name(func)
        owner = _caller() if name else None
        if owner is None or not isinstance(owner, _Spelled) or kwargs.get("training") is True:
            return None
        calls: Counter[str] = vars(owner)[_CALLS]
        number = calls[name]
        calls[name] += 1
        return self.child(owner, f"{name}_{number}" if number else name, func, args, kwargs)

    def child(self, owner: Any, name: str, func: Any, args: Any, kwargs: Any) -> nn.Module | None:
        """Return the submodule for a call of a function by its number."""
        child: nn.Module | None = owner._modules.get(vars(owner).get(_NAMES, {}).get(name, ""))
        return child


class _Writer(_Speller):
    """Create the submodules on the way."""

    def child(self, owner: Any, name: str, func: Any, args: Any, kwargs: Any) -> nn.Module | None:
        """Create the submodule at its first call."""
        names = vars(owner).setdefault(_NAMES, {})
        made = None if name in names else _module_for(func, args, kwargs)
        own = next((key for key, sub in owner._modules.items() if made and _is_same(sub, made)), "")
        if own:
            names[name] = own
        elif made is not None:
            free, number = name, 0
            while hasattr(owner, free):
                number += 1
                free = f"{name}_{number}"
            names[name] = free
            owner.add_module(free, made)
        return super().child(owner, name, func, args, kwargs)


def _is_same(module: nn.Module | None, made: nn.Module) -> bool:
    """Return whether a module has the weights and does the work of one that was made for a function."""
    if type(module) is not type(made) or repr(module) != repr(made):
        return False
    tensors = {**made._parameters, **made._buffers}
    held = [
        value is getattr(module, name) for name, value in tensors.items() if name != "num_batches_tracked"
    ]
    return bool(held) and all(held)


class _Finder(TorchFunctionMode):
    """Find the modules in whose code functions are called that are layers."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.inside = {id(sub) for sub in root.modules()}
        self.leaves = library_leaves()
        self.found: dict[int, nn.Module] = {}
        self.attending: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        owner = _caller() if _name(func) else None
        if owner is not None and _name(func) in _DISTRIBUTIONS:
            self.attending.add(id(owner))
        known = owner is None or id(owner) not in self.inside or isinstance(owner, _Spelled)
        if owner is not None and not (known or self._whole(owner)) and _module_for(func, args, kwargs):
            self.found[id(owner)] = owner
        return func(*args, **kwargs)

    def _whole(self, module: nn.Module) -> bool:
        own = type(module).__module__.startswith("torch.") or isinstance(module, _ConvNd | nn.Linear)
        return own or is_norm(module) or self.leaves.whole(module)


class _Spelled:
    """Mixed into the class of a module whose code calls functions that are layers."""


def _spelling_class(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a class that is ``kind`` in all but the functions that it calls."""

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        vars(self)[_CALLS] = Counter()
        active: list[Any] = torch.overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        with nullcontext() if any(isinstance(mode, _Speller) for mode in active) else _Speller():
            return kind.forward(self, *args, **kwargs)

    body = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (_Spelled, kind), {**body, "forward": forward})


def _caller() -> nn.Module | None:
    """Return the module whose code runs: that of the innermost frame whose first argument is a module."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        first = frame.f_locals.get(code.co_varnames[0]) if code.co_varnames else None
        if isinstance(first, nn.Module):
            return first
        frame = frame.f_back
    return None


def _name(function: Any) -> str:
    """Return the plain name of a function that may be a layer, an empty string for others."""
    name = FUNCTIONS.get(function, "")
    return name if name in MAKERS else LAYER_FUNCTIONS.get(function, "")


def _module_for(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module | None:
    """Return the module for a call of a function, None if there is none."""
    maker = MAKERS.get(FUNCTIONS.get(function, ""))
    value = args[0] if args else kwargs.get("input")
    if maker is None:
        return called_layer(function, args, kwargs)
    if not isinstance(value, Tensor):
        return None
    options = {key: other for key, other in kwargs.items() if key not in ("input", "inplace")}
    try:
        made = maker(*args[1 if args else 0 :], **options)
    except (TypeError, ValueError):
        return None
    if isinstance(made, nn.Sequential):
        bound = float(vars(made[1])["max_val"])
        made = nn.ReLU6() if bound == 6 else nn.Hardtanh(0.0, bound)
    return None if made is None else _in_place(made.eval(), function, kwargs)


def _in_place(module: nn.Module, function: Any, kwargs: dict[str, Any]) -> nn.Module | None:
    """Make a module work in place if the function does; None if it cannot."""
    if not (kwargs.get("inplace") or getattr(function, "__name__", "").endswith("_")):
        return module
    if not hasattr(module, "inplace"):
        return None
    vars(module)["inplace"] = True
    return module


def _graph_or_script(module: nn.Module) -> bool:
    kinds = (fx.GraphModule, torch.jit.ScriptModule)
    return any(isinstance(sub, kinds) for sub in module.modules())
