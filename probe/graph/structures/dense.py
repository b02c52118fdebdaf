"""Dense links: Huang, Liu, van der Maaten and Weinberger 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from probe.graph.edit.edits import block_name, get_node, joined_values, put_zeros, site_at
from probe.graph.edit.joins import joins
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure


@STRUCTURES.register("dense")
@dataclass(frozen=True)
class Dense(Structure):
    """The connections that concatenate the maps of earlier layers (DenseNet, U-Net), replaced by zeros.

    A concatenated map is such a link if another one in the same concatenation was computed from it. Links are replaced
    by zeros of the same width; only the newest map remains, as in a chain of layers.
    """

    name: ClassVar[str] = "dense"

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:densenet"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the concatenations with links; all links of a concatenation are one site."""
        sites, taken = [], set[str]()
        for join in joins(graph):
            links = join.links
            if links:
                name = block_name(graph, join.node, taken)
                form = f"{len(links)} link{'s' if len(links) > 1 else ''} of {len(join.values)} maps"
                sites.append(site_at(graph, join.node, self.name, name, form, links, False))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Replace the links by zeros."""
        node = get_node(graph, site)
        values = joined_values(node)
        remaining = next(value for place, value in enumerate(values) if place not in site.operands)
        for position in site.operands:
            put_zeros(graph, node, position, remaining)
