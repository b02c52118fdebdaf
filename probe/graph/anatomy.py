"""What a network costs and how it is connected: parameters, MACs, paths, depth, receptive field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from probe.core.errors import NotApplicableError
from probe.graph.field import receptive_field
from probe.graph.gates import gates
from probe.graph.layers import last_map_layer
from probe.graph.ops import is_weighted, tensor_inputs
from probe.graph.shell import isolated


@dataclass(frozen=True)
class Anatomy:
    """``parameters`` of the layers in use; ``macs``: multiply-accumulates for one image.

    ``paths``: ways from the image to the output along the graph; ``depth``: layers with weights on the longest of
    them; ``field``: height and width of the receptive field of the last map. None where it cannot be told.
    """

    parameters: int
    macs: int
    paths: int | None
    depth: int | None
    field: tuple[int, int] | None


def anatomy(network: nn.Module, example: Tensor, *, field: bool = True) -> Anatomy:
    """Measure a network, a graph of ``ablatable`` or any other, on an input (N, C, H, W).

    Without ``field`` the receptive field, which takes longest, is left out.
    """
    graph = network if isinstance(network, fx.GraphModule) else None
    lengths = {} if graph is None else path_lengths(graph)
    return Anatomy(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=count_macs(network, example),
        paths=None if graph is None else sum(lengths.values()),
        depth=None if graph is None else max(lengths, default=0),
        field=_field(network, example) if field else None,
    )


def count_macs(network: nn.Module, example: Tensor) -> int:
    """Return the multiply-accumulates for one image in convolutions and matrix products."""
    counter = FlopCounterMode(display=False)
    with isolated(network), counter:
        network(example[:1].clone())
    return int(counter.get_total_flops()) // 2


def path_lengths(graph: fx.GraphModule) -> dict[int, int]:
    """Return length → number of paths from the image to the output, by layers with weights on them.

    A path may take either value of an addition or a concatenation; gates multiply and are no paths. A residual chain
    of L blocks has 2^L paths, and their lengths in blocks are Binomial(L, 1/2) (Veit, Wilber and Belongie 2016).
    """
    factors = {gate.node: gate.node.args[gate.position] for gate in gates(graph)}
    known: dict[fx.Node, dict[int, int]] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = {0: 1}
            continue
        own = 1 if node.op != "output" and is_weighted(graph, node) else 0
        lengths: dict[int, int] = {}
        for each in _ways(node):
            if each in known and factors.get(node) is not each:
                for length, count in known[each].items():
                    lengths[length + own] = lengths.get(length + own, 0) + count
        if lengths:
            known[node] = lengths
    output = next(node for node in graph.graph.nodes if node.op == "output")
    return dict(sorted(known.get(output, {}).items()))


def _ways(node: fx.Node) -> list[fx.Node]:
    """Return the values that feed a node; one that is used twice, as in ``x + x``, is two ways."""
    if node.op == "output":
        return list(node.all_input_nodes)
    found: list[fx.Node] = []
    wanted = set(tensor_inputs(node))
    fx.node.map_arg((node.args, node.kwargs), lambda each: found.append(each) if each in wanted else None)
    return found


def _field(network: nn.Module, example: Tensor) -> tuple[int, int] | None:
    with torch.no_grad():
        layer = last_map_layer(network, example[:1])
        if not layer:
            return None
        try:
            return receptive_field(network, layer, example[:1]).size
        except NotApplicableError:
            return None
