"""Whole convolutions that keep the shape of their input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from probe.graph.edit.edits import get_node, kernel_text, site_at, value_of
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure
from probe.graph.trace.ops import operation, shape_of


@STRUCTURES.register("layer")
@dataclass(frozen=True)
class LayerRemoval(Structure):
    """A whole convolution whose output has the shape of its input, which is passed on instead."""

    name: ClassVar[str] = "layer"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the convolutions whose input and output have the same shape."""
        sites = []
        for node in graph.graph.nodes:
            value = value_of(node) if node.op == "call_module" else None
            if value is None or operation(graph, node) != "conv" or shape_of(value) != shape_of(node):
                continue
            kernel = kernel_text(graph.get_submodule(str(node.target)))
            sites.append(site_at(graph, node, self.name, str(node.target), f"{kernel} convolution"))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Pass the input on."""
        node = get_node(graph, site)
        value = value_of(node)
        if value is not None:
            node.replace_all_uses_with(value)
