"""foolbox' versions of attacks that probe has itself, in the norms that torchattacks lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.foolbox_adapter import FoolboxAttack, foolbox
from probe.attacks.norms import Norm


@ATTACKS.register("foolbox-cw")
@dataclass(frozen=True)
class ReferenceCW(FoolboxAttack):
    """Carlini and Wagner's L2 attack by foolbox, with the search for the constant (Carlini and Wagner 2017)."""

    steps: int = 1000
    searches: int = 9
    lr: float = 0.01
    constant: float = 0.001
    confidence: float = 0.0

    traits: ClassVar[Traits] = Traits(
        norms=("L2",),
        access="white-box",
        paper='Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017',
        targeted=True,
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.searches,
            steps=self.steps,
            stepsize=self.lr,
            confidence=self.confidence,
            initial_const=self.constant,
        )


@ATTACKS.register("foolbox-deepfool")
@dataclass(frozen=True)
class ReferenceDeepFool(FoolboxAttack):
    """DeepFool by foolbox, in L2 and Linf (Moosavi-Dezfooli et al. 2016).

    ``candidates`` of the likeliest classes are looked at.
    """

    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02
    loss: Literal["logits", "crossentropy"] = "logits"

    traits: ClassVar[Traits] = Traits(
        norms=("L2", "Linf"),
        access="white-box",
        paper='Moosavi-Dezfooli et al., "DeepFool: a Simple and Accurate Method to Fool Deep Neural Networks", 2016',
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        peers = {"L2": foolbox.attacks.L2DeepFoolAttack, "Linf": foolbox.attacks.LinfDeepFoolAttack}
        return peers[norm.name](
            steps=self.steps, candidates=self.candidates, overshoot=self.overshoot, loss=self.loss
        )
