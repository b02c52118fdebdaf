"""Shortcuts around a residual branch: He, Zhang, Ren and Sun 2015."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from probe.graph.edit.edits import get_node
from probe.graph.edit.joins import keep_operand, residual_sites
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure


@STRUCTURES.register("shortcut")
@dataclass(frozen=True)
class Shortcut(Structure):
    """The shortcut of a residual block, identity or projection; the result is a plain chain of layers.

    Shortcuts are recognised in the graph: one of the two operands of an addition reaches the block's input without any
    layer or through a single projection. A projection that has no other use is removed too.
    """

    name: ClassVar[str] = "shortcut"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the additions of a shortcut to a branch of the same shape."""
        return residual_sites(graph, self.name, keeps="branch")

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Keep only the branch."""
        keep_operand(graph, get_node(graph, site), 1 - site.operands[0])
