"""Operations that change their input in place, turned into ones that return a new value."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

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
    """Replace operations in place by plain ones, and let later readers of the changed value read the new one.

    Every module must be called once, and the nodes must carry the meta of ``trace``. Where the changed memory is
    read later through a view of another shape, the operation stays as it is.
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
    """Turn ``node`` into an operation that leaves its input alone; False where there is none."""
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
    plain = _PLAIN.get(node.target) or _plain_function(node.target)
    if plain is None and node.kwargs.get("inplace") is not True:
        return False
    node.target = plain or node.target
    if "inplace" in node.kwargs:
        node.update_kwarg("inplace", False)
    return True


def _plain_function(function: Any) -> Any:
    name = getattr(function, "__name__", "")
    if not name.endswith("_"):
        return None
    return next(
        (getattr(place, name[:-1], None) for place in (torch, F) if getattr(place, name, None) is function),
        None,
    )
