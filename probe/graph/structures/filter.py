"""Single filters: one channel of one convolution at a time."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from probe.core.errors import unknown
from probe.graph.edit.edits import get_node, kernel_text, site_at
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure
from probe.graph.trace.ops import called, operation, shape_of


@STRUCTURES.register("filter")
@dataclass(frozen=True)
class Filter(Structure):
    """One channel of a convolution, set to zero after its normalisation and activation (Morcos et al. 2018).

    ``layer`` selects one convolution by its name.
    """

    layer: str = ""
    name: ClassVar[str] = "filter"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return every output channel of every convolution, named ``layer:channel``; a shared one appears once.

        Raises UsageError for a ``layer`` that is not one of them.
        """
        sites: list[Site] = []
        convolutions = _convolutions(graph)
        names = [str(node.target) for node in convolutions]
        if self.layer and self.layer not in names:
            raise unknown("convolution", self.layer, names)
        calls = Counter(_weights(graph, node) for node in convolutions)
        seen: set[int] = set()
        for node in convolutions:
            name, weights = str(node.target), _weights(graph, node)
            if self.layer not in ("", name) or weights in seen:
                continue
            seen.add(weights)
            form = f"filter of a {kernel_text(called(graph, node))} convolution"
            if calls[weights] > 1:
                form += f", cut in each of its {calls[weights]} calls"
            layer_site = site_at(graph, node, self.text, name, form, resizes=False, each_call=False)
            sites += [
                Site(**{**vars(layer_site), "name": f"{name}:{channel}", "operands": (channel,)})
                for channel in range(shape_of(node)[0])
            ]
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Set the channel to zero at the end of its layer, in each call of the convolution."""
        weights = _weights(graph, get_node(graph, site))
        for call in [node for node in _convolutions(graph) if _weights(graph, node) == weights]:
            _silence(graph, _end_of_layer(graph, call), site.operands[0])


def _silence(graph: fx.GraphModule, node: fx.Node, channel: int) -> None:
    with graph.graph.inserting_after(node):
        silent = graph.graph.call_function(without_channel, (node, channel))
    silent.meta = dict(node.meta)
    node.replace_all_uses_with(silent, delete_user_cb=lambda user: user is not silent)


def _weights(graph: fx.GraphModule, node: fx.Node) -> int:
    """Return what identifies the weights of a convolution: calls of a shared one have the same."""
    return next(called(graph, node).parameters()).data_ptr()


def _convolutions(graph: fx.GraphModule) -> list[fx.Node]:
    """Return the calls of convolution modules whose output is a map."""
    return [
        node
        for node in graph.graph.nodes
        if node.op == "call_module" and operation(graph, node) == "conv" and len(shape_of(node)) == 3
    ]


def without_channel(x: Tensor, channel: int) -> Tensor:
    """Return a copy of (N, C, H, W) in which one channel is zero."""
    mask = torch.ones(x.shape[1], dtype=x.dtype, device=x.device)
    mask[channel] = 0
    # Not by multiplication, which would keep values that are not finite.
    return torch.where(mask.view(1, -1, *[1] * (x.dim() - 2)).bool(), x, x.new_zeros(()))


def _end_of_layer(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return the last node of a convolution, its normalisation and its activation, if nothing else reads them."""
    for wanted in ("norm", "activation", "pool"):
        readers = [user for user in node.users if user.meta.get("shape") is not None]
        if (
            len(readers) != 1
            or wanted == "pool"
            or operation(graph, readers[0]) not in ("norm", "activation")
        ):
            return node
        if math.prod(shape_of(readers[0])) != math.prod(shape_of(node)):
            return node
        node = readers[0]
    return node
