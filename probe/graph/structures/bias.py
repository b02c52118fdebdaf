"""Biases of convolutions and dense layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.modules.conv import _ConvNd

from probe.graph.edit.structure import STRUCTURES, ModuleReplacement
from probe.graph.trace.trace import shared_copy


@STRUCTURES.register("bias")
@dataclass(frozen=True)
class Bias(ModuleReplacement):
    """The bias of a convolution or a dense layer; the shift of a normalisation does not count (see ``norm``)."""

    name: ClassVar[str] = "bias"

    def replacement(self, module: nn.Module) -> nn.Module | None:
        """Return the layer without bias, with the same weights."""
        if not isinstance(module, _ConvNd | nn.Linear) or module.bias is None:
            return None
        copy = shared_copy(module)
        copy.register_parameter("bias", None)
        return copy

    def form(self, module: nn.Module) -> str:
        """Return the class of the layer and the number of biases."""
        count = sum(value.numel() for name, value in module.named_parameters() if name == "bias")
        return f"{type(module).__name__}, {count} biases"
