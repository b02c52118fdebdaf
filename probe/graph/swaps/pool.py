"""Maximum or average pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from probe.graph.edit.structure import SWAPS
from probe.graph.edit.swap import Swap
from probe.graph.structures.pool import Pool


@SWAPS.register("pool")
@dataclass(frozen=True)
class PoolSwap(Swap, Pool):
    """Max ↔ average pooling, or with ``to``: max, average, strided."""

    name: ClassVar[str] = "swap:pool"

    @property
    def arm(self) -> str:
        """Return the label of the edited network."""
        return "with max for average pooling and back" if self.to == "other" else f"with {self.to} pooling"
