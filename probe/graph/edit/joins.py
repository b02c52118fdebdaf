"""Residual additions (which operand is the shortcut and which the branch), concatenations and gates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import fx

from probe.graph.edit.edits import (
    Weight,
    ancestors,
    block_name,
    from_image,
    joined_values,
    last_common,
    site_at,
    weight_between,
)
from probe.graph.edit.site import Site
from probe.graph.trace.ops import operation, owner, shape_of

_MOST_ON_A_SHORTCUT = 1
"""A shortcut is an identity or one projection; with more layers it is a parallel branch."""


@dataclass(frozen=True)
class Residual:
    """An addition whose operand number ``shortcut`` (0 or 1) bypasses the layers of the other operand."""

    node: fx.Node
    start: fx.Node
    shortcut: int
    projection: bool

    def operand(self, position: int) -> fx.Node:
        """Return one of the two added values."""
        return operands(self.node)[position]


def operands(node: fx.Node) -> list[fx.Node]:
    """Return the two operands of an addition, in source order."""
    values = [*node.args, *(value for key, value in node.kwargs.items() if key != "alpha")]
    return [value for value in values[:2] if isinstance(value, fx.Node)]


def residuals(graph: fx.GraphModule) -> list[Residual]:
    """Return the residual additions of a graph in execution order."""
    result = []
    for node in graph.graph.nodes:
        if operation(graph, node) != "add":
            continue
        both = operands(node)
        if len(both) == 2 and both[0] is not both[1] and all(from_image(operand) for operand in both):
            residual = _residual(graph, node, both)
            if residual is not None:
                result.append(residual)
    return result


def _residual(graph: fx.GraphModule, node: fx.Node, both: list[fx.Node]) -> Residual | None:
    start = last_common(graph, *both)
    if start is None:
        return None
    weights = [_weight(graph, start, operand) for operand in both]
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
    """Return the sites at which the given operand alone can replace the sum, because it has the same shape."""
    sites, taken = [], set[str]()
    for residual in residuals(graph):
        name = block_name(graph, residual.node, taken)
        position = 1 - residual.shortcut if keeps == "branch" else residual.shortcut
        if shape_of(residual.operand(position)) != shape_of(residual.node):
            continue
        before, after = shape_of(residual.start), shape_of(residual.node)
        form = "projection shortcut" if residual.projection else "identity shortcut"
        if not residual.projection and before != after:
            form = "shortcut without weights"
        if keeps == "shortcut":
            form = f"branch parallel to {'an' if form[0] == 'i' else 'a'} {form}"
        resizes = len(before) == len(after) == 3 and before[1:] != after[1:]
        sites.append(site_at(graph, residual.node, word, name, form, (1 - position,), resizes))
    return tuple(sites)


def keep_operand(graph: fx.GraphModule, node: fx.Node, position: int) -> None:
    """Replace the sum by one of its operands; a factor ``alpha`` on the second operand is kept."""
    operand = operands(node)[position]
    alpha = node.kwargs.get("alpha", 1)
    if position == 1 and alpha != 1:
        with graph.graph.inserting_before(node):
            scaled = graph.graph.call_method("mul", (operand, alpha))
        scaled.meta = dict(node.meta)
        operand = scaled
    node.replace_all_uses_with(operand)


@dataclass(frozen=True)
class Join:
    """A concatenation along the channels; ``places`` are the positions of the values that depend on the image."""

    node: fx.Node
    values: tuple[fx.Node, ...]

    @cached_property
    def places(self) -> tuple[int, ...]:
        """The positions of values that depend on the image."""
        return tuple(place for place, value in enumerate(self.values) if from_image(value))

    @cached_property
    def links(self) -> tuple[int, ...]:
        """The positions of values from which another value was computed: maps of earlier layers."""
        above = {value: ancestors(value) for value in self.values}
        return tuple(
            place
            for place in self.places
            if any(
                self.values[place] in above[other] for other in self.values if other is not self.values[place]
            )
        )

    def width(self, place: int) -> int:
        """Return the number of channels of one value."""
        return shape_of(self.values[place])[0]


def joins(graph: fx.GraphModule) -> list[Join]:
    """Return the concatenations of at least two maps along the channels, in execution order."""
    result = []
    for node in graph.graph.nodes:
        if operation(graph, node) != "cat" or not node.args:
            continue
        values = tuple(joined_values(node))
        if len(values) > 1 and _along_channels(node):
            join = Join(node, values)
            if len(join.places) > 1:
                result.append(join)
    return result


def arm_name(graph: fx.GraphModule, join: Join, place: int, taken: set[str]) -> str:
    """Return a name for a branch: its outermost module, else the concatenating module with a number."""
    base = owner(join.node) or join.node.name
    inside = f"{base}." if owner(join.node) else ""
    own = owner(join.values[place])
    rest = own.removeprefix(inside) if own.startswith(inside) else ""
    name = inside + rest.split(".")[0] if rest else f"{base}#{place + 1}"
    name = f"{name}#{place + 1}" if name in taken else name
    taken.add(name)
    return name


def _along_channels(node: fx.Node) -> bool:
    shape = shape_of(node)
    dim = node.kwargs.get("dim", node.kwargs.get("axis", node.args[1] if len(node.args) > 1 else 0))
    return isinstance(dim, int) and bool(shape) and dim % (len(shape) + 1) == 1


@dataclass(frozen=True)
class MultiplicativeGate:
    """A multiplication whose operand number ``position`` is the gate of the other operand."""

    node: fx.Node
    position: int
    form: str


def gates(graph: fx.GraphModule) -> list[MultiplicativeGate]:
    """Return the gates of a graph in execution order."""
    result = []
    for node in graph.graph.nodes:
        if operation(graph, node) != "mul" or len(node.args) != 2:
            continue
        both = node.args
        if not all(isinstance(factor, fx.Node) and factor.meta.get("shape") for factor in both):
            continue
        shapes = [shape_of(factor) for factor in both if isinstance(factor, fx.Node)]
        small = 0 if math.prod(shapes[0]) < math.prod(shapes[1]) else 1
        gate, gated = both[small], both[1 - small]
        if not (isinstance(gate, fx.Node) and isinstance(gated, fx.Node)) or gate is gated:
            continue
        if shapes[1 - small] == shape_of(node) and shapes[small] != shape_of(node):
            above = ancestors(gate)
            if gated in above or (set(_inputs(gated)) & above and _inputs(gated)):
                result.append(
                    MultiplicativeGate(node, small, f"gate of {'×'.join(map(str, shapes[small]))} factors")
                )
    return result


def only_for_gates(graph: fx.GraphModule) -> frozenset[fx.Node]:
    """Return the nodes whose values reach the output only through gates: squeeze, excitation, their activations."""
    factors = {gate.node: gate.node.args[gate.position] for gate in gates(graph)}
    reached: set[fx.Node] = set()
    waiting = [node for node in graph.graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += [value for value in node.all_input_nodes if factors.get(node) is not value]
    return frozenset(node for node in graph.graph.nodes if node not in reached)


def _inputs(node: fx.Node) -> list[fx.Node]:
    return [value for value in node.all_input_nodes if value.op != "get_attr"]
