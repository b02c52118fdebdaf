"""Another activation: Nair and Hinton 2010 (ReLU), Hendrycks and Gimpel 2016 (GELU)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import fx, nn

from probe.graph.edit.joins import only_for_gates
from probe.graph.edit.structure import SWAPS, ModuleReplacement
from probe.graph.edit.swap import Swap
from probe.graph.structures.relu import ReLU

_KINDS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky-relu": nn.LeakyReLU,
}


@SWAPS.register("activation")
@dataclass(frozen=True)
class Activation(Swap, ModuleReplacement):
    """Any activation → ``to``: sigmoid, tanh, gelu, relu, silu, elu or leaky-relu; gates are not changed."""

    to: str = "sigmoid"
    name: ClassVar[str] = "swap:activation"

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:lenet"

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid activation."""
        if self.to not in _KINDS:
            raise ValueError(f"to must be one of {', '.join(_KINDS)}, not {self.to}")

    @property
    def arm(self) -> str:
        """Return the label of the edited network."""
        return f"with {self.to}"

    def replacement(self, module: nn.Module) -> nn.Module | None:
        """Return the new activation; None if the module already is of that kind, or is not an activation."""
        new = _KINDS[self.to]()
        return None if ReLU().replacement(module) is None or type(module) is type(new) else new

    def form(self, module: nn.Module) -> str:
        """Describe the replacement: old → new class."""
        return f"{type(module).__name__} → {type(_KINDS[self.to]()).__name__}"

    def excluded(self, graph: fx.GraphModule) -> frozenset[fx.Node]:
        """Return activations that are part of a gate, such as the sigmoid of squeeze-and-excitation."""
        return only_for_gates(graph)
