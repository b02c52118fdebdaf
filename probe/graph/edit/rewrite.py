"""Rewriting of a network so that every activation and pooling is a separate module."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from probe.graph.edit.activations import (
    FUNCTIONS,
    HIDEABLE,
    MAKERS,
    UpperClamp,
    clamp,
    function_name,
    module_activation,
)
from probe.graph.edit.edits import free_name, replace
from probe.graph.edit.formulas import formulas_to_modules, join_bounds
from probe.graph.edit.spelling import layers_to_modules
from probe.graph.trace.trace import Annotator, TraceError, annotate, shared_copy, trace_and_run, verify

_PLAIN: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
    operator.imatmul: operator.matmul,
}
_KEPT = frozenset({"copy_", "fill_", "zero_"})


def functionalise(traced: fx.GraphModule) -> None:
    """Replace in-place operations by out-of-place ones, and make later nodes read the new value.

    Every module must be called once, and the nodes must have the meta of ``trace``. If the changed memory is
    read later through a view of another shape, the operation is not changed.
    """
    nodes = list(traced.graph.nodes)
    for place, node in enumerate(nodes):
        changed = node.meta["mutates"]
        if not changed:
            continue
        stale = {value for value in nodes[:place] if value.meta["aliases"] & changed}
        reads = [
            (later, value)
            for later in nodes[place + 1 :]
            for value in later.all_input_nodes
            if value in stale
        ]
        own = node.all_input_nodes[0].meta
        same = own["aliases"] == changed and all(value.meta["layout"] == own["layout"] for _, value in reads)
        if same and _make_plain(traced, node):
            node.meta["mutates"] = frozenset()
            for later, value in reads:
                later.replace_input_with(value, node)
    traced.recompile()


def _make_plain(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Replace ``node`` by an out-of-place operation; return False if there is none."""
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        if getattr(module, "inplace", False) is not True:
            return False
        module.inplace = False  # type: ignore[assignment]
        return True
    if node.op == "call_method":
        name = str(node.target)
        if not name.endswith("_") or name in _KEPT or not hasattr(Tensor, name[:-1]):
            return False
        node.target = name[:-1]
        return True
    if isinstance(node.target, torch._ops.OpOverload):
        overload = _plain_overload(node.target)
        node.target = overload or node.target
        return overload is not None
    plain = _PLAIN.get(node.target) or _plain_function(node.target)
    if plain is None and node.kwargs.get("inplace") is not True:
        return False
    node.target = plain or node.target
    if "inplace" in node.kwargs:
        node.update_kwarg("inplace", False)
    return True


def _plain_overload(overload: torch._ops.OpOverload) -> torch._ops.OpOverload | None:
    """Return the operator of the same name without the underscore, None if there is none."""
    name = str(overload._schema.name).rpartition("::")[2]
    packet = getattr(torch.ops.aten, name[:-1], None) if name.endswith("_") and name not in _KEPT else None
    plain: torch._ops.OpOverload | None = getattr(packet, overload._overloadname, None)
    return plain


def _plain_function(function: Any) -> Any:
    name = getattr(function, "__name__", "")
    if not name.endswith("_"):
        return None
    return next(
        (getattr(place, name[:-1], None) for place in (torch, F) if getattr(place, name, None) is function),
        None,
    )


__all__ = ["UpperClamp", "hidden_activations", "modular"]


def modular(module: nn.Module, example: Tensor, *, split_bounded: bool = True) -> fx.GraphModule:
    """Return a copy of ``module`` in which every activation and pooling is a module that is called once.

    ``example`` is an input (N, C, H, W). Functions and tensor methods become modules, a reused module becomes one
    module per call (with the same parameters), nothing works in place, and ReLU6 becomes a ReLU followed by an
    ``UpperClamp`` unless ``split_bounded`` is False, so that methods that hook modules (guided backpropagation,
    DeepLift) see them all. The copy is in eval mode and shares the module's parameters and buffers; the module is
    not changed.

    Raises TraceError when the network cannot be traced, and when the copy does not give the module's output within
    1e-5 of its largest value.
    """
    traced, expected = trace_and_run(module, example)
    copy = shared_copy(traced)
    if not isinstance(copy, fx.GraphModule):
        raise TraceError("The traced network cannot be copied.")
    _unshare(copy)
    functionalise(copy)
    if split_bounded:
        _split_bounded(copy)
    functions_to_modules(copy, split_bounded)
    layers_to_modules(copy, only=("prelu",))
    copy.delete_all_unused_submodules()
    copy.graph.lint()
    copy.recompile()
    listening = _Listening(copy)
    verify(expected, annotate(listening, example))
    copy.meta["hidden"] = tuple(dict.fromkeys(listening.hidden))
    return copy


def hidden_activations(graph_module: fx.GraphModule) -> tuple[str, ...]:
    """Return ``layer: function`` for every activation that ``modular`` could not convert to a module."""
    hidden: tuple[str, ...] = graph_module.meta.get("hidden", ())
    return hidden


def _unshare(copy: fx.GraphModule) -> None:
    """Create a separate instance for every call of a module; the first keeps the name."""
    called: set[str] = set()
    nodes = [node for node in copy.graph.nodes if node.op == "call_module"]
    times, number = Counter(str(node.target) for node in nodes), Counter[str]()
    for node in nodes:
        target = str(node.target)
        number[target] += 1
        if times[target] > 1:
            node.meta["calls"] = (number[target], times[target])
        if target in called:
            node.target = free_name(copy, target)
            copy.add_submodule(str(node.target), shared_copy(copy.get_submodule(target)))
        called.add(target)


def _split_bounded(copy: fx.GraphModule) -> None:
    """Replace ReLU6 and similar activations by a ReLU and an upper clamp."""
    for node in list(copy.graph.nodes):
        if node.op != "call_module":
            continue
        own = copy.get_submodule(str(node.target))
        if isinstance(own, nn.Hardtanh) and own.min_val == 0 and not own.inplace:
            module = clamp(0.0, own.max_val)
            if module is not None:
                replace(copy, node, module, str(node.target), node.args[0])


def functions_to_modules(copy: fx.GraphModule, split_bounded: bool = True) -> None:
    """Replace every function and method call that has an equivalent module by a call of the module.

    A ReLU6 becomes a ReLU followed by an ``UpperClamp`` unless ``split_bounded`` is False. Formulas of known
    activations count as these.
    """

    def put(node: fx.Node, module: nn.Module, value: Any) -> None:
        name = ".".join([*(node.meta.get("path") or ())[-1:], type(module).__name__.lower()])
        replace(copy, node, module, free_name(copy, name), value)

    formulas_to_modules(copy, put)
    for node in list(copy.graph.nodes):
        module = _module_for(node)
        if module is not None:
            path = node.meta["path"]
            name = ".".join([*path[-1:], str(function_name(node))])
            replace(copy, node, module, free_name(copy, name), node.all_input_nodes[0])
    if not split_bounded:
        join_bounds(copy, put)


def _module_for(node: fx.Node) -> nn.Module | None:
    """Return the module that is equivalent to a function or method call, None if there is none."""
    maker = MAKERS.get(function_name(node) or "")
    if maker is None or len(node.all_input_nodes) != 1 or node.meta["mutates"] & node.meta["aliases"]:
        return None
    options = {key: value for key, value in node.kwargs.items() if key != "input"}
    try:
        return maker(*node.args[0 if "input" in node.kwargs else 1 :], **options)
    except (TypeError, ValueError):
        return None


class _Listener(TorchFunctionMode):
    """Record which activation functions are called."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = FUNCTIONS.get(func)
        if name in HIDEABLE:
            self.heard.append(str(name))
        return func(*args, **(kwargs or {}))


class _Listening(Annotator):
    """Annotate a graph and record which activations are not modules."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.hidden: list[str] = []

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_module" and module_activation(self.fetch_attr(str(n.target))):
            return super().run_node(n)
        with _Listener() as listener:
            result = super().run_node(n)
        where = str(n.target) if n.op == "call_module" else ".".join(n.meta["path"][-1:])
        self.hidden += [f"{where or 'the network'}: {name}" for name in listener.heard]
        return result
