"""One large kernel or a stack of 3×3: Simonyan and Zisserman, "Very Deep Convolutional Networks", 2014."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import fx, nn

from probe.graph.edit.edits import get_node, kernel_text, site_at
from probe.graph.edit.local import zero_padding
from probe.graph.edit.site import Site
from probe.graph.edit.structure import SWAPS
from probe.graph.edit.swap import Swap, before, collapse, expand, followers, like, plain_conv

_MOST = 3
"""Maximum number of stacked kernels that are merged: three 3×3 cover 7×7; VGG has no longer stacks."""


@SWAPS.register("kernel")
@dataclass(frozen=True)
class Kernel(Swap):
    """Large kernel → stacked 3×3 with the same receptive field (``to=stacked``), or back (``to=large``)."""

    to: Literal["stacked", "large"] = "stacked"
    name: ClassVar[str] = "swap:kernel"

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:vgg" if self.to == "large" else "zoo:lenet"

    @property
    def arm(self) -> str:
        """Return the label of the edited network."""
        return "with stacked 3×3 kernels" if self.to == "stacked" else "with large kernels for stacks"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return large kernels, or the last convolutions of stacks of two or three."""
        return self._large(graph) if self.to == "stacked" else self._stacks(graph)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Replace it by the stack or by the large kernel."""
        node = get_node(graph, site)
        conv = plain_conv(graph, node)
        if conv is None:
            return
        if self.to == "stacked":
            expand(graph, node, _stacked(graph, node, conv), "stacked")
            return
        convs, first = [conv], node
        for _ in range(site.operands[0] - 1):
            above = before(graph, first)
            next_conv = None if above is None else plain_conv(graph, above)
            if above is None or next_conv is None:
                return
            convs.insert(0, next_conv)
            first = above
        collapse(graph, first, node, _joined(convs), "large")

    def _large(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        sites = []
        for node in graph.graph.nodes:
            conv = plain_conv(graph, node)
            if conv is None:
                continue
            size, padding = conv.kernel_size, zero_padding(conv)
            odd = size[0] == size[1] and size[0] >= 5 and size[0] % 2 == 1
            if odd and max(padding) <= size[0] // 2:
                form = f"{kernel_text(conv)} → {size[0] // 2} stacked 3×3"
                sites.append(site_at(graph, node, self.text, str(node.target), form))
        return tuple(sites)

    def _stacks(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        sites = []
        for run in _runs(graph):
            side = 2 * len(run) + 1
            form = f"{len(run)} stacked 3×3 → {side}×{side}"
            last = run[-1]
            sites.append(site_at(graph, last, self.text, str(last.target), form, (len(run),)))
        return tuple(sites)


def _runs(graph: fx.GraphModule) -> list[list[fx.Node]]:
    """Return groups of two or three 3×3 convolutions, one after the other; only the last may have a stride."""
    runs: list[list[fx.Node]] = []
    for node in graph.graph.nodes:
        conv = plain_conv(graph, node)
        if conv is None or conv.kernel_size != (3, 3):
            continue
        above = before(graph, node)
        last = runs[-1] if runs else []
        previous = None if above is None else plain_conv(graph, above)
        follows = bool(last) and above is last[-1] and previous is not None
        if (
            follows
            and len(last) < _MOST
            and previous is not None
            and tuple(previous.stride) == (1, 1)
            and previous.groups == conv.groups
        ):
            last.append(node)
        else:
            runs.append([node])
    return [run for run in runs if len(run) > 1]


def _stacked(graph: fx.GraphModule, node: fx.Node, conv: nn.Conv2d) -> list[nn.Module]:
    count = conv.kernel_size[0] // 2
    rows, columns = zero_padding(conv)
    between = followers(graph, node, conv.out_channels)
    layers: list[nn.Module] = []
    for number in range(count):
        # To keep the output size, as many kernels have padding as the large kernel had rows of padding.
        layers.append(
            like(
                conv,
                conv.out_channels if number else conv.in_channels,
                conv.out_channels,
                kernel_size=3,
                stride=conv.stride if number == count - 1 else 1,
                padding=(int(number < rows), int(number < columns)),
            )
        )
        if number < count - 1:
            layers += between()
    return layers


def _joined(convs: list[nn.Conv2d]) -> nn.Conv2d:
    first, last = convs[0], convs[-1]
    rows, columns = (sum(zero_padding(conv)[dim] for conv in convs) for dim in (0, 1))
    return like(
        last,
        first.in_channels,
        last.out_channels,
        kernel_size=2 * len(convs) + 1,
        stride=last.stride,
        padding=(rows, columns),
    )
