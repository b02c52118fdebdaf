"""Local receptive fields, the second of a convolution's two restrictions: LeCun 1989."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from probe.graph.edit.edits import get_node, kernel_text, put_module, site_at, value_of
from probe.graph.edit.local import MapConv2d
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure
from probe.graph.edit.swap import plain_conv
from probe.graph.trace.ops import shape_of


@STRUCTURES.register("locality")
@dataclass(frozen=True)
class Locality(Structure):
    """The locality of a convolution: its kernel becomes as large as its input map; weights stay shared."""

    name: ClassVar[str] = "locality"
    no_effect_reason: ClassVar[str] = (
        "The kernel grows by zeros, so that a lesion changes nothing; what locality is worth is answered by the "
        "retrained arms."
    )

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:lenet"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the convolutions whose kernels cover several pixels, but not the whole map."""
        sites = []
        for node in graph.graph.nodes:
            conv = plain_conv(graph, node)
            value = value_of(node)
            if conv is None or value is None or max(conv.kernel_size) == 1:
                continue
            height, width = shape_of(value)[1:]
            if conv.kernel_size[0] < height or conv.kernel_size[1] < width:
                form = f"{kernel_text(conv)} → {kernel_text(MapConv2d(conv, (height, width)))}"
                sites.append(site_at(graph, node, self.name, str(node.target), form))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Replace it by a convolution with a kernel of the map's size."""
        node = get_node(graph, site)
        conv, value = plain_conv(graph, node), value_of(node)
        if conv is not None and value is not None:
            height, width = shape_of(value)[1:]
            put_module(graph, node, MapConv2d(conv, (height, width)), self.name)
