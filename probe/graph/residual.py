"""Residual additions: which of two added values is the shortcut, and which the branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import fx

from probe.graph.edits import Weight, block_name, from_image, last_common, site_at, weight_between
from probe.graph.ops import operation, shape_of
from probe.graph.structure import Site

_MOST_ON_A_SHORTCUT = 1
"""A shortcut is an identity or one projection; with more layers it is a branch among branches."""


@dataclass(frozen=True)
class Residual:
    """An addition whose operand number ``shortcut`` (0 or 1) goes past the layers on the other operand's way."""

    node: fx.Node
    start: fx.Node
    shortcut: int
    projection: bool

    def operand(self, position: int) -> fx.Node:
        """Return one of the two added values."""
        return operands(self.node)[position]


def operands(node: fx.Node) -> list[fx.Node]:
    """Return the values that an addition adds, in the order in which they are written."""
    values = [*node.args, *(value for key, value in node.kwargs.items() if key != "alpha")]
    return [value for value in values[:2] if isinstance(value, fx.Node)]


def residuals(graph: fx.GraphModule) -> list[Residual]:
    """Return the residual additions of a graph in execution order."""
    found = []
    for node in graph.graph.nodes:
        if operation(graph, node) != "add":
            continue
        both = operands(node)
        if len(both) == 2 and both[0] is not both[1] and all(from_image(each) for each in both):
            residual = _residual(graph, node, both)
            if residual is not None:
                found.append(residual)
    return found


def _residual(graph: fx.GraphModule, node: fx.Node, both: list[fx.Node]) -> Residual | None:
    start = last_common(graph, *both)
    if start is None:
        return None
    weights = [_weight(graph, start, each) for each in both]
    shortcut = 0 if weights[0] < weights[1] else 1
    short, long = weights[shortcut], weights[1 - shortcut]
    if short == long or short[0] > _MOST_ON_A_SHORTCUT or long[0] < 1:
        return None
    return Residual(node, start, shortcut, short[0] > 0)


def _weight(graph: fx.GraphModule, start: fx.Node, end: fx.Node) -> Weight:
    return (0, 0) if start is end else weight_between(graph, start, end)


def residual_sites(
    graph: fx.GraphModule, word: str, keeps: Literal["branch", "shortcut"]
) -> tuple[Site, ...]:
    """Return the sites at which one of the two can be kept alone: it must have the sum's shape."""
    sites, taken = [], set[str]()
    for one in residuals(graph):
        name = block_name(graph, one.node, taken)
        kept = 1 - one.shortcut if keeps == "branch" else one.shortcut
        if shape_of(one.operand(kept)) != shape_of(one.node):
            continue
        before, after = shape_of(one.start), shape_of(one.node)
        form = "projection shortcut" if one.projection else "identity shortcut"
        if not one.projection and before != after:
            form = "shortcut without weights"
        if keeps == "shortcut":
            form = f"branch beside {'an' if form[0] == 'i' else 'a'} {form}"
        resizes = len(before) == len(after) == 3 and before[1:] != after[1:]
        sites.append(site_at(graph, one.node, word, name, form, (1 - kept,), resizes))
    return tuple(sites)


def keep_operand(graph: fx.GraphModule, node: fx.Node, position: int) -> None:
    """Let one of the two added values take the sum's place; a factor ``alpha`` on the second one stays with it."""
    kept = operands(node)[position]
    alpha = node.kwargs.get("alpha", 1)
    if position == 1 and alpha != 1:
        with graph.graph.inserting_before(node):
            scaled = graph.graph.call_method("mul", (kept, alpha))
        scaled.meta = dict(node.meta)
        kept = scaled
    node.replace_all_uses_with(kept)
