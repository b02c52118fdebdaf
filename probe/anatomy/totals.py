"""The totals of a network, one line each, and how two of them differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

from probe.anatomy.examine import Examined
from probe.anatomy.wording import memory, power, seen
from probe.core.report import Cell


@dataclass(frozen=True)
class Total:
    """A number of a network with the way it is written; None where it is not known. ``stored`` counts bytes."""

    name: str
    value: int | None
    shown: str
    stored: bool = False

    def to(self, other: Total) -> tuple[Cell, Cell]:
        """Return difference and ratio of the other network's number to this one's, where they have a meaning."""
        if self.value is None or other.value is None:
            return None, None
        difference = other.value - self.value
        huge = max(abs(self.value), abs(other.value)) >= 10**15
        ratio = None if not self.value else _ratio(other.value, self.value)
        sign = "+" if difference > 0 else ""
        return (sign + memory(difference) if self.stored else "–" if huge else difference), ratio


def totals(one: Examined) -> tuple[Total, ...]:
    """Return all totals of a network in a fixed order."""
    census, paths = one.census, one.paths
    reach = census.reach
    found = [
        _count("parameters", census.parameters),
        _count("MACs", census.macs),
        _count("FLOPs", 2 * census.macs),
        Total("activations, all", census.activations, memory(census.activations), True),
        Total("activations, at once", census.peak, memory(census.peak), True),
        _count("layers", len(census.layers)),
        _count("depth (layers with weights on the longest path)", None if paths is None else paths.depth),
        _count("residual blocks", None if paths is None else paths.blocks),
        _paths("paths", None if paths is None else paths.count, 0 if paths is None else paths.blocks),
        _paths(
            "paths with groups counted as parallel",
            None if paths is None else paths.with_groups,
            0 if paths is None else paths.blocks,
        ),
        Total("receptive field at the end, height", None if reach is None else reach.size[0], seen(reach)),
    ]
    return tuple(found)


def _count(name: str, value: int | None) -> Total:
    return Total(name, value, "–" if value is None else f"{value:,}")


def _paths(name: str, value: int | None, blocks: int) -> Total:
    return Total(name, value, power(value, blocks) if value else "–")


def _ratio(value: int, of: int) -> Cell:
    """Return a ratio as a number, as a power of two where a number would say nothing."""
    if value <= 0 or max(value, of) < 10**15:
        return value / of
    return f"2^{math.log2(value) - math.log2(of):.1f}"
