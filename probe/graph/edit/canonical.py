"""Additions, products and concatenations in one spelling."""

from __future__ import annotations

import torch
from torch import fx

from probe.graph.edit.edits import drop_unused
from probe.graph.trace.ops import operation, plain_name

_NAMED = {"add": ("input", "other"), "mul": ("input", "other"), "cat": ("tensors", "dim")}
_BROADCASTS = ("expand", "expand_as", "broadcast_to")


def one_spelling(graph: fx.GraphModule) -> None:
    """Write every addition, product and concatenation with its values as arguments in order.

    ``hstack`` of maps becomes a concatenation, and a factor is not expanded before the product that expands it anyway.
    """
    for node in list(graph.graph.nodes):
        if operation(graph, node) == "hstack" and len(node.meta.get("shape") or ()) >= 2:
            tensors = node.args[0] if node.args else node.kwargs["tensors"]
            node.target, node.args, node.kwargs = torch.cat, (tensors, 1), {}
        kind = operation(graph, node)
        if kind in _NAMED and node.op in ("call_function", "call_method"):
            _put_in_order(node, _NAMED[kind])
        if kind == "mul":
            for factor in list(node.all_input_nodes):
                _without_expansion(node, factor)
    drop_unused(graph)


def _put_in_order(node: fx.Node, names: tuple[str, ...]) -> None:
    left = dict(node.kwargs)
    args = list(node.args)
    if "axis" in left and "dim" in names:
        left["dim"] = left.pop("axis")
    while len(args) < len(names) and names[len(args)] in left:
        args.append(left.pop(names[len(args)]))
    node.args, node.kwargs = tuple(args), left


def _without_expansion(product: fx.Node, factor: fx.Node) -> None:
    """Make a product read the factor itself instead of its expansion to the size of the result."""
    name = plain_name(factor.target)
    source = factor.args[0] if factor.args else None
    if factor.op not in ("call_function", "call_method") or name not in _BROADCASTS:
        return
    others = [other for other in product.all_input_nodes if other is not factor]
    shapes = [tuple(other.meta.get("shape") or ()) for other in others]
    if not isinstance(source, fx.Node) or shapes != [tuple(product.meta.get("shape") or ())]:
        return
    if len(source.meta.get("shape") or ()) == len(shapes[0]):
        product.replace_input_with(factor, source)
