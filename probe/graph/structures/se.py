"""Squeeze-and-excitation: Hu, Shen and Sun 2018."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from probe.graph.edit.edits import block_name, get_node, site_at
from probe.graph.edit.joins import gates
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure


@STRUCTURES.register("se")
@dataclass(frozen=True)
class SqueezeExcite(Structure):
    """A gate computed from the map that it multiplies: squeeze-and-excitation, ECA, CBAM and similar."""

    name: ClassVar[str] = "se"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the multiplications of a map by its own gate."""
        sites, taken = [], set[str]()
        for gate in gates(graph):
            name = block_name(graph, gate.node, taken)
            sites.append(site_at(graph, gate.node, self.name, name, gate.form, (gate.position,), False))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Pass the map on unchanged."""
        node = get_node(graph, site)
        operand = node.args[1 - site.operands[0]]
        if isinstance(operand, fx.Node):
            node.replace_all_uses_with(operand)
