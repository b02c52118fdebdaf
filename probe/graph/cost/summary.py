"""A summary of a network's cost and structure: parameters, MACs, paths, depth, receptive field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from probe.core.errors import NotApplicableError
from probe.graph.cost.operations import without_fused_attention
from probe.graph.cost.paths import path_lengths
from probe.graph.receptive_field.field import receptive_field
from probe.graph.trace.layers import last_map_layer
from probe.graph.trace.trace import no_side_effects

__all__ = ["Anatomy", "anatomy", "count_macs", "path_lengths"]


@dataclass(frozen=True)
class Anatomy:
    """The summary: ``parameters`` of the layers in use; ``macs``: multiply-accumulates for one image.

    ``paths``: paths from the image to the output in the graph; ``depth``: layers with weights on the longest of
    them; ``field``: height and width of the receptive field of the last map. None for values that are not known.
    """

    parameters: int
    macs: int
    paths: int | None
    depth: int | None
    field: tuple[int, int] | None


def anatomy(network: nn.Module, example: Tensor, *, field: bool = True) -> Anatomy:
    """Measure a network, a graph of ``ablatable`` or any other, on an input (N, C, H, W).

    Without ``field``, the receptive field, which takes longest, is not computed.
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
    """Return the multiply-accumulates for one image in convolutions and matrix products, as torch counts FLOPs.

    Attention runs as plain matrix products, because torch's counter does not see inside the fused kernel.
    """
    counter = FlopCounterMode(display=False)
    with no_side_effects(network), without_fused_attention(), sdpa_kernel(SDPBackend.MATH), counter:
        network(example[:1].clone())
    return int(counter.get_total_flops()) // 2


def _field(network: nn.Module, example: Tensor) -> tuple[int, int] | None:
    with torch.no_grad():
        layer = last_map_layer(network, example[:1])
        if not layer:
            return None
        try:
            return receptive_field(network, layer, example[:1]).size
        except NotApplicableError:
            return None
