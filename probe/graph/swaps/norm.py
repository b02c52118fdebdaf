"""Local response normalisation (Krizhevsky et al. 2012), batch normalisation (Ioffe and Szegedy 2015), or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import fx, nn

from probe.graph.edit.edits import get_node, put_module, site_at, value_of
from probe.graph.edit.site import Site
from probe.graph.edit.structure import SWAPS
from probe.graph.edit.swap import Swap
from probe.graph.trace.leaves import is_lrn
from probe.graph.trace.ops import called, operation, shape_of


@SWAPS.register("norm")
@dataclass(frozen=True)
class NormSwap(Swap):
    """LRN ↔ batch norm ↔ none: every normalisation of maps → ``to`` (batch, lrn or none).

    A network without normalisation gets batch norm after its convolutions, or LRN after the activations that follow them.
    """

    to: Literal["batch", "lrn", "none"] = "batch"
    name: ClassVar[str] = "swap:norm"

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:resnet20" if self.to == "lrn" else "zoo:alexnet"

    @property
    def arm(self) -> str:
        """Return the label of the edited network."""
        return {"batch": "with batch norm", "lrn": "with LRN", "none": "without norm"}[self.to]

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the normalisations of another kind, or the places for new ones in a network without any."""
        nodes = [node for node in graph.graph.nodes if value_of(node) is not None]
        norms = [node for node in nodes if operation(graph, node) in ("norm", "lrn")]
        kind = {"batch": "BatchNorm2d", "lrn": "LRN", "none": "nothing"}[self.to]
        if norms:
            maps = [node for node in norms if len(shape_of(node)) == 3 and self._other(graph, node)]
            return tuple(
                site_at(graph, node, self.text, _name(node), f"{_called(graph, node)} → {kind}", (1,))
                for node in maps
            )
        if self.to == "none":
            return ()
        places = [node for node in nodes if operation(graph, node) == "conv" and len(shape_of(node)) == 3]
        if self.to == "lrn":
            places = [
                user
                for node in places
                for user in node.users
                if len(node.users) == 1 and operation(graph, user) == "activation"
            ]
        return tuple(
            site_at(graph, node, self.text, _name(node), f"{kind} behind it", (0,)) for node in places
        )

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Replace it by the other normalisation, or add that after it."""
        node = get_node(graph, site)
        value = value_of(node)
        if value is None:
            return
        if site.operands == (1,):
            if self.to == "none":
                node.replace_all_uses_with(value)
            else:
                put_module(graph, node, self._made(shape_of(value)[0]), "norm")
            return
        name = f"norm_behind_{node.name}"
        graph.add_submodule(name, self._made(shape_of(node)[0]).train(graph.training))
        with graph.graph.inserting_after(node):
            call = graph.graph.call_module(name, (node,))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)

    def _other(self, graph: fx.GraphModule, node: fx.Node) -> bool:
        if self.to == "lrn":
            return operation(graph, node) != "lrn"
        batch = node.op == "call_module" and isinstance(called(graph, node), nn.BatchNorm2d)
        return self.to == "none" or not batch

    def _made(self, channels: int) -> nn.Module:
        if self.to == "batch":
            return nn.BatchNorm2d(channels)
        # As published: k = 2, n = 5, α = 1e-4, β = 0.75; PyTorch divides α by n.
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _called(graph: fx.GraphModule, node: fx.Node) -> str:
    if node.op != "call_module":
        return "LRN" if operation(graph, node) == "lrn" else "norm"
    module = called(graph, node)
    return "LRN" if is_lrn(module) else type(module).__name__
