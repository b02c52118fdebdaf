"""Layers that are spelled as formulas, such as the activation ``x * sigmoid(x)``, made modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn

from probe.graph.edit.activations import UpperClamp, node_activation
from probe.graph.edit.edits import drop_unused
from probe.graph.edit.response_norm import response_norm
from probe.graph.trace.ops import plain_name

_TIMES = ("mul", "imul", "multiply")
_PLUS = ("add", "iadd")
_OVER = ("truediv", "itruediv", "div", "divide")
_LARGER = ("maximum", "max")
_ZEROS = ("zeros_like", "zeros", "new_zeros")

Put = Callable[[fx.Node, nn.Module, Any], None]
"""Put a module that is applied to a value in the place of a node."""


def formulas_to_modules(copy: fx.GraphModule, put: Put) -> None:
    """Replace formulas of known layers by their modules.

    These are ReLU (the larger of a value and 0), SiLU, Mish, hard sigmoid, hard swish, and local response normalisation.
    """
    for node in list(copy.graph.nodes):
        if node.op in ("call_function", "call_method") and node.meta.get("shape"):
            found = (
                response_norm(copy, node)
                or _rectified(copy, node)
                or _hard_sigmoid(copy, node)
                or _self_gated(copy, node)
            )
            if found is not None:
                put(node, *found)
    drop_unused(copy)


def join_bounds(copy: fx.GraphModule, put: Put) -> None:
    """Join every ReLU and the upper bound right behind it, such as those of a ReLU6, into one activation."""
    for node in list(copy.graph.nodes):
        _join_bound(copy, node, put)
    drop_unused(copy)


def _called(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls, without the mark of a change in place."""
    called = node.op in ("call_function", "call_method")
    return plain_name(node.target).removesuffix("_") if called else ""


def _rectified(copy: fx.GraphModule, node: fx.Node) -> tuple[nn.Module, fx.Node] | None:
    """Return ReLU for the larger of a value and zeros."""
    both = list(node.args)
    if _called(node) not in _LARGER or len(both) != 2 or node.kwargs:
        return None
    values = [value for value in both if isinstance(value, fx.Node)]
    others = [value for value in values if not _is_zero(copy, value)]
    if len(values) != 2 or len(others) != 1 or others[0].meta.get("shape") != node.meta["shape"]:
        return None
    return nn.ReLU(), others[0]


def _is_zero(copy: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "get_attr":
        value: Any = copy
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and not bool(value.any())
    return _called(node) in _ZEROS


def _hard_sigmoid(copy: fx.GraphModule, node: fx.Node) -> tuple[nn.Module, fx.Node] | None:
    """Return the hard sigmoid for relu6(x + 3) / 6, and the hard swish for x · relu6(x + 3) / 6."""
    if _called(node) not in _OVER or len(node.args) != 2 or node.args[1] != 6 or node.kwargs:
        return None
    above = node.args[0]
    if not isinstance(above, fx.Node):
        return None
    value = _shifted(copy, above)
    if value is not None:
        return nn.Hardsigmoid(), value
    for gate, other in _factors(above):
        if _shifted(copy, gate) is other and _only_here(gate) and _only_here(above):
            return nn.Hardswish(), other
    return None


def _shifted(copy: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return x where the node is relu6(x + 3)."""
    if not (_activation(copy, node) == "ReLU6" or _clamps_to(node, 0, 6)):
        return None
    inner = node.all_input_nodes[0] if node.all_input_nodes else None
    if inner is None or _called(inner) not in _PLUS or len(inner.args) != 2 or inner.kwargs:
        return None
    value, three = inner.args if isinstance(inner.args[0], fx.Node) else reversed(inner.args)
    return value if three == 3 and isinstance(value, fx.Node) else None


def _clamps_to(node: fx.Node, low: float, high: float) -> bool:
    if _called(node) not in ("clamp", "clip", "hardtanh"):
        return False
    bounds = dict(zip(("low", "high"), node.args[1:], strict=False))
    for key, words in (("low", ("min", "min_val")), ("high", ("max", "max_val"))):
        for word in words:
            bounds[key] = node.kwargs.get(word, bounds.get(key))
    return bounds == {"low": low, "high": high}


def _self_gated(copy: fx.GraphModule, node: fx.Node) -> tuple[nn.Module, fx.Node] | None:
    """Return the activation for a value multiplied by its own sigmoid, hard sigmoid or tanh of softplus."""
    kinds: dict[str, Callable[[], nn.Module]] = {"Sigmoid": nn.SiLU, "Hardsigmoid": nn.Hardswish}
    for gate, other in _factors(node):
        if not _only_here(gate):
            continue
        name = _activation(copy, gate)
        inner = gate.all_input_nodes[0] if gate.all_input_nodes else None
        if name in kinds and inner is other:
            return kinds[name](), other
        if name == "Tanh" and inner is not None and _is_softplus_of(copy, inner, other):
            return nn.Mish(), other
    return None


def _factors(node: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """Return the two factors of a product in both orders, nothing if it is no product of two values."""
    both = [value for value in node.args if isinstance(value, fx.Node)]
    if _called(node) not in _TIMES or len(node.args) != 2 or len(both) != 2 or node.kwargs:
        return []
    return [(both[0], both[1]), (both[1], both[0])]


def _only_here(node: fx.Node) -> bool:
    return len(node.users) == 1


def _activation(copy: fx.GraphModule, node: fx.Node) -> str | None:
    return node_activation(copy, node) if node.op != "placeholder" else None


def _is_softplus_of(copy: fx.GraphModule, node: fx.Node, value: fx.Node) -> bool:
    """Return whether a node is the softplus, with its usual options, of a value, for one other node only."""
    if _activation(copy, node) != "Softplus" or not _only_here(node) or node.all_input_nodes[:1] != [value]:
        return False
    if node.op == "call_module":
        own = copy.get_submodule(str(node.target))
        return isinstance(own, nn.Softplus) and (own.beta, own.threshold) == (1, 20)
    return len(node.args) == 1 and not node.kwargs


def _join_bound(copy: fx.GraphModule, node: fx.Node, put: Put) -> None:
    """Join a ReLU and the upper bound right behind it, which nothing else reads, into one activation."""
    own = copy.get_submodule(str(node.target)) if node.op == "call_module" else None
    below = node.args[0] if node.args else None
    if type(own) is not UpperClamp or not isinstance(below, fx.Node) or below.op != "call_module":
        return
    if type(copy.get_submodule(str(below.target))) is nn.ReLU and _only_here(below):
        bound = float(own.max_val)
        put(node, nn.ReLU6() if bound == 6 else nn.Hardtanh(0.0, bound), below.args[0])
