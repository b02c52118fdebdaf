"""A convolution or an MLPconv layer: Lin, Chen and Yan, "Network In Network", 2013."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import fx, nn

from probe.graph.edit.edits import get_node, kernel_text, site_at
from probe.graph.edit.local import zero_padding
from probe.graph.edit.site import Site
from probe.graph.edit.structure import SWAPS
from probe.graph.edit.swap import Swap, before, collapse, expand, followers, like, plain_conv


@SWAPS.register("mlpconv")
@dataclass(frozen=True)
class MLPConvSwap(Swap):
    """k×k → k×k and two 1×1, an MLPconv layer (``to=mlpconv``), or back to its k×k (``to=plain``)."""

    to: Literal["mlpconv", "plain"] = "mlpconv"
    name: ClassVar[str] = "swap:mlpconv"

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:nin" if self.to == "plain" else "zoo:lenet"

    @property
    def arm(self) -> str:
        """Return the label of the edited network."""
        return "with MLPconv layers" if self.to == "mlpconv" else "with plain convolutions for MLPconv layers"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return convolutions of 3×3 and more, or the last 1×1 of MLPconv layers."""
        sites = []
        for node in graph.graph.nodes:
            conv = plain_conv(graph, node)
            if conv is None:
                continue
            if self.to == "mlpconv" and min(conv.kernel_size) >= 3:
                form = f"{kernel_text(conv)} → {kernel_text(conv)}, 1×1, 1×1"
                sites.append(site_at(graph, node, self.text, str(node.target), form))
            start = _start(graph, node) if self.to == "plain" else None
            if start is not None:
                text = kernel_text(start[1])
                sites.append(site_at(graph, node, self.text, str(node.target), f"{text}, 1×1, 1×1 → {text}"))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Replace it by the other kind."""
        node = get_node(graph, site)
        conv = plain_conv(graph, node)
        if conv is None:
            return
        if self.to == "mlpconv":
            channels, between = conv.out_channels, followers(graph, node, conv.out_channels)
            own = like(
                conv,
                conv.in_channels,
                channels,
                kernel_size=conv.kernel_size,
                stride=conv.stride,
                padding=zero_padding(conv),
            )
            pointwise = [_pointwise(conv) for _ in range(2)]
            expand(graph, node, [own, *between(), pointwise[0], *between(), pointwise[1]], "mlpconv")
            return
        start = _start(graph, node)
        if start is None:
            return
        first = start[1]
        plain = like(
            first,
            first.in_channels,
            conv.out_channels,
            kernel_size=first.kernel_size,
            stride=first.stride,
            padding=zero_padding(first),
        )
        collapse(graph, start[0], node, plain, "plain")


def _pointwise(conv: nn.Conv2d) -> nn.Conv2d:
    # Across all channels, even after a grouped convolution, because the layer is meant to mix them.
    dense = nn.Conv2d(conv.out_channels, conv.out_channels, 1, bias=conv.bias is not None)
    dense.weight.data.normal_(
        0, float(conv.weight.detach().std()) * (conv.weight[0].numel() / conv.out_channels) ** 0.5
    )
    if dense.bias is not None:
        dense.bias.data.zero_()
    return dense.to(device=conv.weight.device, dtype=conv.weight.dtype)


def _start(graph: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, nn.Conv2d] | None:
    """Return the k×k convolution (k ≥ 2) of an MLPconv layer whose second 1×1 is at ``node``."""
    place, convs = node, []
    for _ in range(3):
        conv = plain_conv(graph, place)
        if conv is None:
            return None
        convs.append((place, conv))
        above = before(graph, place)
        if len(convs) == 3:
            break
        if above is None:
            return None
        place = above
    last, middle, first = (conv for _, conv in convs)
    alone = last.kernel_size == middle.kernel_size == (1, 1) and min(first.kernel_size) > 1
    unmoved = tuple(last.stride) == tuple(middle.stride) == (1, 1)
    return convs[2] if alone and unmoved else None
