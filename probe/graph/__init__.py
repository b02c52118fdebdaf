"""Networks as graphs: traced, cut, exchanged, measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from probe.graph.cost.operations import operation_table as operation_table
    from probe.graph.cost.paths import paths as paths
    from probe.graph.cost.summary import count_macs as count_macs
    from probe.graph.edit.cut import find_sites as find_sites
    from probe.graph.edit.site import Site as Site
    from probe.graph.edit.structure import STRUCTURES as STRUCTURES
    from probe.graph.edit.structure import SWAPS as SWAPS
    from probe.graph.edit.structure import Structure as Structure
    from probe.graph.edit.structure import get_structure as get_structure
    from probe.graph.edit.swap import Swap as Swap
    from probe.graph.edit.truncate import truncate as truncate
    from probe.graph.receptive_field.field import receptive_fields as receptive_fields

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Site": "probe.graph.edit.site",
        "Structure": "probe.graph.edit.structure",
        "Swap": "probe.graph.edit.swap",
        "STRUCTURES": "probe.graph.edit.structure",
        "SWAPS": "probe.graph.edit.structure",
        "find_sites": "probe.graph.edit.cut",
        "get_structure": "probe.graph.edit.structure",
        "truncate": "probe.graph.edit.truncate",
        "receptive_fields": "probe.graph.receptive_field.field",
        "operation_table": "probe.graph.cost.operations",
        "paths": "probe.graph.cost.paths",
        "count_macs": "probe.graph.cost.summary",
    },
)

__all__ = [
    "STRUCTURES",
    "SWAPS",
    "Site",
    "Structure",
    "Swap",
    "count_macs",
    "find_sites",
    "get_structure",
    "operation_table",
    "paths",
    "receptive_fields",
    "truncate",
]
