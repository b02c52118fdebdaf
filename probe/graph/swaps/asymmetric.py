"""n×n or 1×n and n×1: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import fx, nn

from probe.graph.edit.edits import get_node, kernel_text, site_at
from probe.graph.edit.local import zero_padding
from probe.graph.edit.site import Site
from probe.graph.edit.structure import SWAPS
from probe.graph.edit.swap import Swap, before, collapse, expand, followers, like, plain_conv


@SWAPS.register("asymmetric")
@dataclass(frozen=True)
class Asymmetric(Swap):
    """n×n → 1×n followed by n×1 (``to=asymmetric``), or back (``to=square``)."""

    to: Literal["asymmetric", "square"] = "asymmetric"
    name: ClassVar[str] = "swap:asymmetric"

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:inception?version=3" if self.to == "square" else "zoo:resnet20"

    @property
    def arm(self) -> str:
        """Return the label of the edited network."""
        return "with 1×n and n×1 kernels" if self.to == "asymmetric" else "with n×n for 1×n and n×1 kernels"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return square kernels of 3×3 and more, or the second convolutions of pairs 1×n and n×1."""
        sites, ends = [], set[fx.Node]()
        for node in graph.graph.nodes:
            conv = plain_conv(graph, node)
            if conv is None:
                continue
            height, width = conv.kernel_size
            if self.to == "asymmetric" and height == width >= 3:
                form = f"{kernel_text(conv)} → 1×{width}, {height}×1"
                sites.append(site_at(graph, node, self.text, str(node.target), form))
            pair = _pair_ending(graph, node) if self.to == "square" else None
            if pair is not None and pair[0] not in ends:
                ends.add(node)
                side = max(height, width)
                form = f"{kernel_text(pair[1])}, {kernel_text(conv)} → {side}×{side}"
                sites.append(site_at(graph, node, self.text, str(node.target), form))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Replace it by the pair or by the square kernel."""
        node = get_node(graph, site)
        conv = plain_conv(graph, node)
        if conv is None:
            return
        if self.to == "asymmetric":
            expand(graph, node, _pair_for(graph, node, conv), "asymmetric")
            return
        pair = _pair_ending(graph, node)
        if pair is not None:
            collapse(graph, pair[0], node, _square(pair[1], conv), "square")


def _pair_for(graph: fx.GraphModule, node: fx.Node, conv: nn.Conv2d) -> list[nn.Module]:
    (height, width), (rows, columns) = conv.kernel_size, zero_padding(conv)
    across = like(
        conv,
        conv.in_channels,
        conv.out_channels,
        kernel_size=(1, width),
        stride=(1, conv.stride[1]),
        padding=(0, columns),
    )
    down = like(
        conv,
        conv.out_channels,
        conv.out_channels,
        kernel_size=(height, 1),
        stride=(conv.stride[0], 1),
        padding=(rows, 0),
    )
    return [across, *followers(graph, node, conv.out_channels)(), down]


def _pair_ending(graph: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, nn.Conv2d] | None:
    """Return the first convolution of a pair 1×n, n×1 (or n×1, 1×n) that ends at ``node``."""
    conv, above = plain_conv(graph, node), before(graph, node)
    first = None if above is None else plain_conv(graph, above)
    if conv is None or above is None or first is None or conv.groups != first.groups:
        return None
    flat, long = sorted((conv.kernel_size, first.kernel_size))
    matches = flat[0] == 1 and long[1] == 1 and flat[1] == long[0] > 1
    return (above, first) if matches else None


def _square(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    side = max(second.kernel_size)
    strides = zip(first.stride, second.stride, strict=True)
    paddings = zip(zero_padding(first), zero_padding(second), strict=True)
    stride, padding = tuple(a * b for a, b in strides), tuple(a + b for a, b in paddings)
    return like(
        second, first.in_channels, second.out_channels, kernel_size=side, stride=stride, padding=padding
    )
