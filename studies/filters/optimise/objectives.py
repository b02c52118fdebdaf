"""Objectives of the optimisation: linear functions of a layer's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from probe.core.errors import UsageError

Sign = Literal[1, -1]


class Objective(Protocol):
    """A weighted sum over one picture's output; ``sign`` −1 looks for its minimum."""

    @property
    def sign(self) -> Sign:
        """1 to maximise, −1 to minimise."""
        ...

    @property
    def key(self) -> str:
        """Name that is unique among the objectives of a layer; the picture's random streams depend on it."""
        ...

    def weights(self, shape: Sequence[int]) -> Tensor:
        """Return the weights of the sum for an output of ``shape`` (without the batch).

        Raises UsageError when the output has no such channel or class.
        """
        ...


@dataclass(frozen=True)
class Channel:
    """The mean of a channel over its map (K, H, W)."""

    index: int
    sign: Sign = 1

    @property
    def key(self) -> str:
        """Name of the random streams."""
        return f"channel {self.index} {self.sign:+d}"

    def weights(self, shape: Sequence[int]) -> Tensor:
        """Return 1 / (H W) all over the channel."""
        weights = _zeros(shape, self.index, 3, "channel")
        weights[self.index] = 1 / weights[self.index].numel()
        return weights


@dataclass(frozen=True)
class UnitObjective:
    """The unit in the middle of a channel's map (K, H, W)."""

    index: int
    sign: Sign = 1

    @property
    def key(self) -> str:
        """Name of the random streams."""
        return f"unit {self.index} {self.sign:+d}"

    def weights(self, shape: Sequence[int]) -> Tensor:
        """Return 1 at row H // 2, column W // 2."""
        weights = _zeros(shape, self.index, 3, "channel")
        weights[self.index, shape[1] // 2, shape[2] // 2] = 1
        return weights


@dataclass(frozen=True)
class Class:
    """One logit of (K,); the logit and not the probability, which would also rise by lowering the others."""

    index: int
    sign: Sign = 1

    @property
    def key(self) -> str:
        """Name of the random streams."""
        return f"class {self.index} {self.sign:+d}"

    def weights(self, shape: Sequence[int]) -> Tensor:
        """Return 1 at the class."""
        weights = _zeros(shape, self.index, 1, "class")
        weights[self.index] = 1
        return weights


@dataclass(frozen=True)
class VariantObjective:
    """One of several pictures for the same objective, with random streams of its own."""

    objective: Objective
    number: int

    @classmethod
    def several(cls, objective: Objective, count: int) -> list[Objective]:
        """Return ``count`` variants of an objective."""
        return [cls(objective, number) for number in range(count)]

    @property
    def sign(self) -> Sign:
        """That of the objective."""
        return self.objective.sign

    @property
    def key(self) -> str:
        """Name of the random streams."""
        return f"{self.objective.key} variant {self.number}"

    def weights(self, shape: Sequence[int]) -> Tensor:
        """Return the weights of the objective."""
        return self.objective.weights(shape)


def stack(objectives: Sequence[Objective], shape: Sequence[int]) -> Tensor:
    """Return the weights of one objective per picture, (N, *shape)."""
    return torch.stack([objective.weights(shape) for objective in objectives])


def evaluate(output: Tensor, weights: Tensor) -> Tensor:
    """Return each picture's weighted sum (N,), computed in at least float32."""
    wide = output if output.dtype == torch.float64 else output.float()
    return (wide * weights.to(wide)).flatten(1).sum(1)


def _zeros(shape: Sequence[int], index: int, dimensions: int, kind: str) -> Tensor:
    if len(shape) != dimensions:
        raise UsageError(
            f"A {kind} needs an output with {dimensions} dimensions; this one is {tuple(shape)}."
        )
    if not 0 <= index < shape[0]:
        raise UsageError(f"There is no {kind} {index}: this output has 0 to {shape[0] - 1}.")
    return torch.zeros(tuple(shape))
