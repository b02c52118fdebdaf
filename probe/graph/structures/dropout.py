"""Dropout and drop path: Srivastava et al. 2014; Huang et al. 2016."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from probe.graph.edit.structure import STRUCTURES, ModuleReplacement
from probe.graph.trace.leaves import is_dropout_like


@STRUCTURES.register("dropout")
@dataclass(frozen=True)
class Dropout(ModuleReplacement):
    """Dropout of values, channels, blocks or whole residual branches (drop path, stochastic depth)."""

    name: ClassVar[str] = "dropout"
    no_effect_reason: ClassVar[str] = (
        "Dropout works while a network is trained and is the identity at test time, so that a lesion changes nothing; "
        "what it was worth is answered by the retrained arms."
    )

    @property
    def default_model(self) -> str:
        """A small network with this structure."""
        return "zoo:alexnet"

    def replacement(self, module: nn.Module) -> nn.Module | None:
        """Return the identity for a dropout with a rate above 0."""
        return nn.Identity() if is_dropout_like(module) and _rate(module) != 0 else None

    def form(self, module: nn.Module) -> str:
        """Return the class and the rate."""
        rate = _rate(module)
        return type(module).__name__ + (f" {rate:g}" if rate is not None else "")


def _rate(module: nn.Module) -> float | None:
    rates = (getattr(module, name, None) for name in ("p", "drop_prob", "drop_rate", "prob"))
    return next((float(rate) for rate in rates if isinstance(rate, int | float)), None)
