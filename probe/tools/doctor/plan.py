"""The options of the doctor, and the plan of its training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.core import seeds
from probe.core.errors import UsageError

OPTIMISERS = ("sgd", "adamw")


@dataclass(frozen=True)
class DoctorConfig:
    """The options of ``probe doctor``.

    ``lr``: the learning rate, constant over ``steps`` steps; None: depends on the network and the optimiser.
    ``train_batch``: images per step. ``sweep``: whether to try other rates. ``precision``: ``float32``, or the
    autocast type of the forward pass. ``loss`` is the name of the loss in the report.
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
        """Raise UsageError for invalid values."""
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


Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, labels) → one number."""

Optimiser = Callable[[list[nn.Parameter], float], torch.optim.Optimizer]
"""(parameters, learning rate) → optimiser."""


@dataclass(frozen=True)
class TrainingPlan:
    """The module to train, its data and its hyperparameters.

    ``images`` (N, …) and ``labels`` (N, …); ``trivial`` is the loss of a prediction that ignores the images (the entropy
    of the label frequencies), None if the loss is not cross-entropy. ``precision`` is float32, or the autocast type of
    the forward pass. ``lr`` is constant.
    """

    module: nn.Module
    images: Tensor
    labels: Tensor
    loss: Loss
    optimiser: Optimiser
    lr: float
    steps: int
    batch_size: int
    seed: int
    precision: str = "float32"
    trivial: float | None = None

    @property
    def device(self) -> torch.device:
        """The device of the module."""
        return next(self.module.parameters()).device

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs for images as in training, with autocast."""
        kind = torch.bfloat16 if self.precision == "bfloat16" else torch.float16
        with torch.autocast(images.device.type, kind, enabled=self.precision != "float32"):
            outputs: Any = self.module(images)
        if not isinstance(outputs, Tensor):  # networks with auxiliary outputs in train mode
            outputs = next(output for output in outputs if isinstance(output, Tensor))
        # Half modules keep their type; autocast's outputs are widened, as in training.
        logits: Tensor = outputs
        return logits if self.precision == "float32" else logits.float()

    def measure_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss as a scalar with its graph; raises UsageError if it is not one number."""
        value: Any = self.loss(outputs, labels)
        if not isinstance(value, Tensor) or value.numel() != 1:
            returned = (
                f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(type(value))
            )
            raise UsageError(f"The loss returns {returned}, not one number: take its mean.")
        return value.reshape(())

    def placed(self, part: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return a part of the images and labels on the module's device, images in the dtype of its weights."""
        x, y = self.images[part], self.labels[part]
        kind = next(
            (parameter.dtype for parameter in self.module.parameters() if parameter.is_floating_point()),
            torch.float32,
        )
        return x.to(device=self.device, dtype=kind), y.to(self.device)

    def batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches for this number of steps, always in the same order."""
        draws = seeds.generator(self.seed, "doctor", "order")
        count = 0
        while count < steps:
            for part in torch.split(torch.randperm(len(self.images), generator=draws), self.batch_size):
                if count < steps and (len(part) > 1 or len(self.images) == 1):
                    count += 1
                    yield self.placed(part)
