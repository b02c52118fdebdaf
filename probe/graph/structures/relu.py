"""Activations, replaced by the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import fx, nn

from probe.graph.edit.activations import module_activation
from probe.graph.edit.joins import only_for_gates
from probe.graph.edit.structure import STRUCTURES, ModuleReplacement

_DISTRIBUTIONS = (nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax, nn.GLU)


@STRUCTURES.register("relu")
@dataclass(frozen=True)
class ReLU(ModuleReplacement):
    """Any activation (ReLU, GELU, SiLU …), replaced by the identity; gates and softmax do not count."""

    name: ClassVar[str] = "relu"

    def replacement(self, module: nn.Module) -> nn.Module | None:
        """Return the identity for an activation."""
        if isinstance(module, _DISTRIBUTIONS) or module_activation(module) is None:
            return None
        return nn.Identity()

    def excluded(self, graph: fx.GraphModule) -> frozenset[fx.Node]:
        """Return activations that are part of a gate, such as the sigmoid of squeeze-and-excitation."""
        return only_for_gates(graph)
