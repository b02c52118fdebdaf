"""Concatenations of maps: links of a dense network, arms of an Inception module."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import fx

from probe.graph.edits import ancestors, from_image, joined_values
from probe.graph.ops import operation, owner, shape_of


@dataclass(frozen=True)
class Join:
    """A concatenation along the channels; ``places`` are the positions of the values that come from the image."""

    node: fx.Node
    values: tuple[fx.Node, ...]

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Positions of values that depend on the image."""
        return tuple(place for place, value in enumerate(self.values) if from_image(value))

    @cached_property
    def links(self) -> tuple[int, ...]:
        """Positions of the values from which another one was computed: maps of earlier layers."""
        above = {value: ancestors(value) for value in self.values}
        return tuple(
            place
            for place in self.places
            if any(
                self.values[place] in above[other] for other in self.values if other is not self.values[place]
            )
        )

    def width(self, place: int) -> int:
        """Return the channels of one value."""
        return shape_of(self.values[place])[0]


def joins(graph: fx.GraphModule) -> list[Join]:
    """Return the concatenations of at least two maps along the channels, in execution order."""
    found = []
    for node in graph.graph.nodes:
        if operation(graph, node) != "cat" or not node.args:
            continue
        values = tuple(joined_values(node))
        if len(values) > 1 and _along_channels(node):
            join = Join(node, values)
            if len(join.places) > 1:
                found.append(join)
    return found


def arm_name(graph: fx.GraphModule, join: Join, place: int, taken: set[str]) -> str:
    """Return a name for an arm: that of the outermost module in it, else the joining module's with a number."""
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
