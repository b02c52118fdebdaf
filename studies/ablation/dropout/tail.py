"""The tail of a network: the nodes after some start nodes, run many times on one pass through the nodes before."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils.flop_counter import FlopCounterMode

from probe.graph.edit.prefix import mutates
from probe.graph.trace.trace import no_side_effects, tensors

Values = dict[fx.Node, Any]
"""Values of the nodes before the tail; None where the tail does not read them."""


class Tail(fx.Interpreter):
    """The nodes ``starts`` of a graph and all that depends on them.

    The graph must not be changed afterwards; what its modules do may change from one run to the next. In a graph
    that works in place on its values everything but the input belongs to the tail, and every run has copies.
    """

    def __init__(self, graph: fx.GraphModule, starts: Collection[fx.Node]) -> None:
        super().__init__(graph)
        self.in_place = mutates(graph)
        later = set(starts)
        for node in graph.graph.nodes:
            if (
                (self.in_place and node.op != "placeholder")
                or node.op == "output"
                or any(source in later for source in node.all_input_nodes)
            ):
                later.add(node)
        self.earlier = [node for node in graph.graph.nodes if node not in later]
        self.read = {node for node in self.earlier if any(user in later for user in node.users)}

    def head(self, images: Tensor) -> Values:
        """Run what comes before on (N, C, H, W) images."""
        self.env = {}
        self.args_iter = iter((images,))
        for node in self.earlier:
            self.env[node] = self.run_node(node)
            # The last reader by the order of the code need not be the last one here: the tail comes later.
            for spent in self.user_to_last_uses.get(node, ()):
                if spent not in self.read:
                    del self.env[spent]
        values = {node: self.env[node] if node in self.read else None for node in self.earlier}
        self.env = {}
        return values

    def finish(self, values: Values) -> Tensor:
        """Run the tail on what ``head`` gave, and return the network's output; the values stay as they are."""
        start = dict(values)
        if self.in_place:
            start = {node: value.clone() for node, value in values.items() if isinstance(value, Tensor)}
        return next(tensors(self.run(initial_env=start)))

    def macs(self, image: Tensor) -> int:
        """Return the multiply-accumulates of one run of the tail on one image (1, C, H, W)."""
        counter = FlopCounterMode(display=False)
        with no_side_effects(self.module), torch.no_grad():
            values = self.head(image)
            with counter:
                self.finish(values)
        return int(counter.get_total_flops()) // 2
