"""The options of the doctor."""

from __future__ import annotations

import math
from dataclasses import dataclass

from probe.core.errors import UsageError

OPTIMISERS = ("sgd", "adamw")


@dataclass(frozen=True)
class DoctorConfig:
    """The options of ``probe doctor``.

    ``lr``: the learning rate, constant over ``steps`` steps; None goes by the network and the optimiser.
    ``train_batch``: images a step. ``sweep``: whether to try other rates. ``precision``: ``float32``, or the
    autocast of the forward pass. ``loss`` is how the report names the loss.
    """

    lr: float | None = None
    steps: int = 40
    optimiser: str = "adamw"
    train_batch: int = 32
    sweep: bool = True
    precision: str = "float32"
    loss: str = "cross-entropy"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse words and numbers that have no meaning."""
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"--lr must be a finite number above 0, not {self.lr:g}.")
        if self.optimiser not in OPTIMISERS:
            raise UsageError(f"There is no optimiser '{self.optimiser}'. Known: {', '.join(OPTIMISERS)}.")
        for name, least in (("steps", 1), ("train_batch", 2)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be at least {least}; got {getattr(self, name)}."
                )
        if self.precision not in ("float32", "bfloat16", "float16"):
            raise UsageError(f"There is no precision '{self.precision}': write float32, bfloat16 or float16.")
