"""Searches without gradients, run by foolbox: genetic in Linf, value by value in L0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.foolbox_adapter import (
    FoolboxAttack,
    LogProbabilities,
    StartedAttack,
    foolbox,
    target_runner_up,
)
from probe.attacks.norms import Norm
from probe.attacks.torchattacks_adapter import ModelWrapper, WrappedInputs


@ATTACKS.register("gen-attack")
@dataclass(frozen=True)
class GenAttack(FoolboxAttack):
    """Genetic search on the logits (Alzantot et al. 2019).

    ``population`` perturbations are crossed and mutated for ``steps`` generations. Without targets, the target class is
    the most likely wrong class.
    """

    steps: int = 1000
    population: int = 10
    mutation_probability: float = 0.1
    mutation_range: float = 0.15
    temperature: float = 0.3

    traits: ClassVar[Traits] = Traits(
        norms=("Linf",),
        access="score-based",
        paper='Alzantot et al., "GenAttack: Practical Black-box Attacks with Gradient-Free Optimization", 2019',
        targeted=True,
        origin="foolbox",
    )
    network: ClassVar[type[ModelWrapper]] = LogProbabilities

    def _with_targets(self, case: WrappedInputs) -> WrappedInputs:
        return target_runner_up(case)

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.GenAttack(
            steps=self.steps,
            population=self.population,
            mutation_probability=self.mutation_probability,
            mutation_range=self.mutation_range,
            sampling_temperature=self.temperature,
        )


@ATTACKS.register("pointwise")
@dataclass(frozen=True)
class Pointwise(StartedAttack):
    """Salt-and-pepper noise, reverted value by value (Schott et al. 2019).

    Starts from ``starts`` steps of salt-and-pepper noise. One query for each value of the image and round: slow for
    large images.
    """

    starts: int = 1000

    traits: ClassVar[Traits] = Traits(
        norms=("L0",),
        access="decision-based",
        paper='Schott et al., "Towards the First Adversarially Robust Neural Network Model on MNIST", 2019',
        targeted=True,
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        # The binary search would reduce the size of the changes, not their number.
        return foolbox.attacks.PointwiseAttack(l2_binary_search=False)

    def _starter(self) -> Any:
        return foolbox.attacks.SaltAndPepperNoiseAttack(steps=self.starts)
