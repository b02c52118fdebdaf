"""Parallel branches, as in an Inception module (Szegedy et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from probe.graph.edit.edits import get_node, put_zeros, site_at
from probe.graph.edit.joins import arm_name, joins
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure


@STRUCTURES.register("branch")
@dataclass(frozen=True)
class Branch(Structure):
    """One of several concatenated parallel branches (Inception, Fire modules), replaced by zeros of the same width.

    Branches are concatenated maps none of which was computed from another. Layers that are used only by the branch are
    removed with it. If all branches of a module are removed, its output is zeros.
    """

    name: ClassVar[str] = "branch"

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:inception"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return every branch of every concatenation without links."""
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
        """Replace the branch by zeros."""
        node = get_node(graph, site)
        pixels = next(other for other in graph.graph.nodes if other.op == "placeholder")
        put_zeros(graph, node, site.operands[0], pixels)
