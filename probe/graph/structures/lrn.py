"""Local response normalisation: Krizhevsky, Sutskever and Hinton 2012."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import fx, nn

from probe.graph.edit.edits import block_name, get_node, site_at, value_of
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, ModuleReplacement
from probe.graph.trace.leaves import is_lrn
from probe.graph.trace.ops import operation


@STRUCTURES.register("lrn")
@dataclass(frozen=True)
class LRN(ModuleReplacement):
    """Local response normalisation across channels, as a module or a function."""

    name: ClassVar[str] = "lrn"

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:alexnet"

    def replacement(self, module: nn.Module) -> nn.Module | None:
        """Return the identity for a local response normalisation."""
        return nn.Identity() if is_lrn(module) else None

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the modules and the calls of the function."""
        sites, taken = [], set[str]()
        for node in graph.graph.nodes:
            if operation(graph, node) == "lrn" and value_of(node) is not None:
                form = "LRN" if node.target is F.local_response_norm else self._form(graph, node)
                sites.append(site_at(graph, node, self.name, block_name(graph, node, taken), form))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Pass the value on unchanged."""
        node = get_node(graph, site)
        value = value_of(node)
        if value is not None:
            node.replace_all_uses_with(value)

    def _form(self, graph: fx.GraphModule, node: fx.Node) -> str:
        return self.form(graph.get_submodule(str(node.target))) if node.op == "call_module" else "LRN"
