"""AutoAttack: published ensembles, in which each attack runs on the images that the previous ones did not break."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.families.apgd import ApgdCE, ApgdDLR, ApgdT
from probe.attacks.families.fab import Fab, FabT
from probe.attacks.families.square import Square

_TRAITS = Traits(
    norms=("Linf", "L2"),
    access="white-box",
    targeted=True,
    paper='Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse '
    'parameter-free attacks", 2020',
)


@dataclass(frozen=True)
class _Ensemble(Attack):
    @abstractmethod
    def members(self) -> Iterator[Attack]:
        """Yield the attacks in the order in which they run."""

    @property
    def rules_out_smaller(self) -> bool:
        """True where it is for the first member, APGD on the cross-entropy."""
        return next(iter(self.members())).rules_out_smaller

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        result = inputs.images.clone()
        remaining = torch.arange(len(result), device=result.device)
        for number, attack in enumerate(self.members()):
            if len(remaining) == 0:
                break
            part = inputs.rows(remaining)
            judgement = attack.judged(part if number == 0 else part.begin_at(None))
            result[remaining] = judgement.images
            remaining = remaining[~judgement.success]
        return result


@ATTACKS.register("standard")
@dataclass(frozen=True)
class Standard(_Ensemble):
    """AutoAttack's standard ensemble with the published parameters (Croce and Hein 2020).

    APGD on cross-entropy, targeted APGD on the DLR loss and targeted FAB with ``classes`` target classes each, all with
    ``steps`` steps, and Square with ``queries`` queries. There are at most as many target classes as other classes.
    """

    steps: int = 100
    classes: int = 9
    queries: int = 5000

    traits: ClassVar[Traits] = _TRAITS

    def members(self) -> Iterator[Attack]:
        """Yield APGD-CE, APGD-T, FAB-T and Square."""
        yield ApgdCE(steps=self.steps)
        yield ApgdT(steps=self.steps, classes=self.classes)
        yield FabT(steps=self.steps, classes=self.classes, enough=True)
        yield Square(queries=self.queries)


@ATTACKS.register("plus")
@dataclass(frozen=True)
class Plus(_Ensemble):
    """AutoAttack's larger ensemble with the published parameters (Croce and Hein 2020).

    APGD on cross-entropy and on the DLR loss and FAB, untargeted with ``restarts`` restarts each, Square, and targeted APGD and
    FAB with ``classes`` target classes.
    """

    steps: int = 100
    restarts: int = 5
    classes: int = 9
    queries: int = 5000

    traits: ClassVar[Traits] = _TRAITS

    def members(self) -> Iterator[Attack]:
        """Yield APGD-CE, APGD-DLR, FAB, Square, APGD-T and FAB-T."""
        yield ApgdCE(steps=self.steps, restarts=self.restarts)
        yield ApgdDLR(steps=self.steps, restarts=self.restarts)
        yield Fab(steps=self.steps, restarts=self.restarts, enough=True)
        yield Square(queries=self.queries)
        yield ApgdT(steps=self.steps, classes=self.classes)
        yield FabT(steps=self.steps, classes=self.classes, enough=True)


@ATTACKS.register("rand")
@dataclass(frozen=True)
class Rand(_Ensemble):
    """AutoAttack's ensemble for randomised networks: APGD with averaged gradients (Croce and Hein 2020)."""

    steps: int = 100
    eot: int = 20

    traits: ClassVar[Traits] = _TRAITS

    def members(self) -> Iterator[Attack]:
        """Yield APGD-CE and APGD-DLR with ``eot`` passes per gradient."""
        yield ApgdCE(steps=self.steps, eot=self.eot)
        yield ApgdDLR(steps=self.steps, eot=self.eot)
