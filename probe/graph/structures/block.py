"""Residual branches: the lesion of Veit, Wilber and Belongie 2016."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from probe.graph.edit.edits import get_node
from probe.graph.edit.joins import keep_operand, residual_sites
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure


@STRUCTURES.register("block")
@dataclass(frozen=True)
class BlockRemoval(Structure):
    """The residual branch of a block; the shortcut stays, so the block passes its input on (Veit 2016)."""

    name: ClassVar[str] = "block"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the additions of a branch to a shortcut of the same shape."""
        return residual_sites(graph, self.name, keeps="shortcut")

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Keep only the shortcut."""
        keep_operand(graph, get_node(graph, site), 1 - site.operands[0])
