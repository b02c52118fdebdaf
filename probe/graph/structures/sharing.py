"""Shared weights, the first of a convolution's two restrictions: LeCun 1989."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from probe.core.errors import NotApplicableError
from probe.graph.edit.edits import get_node, kernel_text, put_module, site_at, value_of
from probe.graph.edit.local import LocallyConnected2d
from probe.graph.edit.site import Site
from probe.graph.edit.structure import STRUCTURES, Structure
from probe.graph.edit.swap import plain_conv
from probe.graph.trace.ops import shape_of

_MOST = 200_000_000


@STRUCTURES.register("sharing")
@dataclass(frozen=True)
class Sharing(Structure):
    """The sharing of a convolution's weights: every position gets its own kernel with the same receptive field."""

    name: ClassVar[str] = "sharing"
    priority: ClassVar[int] = 1  # a kernel that is to grow has to do so while there is one
    no_effect_reason: ClassVar[str] = (
        "Every place begins with the kernel that was shared, so that a lesion changes nothing; what sharing is worth "
        "is answered by the retrained arms."
    )

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:lenet"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the convolutions with more than one output position."""
        sites = []
        for node in graph.graph.nodes:
            conv = plain_conv(graph, node)
            places = shape_of(node)[1] * shape_of(node)[2] if conv is not None else 0
            if conv is not None and places > 1:
                form = f"{kernel_text(conv)} convolution → {places:,} separate kernels"
                sites.append(site_at(graph, node, self.name, str(node.target), form))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Replace the convolution by a locally connected layer."""
        node = get_node(graph, site)
        conv, value = plain_conv(graph, node), value_of(node)
        if conv is None or value is None:
            return
        count = conv.weight.numel() * site.shape[1] * site.shape[2]
        if count > _MOST:
            raise NotApplicableError(
                f"Without sharing, {site.name} alone has {count:,} weights, more than {_MOST:,}: choose smaller layers with "
                "--sites, or use a smaller --img-size."
            )
        height, width = shape_of(value)[1:]
        put_module(graph, node, LocallyConnected2d(conv, (height, width)), self.name)
