"""Parallel branches: the arms of an Inception module (Szegedy et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from probe.graph.edit.edits import node_named, put_zeros, site_at
from probe.graph.edit.residual import arm_name, joins
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure


@STRUCTURES.register("branch")
@dataclass(frozen=True)
class Branch(Structure):
    """One arm of a concatenation of parallel arms (Inception, Fire modules); zeros of equal width take its place.

    Arms are concatenated maps none of which was computed from another one. What computed the arm alone is removed
    with it. When all arms of a module are cut, it hands on zeros.
    """

    name: ClassVar[str] = "branch"

    @property
    def default_model(self) -> str:
        """A small network that has it."""
        return "zoo:inception"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return every arm of every concatenation without links."""
        sites, taken = [], set[str]()
        for join in joins(graph):
            if join.links:
                continue
            for position in join.places:
                name = arm_name(graph, join, position, taken)
                form = f"arm {position + 1} of {len(join.values)}, {join.width(position)} channels"
                sites.append(site_at(graph, join.node, self.name, name, form, (position,), False))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Put zeros in the place of the arm."""
        node = node_named(graph, site)
        pixels = next(each for each in graph.graph.nodes if each.op == "placeholder")
        put_zeros(graph, node, site.operands[0], pixels)
