"""Normalisation layers: batch (Ioffe and Szegedy 2015), layer, group, instance and RMS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from probe.graph.edit.structure import STRUCTURES, ModuleReplacement
from probe.graph.trace.leaves import is_lrn
from probe.graph.trace.ops import is_norm


@STRUCTURES.register("norm")
@dataclass(frozen=True)
class NormRemoval(ModuleReplacement):
    """Batch, group, layer, instance or RMS normalisation, with its scale and shift."""

    name: ClassVar[str] = "norm"

    def replacement(self, module: nn.Module) -> nn.Module | None:
        """Return the identity for a normalisation."""
        return nn.Identity() if is_norm(module) and not is_lrn(module) else None
