"""AutoAttack and its four attacks by torchattacks, to compare probe's own with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torchattacks
from torch import Tensor, nn

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.judge import within
from probe.attacks.torchattacks_adapter import BestSeen, TorchattacksAttack, WrappedInputs, one_by_one
from probe.core.errors import CannotRunError

_CROCE = (
    'Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse '
    'Parameter-free Attacks", 2020'
)


@ATTACKS.register("torchattacks-apgd")
@dataclass(frozen=True)
class ReferenceAPGD(TorchattacksAttack):
    """Auto-PGD by torchattacks (Croce and Hein 2020).

    ``loss``: ce or dlr (3 classes).
    """

    steps: int = 100
    restarts: int = 1
    loss: Literal["ce", "dlr"] = "ce"
    eot: int = 1
    rho: float = 0.75

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2"), access="white-box", paper=_CROCE, origin="torchattacks"
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        if self.loss == "dlr" and case.classes < 3:
            raise CannotRunError(f"The loss dlr needs 3 classes; this network has {case.classes}.")
        return torchattacks.APGD(
            model,
            norm=case.norm.name,
            eps=case.epsilon,
            steps=self.steps,
            n_restarts=self.restarts,
            seed=case.seed,
            loss=self.loss,
            eot_iter=self.eot,
            rho=self.rho,
        )


@ATTACKS.register("torchattacks-apgdt")
@dataclass(frozen=True)
class ReferenceAPGDT(TorchattacksAttack):
    """Targeted Auto-PGD by torchattacks, on the likeliest wrong classes in turn (Croce and Hein 2020).

    For L2 the images are attacked one by one: torchattacks gives a whole batch the first image's step size.
    """

    steps: int = 100
    restarts: int = 1
    classes: int = 9
    eot: int = 1
    rho: float = 0.75

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2"), access="white-box", paper=_CROCE, min_classes=4, origin="torchattacks"
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.APGDT(
            model,
            norm=case.norm.name,
            eps=case.epsilon,
            steps=self.steps,
            n_restarts=self.restarts,
            seed=case.seed,
            eot_iter=self.eot,
            rho=self.rho,
            n_classes=min(self.classes, case.classes - 1) + 1,
        )

    def _run(self, case: WrappedInputs, rescue: BestSeen) -> Tensor:
        return one_by_one(self, case, rescue) if case.norm.name == "L2" else super()._run(case, rescue)


@ATTACKS.register("torchattacks-fab")
@dataclass(frozen=True)
class ReferenceFAB(TorchattacksAttack):
    """Fast adaptive boundary attack by torchattacks (Croce and Hein 2020).

    ``classes`` = 0 takes the nearest boundary, more the likeliest wrong classes in turn (FAB-T). torchattacks keeps
    only what is within epsilon. L1 is left out, where its version fails, and targets, which it counts wrongly.
    """

    steps: int = 100
    restarts: int = 1
    classes: int = 0

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2"),
        access="white-box",
        paper='Croce and Hein, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack", 2020',
        minimum_norm=True,
        origin="torchattacks",
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return torchattacks.FAB(
            model,
            norm=case.norm.name,
            eps=case.epsilon,
            steps=self.steps,
            n_restarts=self.restarts,
            seed=case.seed,
            multi_targeted=self.classes > 0,
            n_classes=min(self.classes, case.classes - 1) + 1,
        )


@ATTACKS.register("torchattacks-square")
@dataclass(frozen=True)
class ReferenceSquare(TorchattacksAttack):
    """Square attack by torchattacks (Andriushchenko et al. 2020).

    ``rescale`` fits the schedule of the squares' sizes to ``queries``. In L2 some sizes of images (squares with sides
    of 12 and 24 among them) end in CannotRunError: torchattacks' first pattern does not fit into them.
    """

    queries: int = 5000
    restarts: int = 1
    p_init: float = 0.8
    loss: Literal["margin", "ce"] = "margin"
    rescale: bool = False

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2"),
        access="score-based",
        paper='Andriushchenko et al., "Square Attack: a Query-efficient Black-box Adversarial Attack via '
        'Random Search", 2020',
        targeted=True,
        origin="torchattacks",
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        height, width = case.images.shape[2:]
        if case.norm.name == "L2" and not _tiles(height, width):
            raise CannotRunError(
                f"torchattacks-square in L2 fails on images of {height} by {width} pixels: its first pattern of "
                "tiles, a fifth of the height wide, does not fit."
            )
        return torchattacks.Square(
            model,
            norm=case.norm.name,
            eps=case.epsilon,
            n_queries=self.queries,
            n_restarts=self.restarts,
            p_init=self.p_init,
            loss=self.loss,
            resc_schedule=self.rescale,
            seed=case.seed,
        )


def _tiles(height: int, width: int) -> bool:
    """Say whether the tiles that torchattacks lays out all lie inside the image."""
    side = height // 5
    offset = (height - 5 * side) // 2
    return side > 0 and all(offset + length // side * side <= length for length in (height, width))


@ATTACKS.register("torchattacks-autoattack")
@dataclass(frozen=True)
class ReferenceAutoAttack(TorchattacksAttack):
    """AutoAttack's four attacks by torchattacks, with the published parameters (Croce and Hein 2020).

    torchattacks' own ensemble takes 10 steps. Here APGD-CE, APGD-T, FAB-T and Square run on all images, and each
    image keeps what the first successful one found.
    """

    steps: int = 100
    queries: int = 5000
    classes: int = 9

    traits: ClassVar[Traits] = Traits(
        norms=("Linf", "L2"), access="white-box", paper=_CROCE, min_classes=4, origin="torchattacks"
    )

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        raise NotImplementedError("four attacks, not one")

    def _members(self) -> tuple[TorchattacksAttack, ...]:
        return (
            ReferenceAPGD(steps=self.steps),
            ReferenceAPGDT(steps=self.steps, classes=self.classes),
            ReferenceFAB(steps=self.steps, classes=self.classes),
            ReferenceSquare(queries=self.queries),
        )

    def _run(self, case: WrappedInputs, rescue: BestSeen) -> Tensor:
        best = case.images
        rows = torch.arange(len(best), device=best.device)
        done = torch.zeros_like(rows, dtype=torch.bool)
        for member in self._members():
            found = member._run(case, rescue).detach()
            fooled = case.reached(case.model.verdict(found), rows)
            fresh = fooled & within(case.images, found, case.norm, case.epsilon) & ~done
            best = torch.where(fresh.reshape(-1, 1, 1, 1), found, best)
            done |= fresh
        return best
