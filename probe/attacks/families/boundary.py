"""Attacks that walk along the decision boundary from an adversarial start, run by foolbox."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.foolbox_adapter import StartedAttack, eagerpy, foolbox
from probe.attacks.norms import Norm
from probe.core.errors import UsageError


@ATTACKS.register("boundary")
@dataclass(frozen=True)
class Boundary(StartedAttack):
    """Random walk along the boundary that uses only decisions (Brendel et al. 2018).

    ``directions`` starts are tried; ``spherical_step`` and ``source_step`` are the initial step sizes, as fractions
    of the distance, and are then adapted.
    """

    steps: int = 25000
    spherical_step: float = 0.01
    source_step: float = 0.01

    traits: ClassVar[Traits] = Traits(
        norms=("L2",),
        access="decision-based",
        paper='Brendel et al., "Decision-Based Adversarial Attacks: Reliable Attacks Against Black-Box Machine '
        'Learning Models", 2018',
        targeted=True,
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        return foolbox.attacks.BoundaryAttack(
            steps=self.steps, spherical_step=self.spherical_step, source_step=self.source_step
        )


class _HopSkipJump(foolbox.attacks.HopSkipJumpAttack):  # type: ignore[misc]
    """HopSkipJump with the gradient estimate of every image normalised to length 1; foolbox normalises the batch."""

    def approximate_gradients(self, *arguments: Any) -> Any:
        estimate = super().approximate_gradients(*arguments)
        length = eagerpy.norms.l2(estimate.flatten(start=1), axis=-1) + 1e-12
        return estimate / length.reshape((-1, *[1] * (estimate.ndim - 1)))


@ATTACKS.register("hopskipjump")
@dataclass(frozen=True)
class HopSkipJump(StartedAttack):
    """Boundary walk along gradients estimated from decisions (Chen et al. 2020).

    ``directions`` starts are tried; the first gradient uses ``queries`` queries, later ones up to ``max_queries``.
    """

    steps: int = 64
    queries: int = 100
    max_queries: int = 10000
    search: Literal["geometric_progression", "grid_search"] = "geometric_progression"
    gamma: float = 1.0

    traits: ClassVar[Traits] = Traits(
        norms=("L2", "Linf"),
        access="decision-based",
        paper='Chen et al., "HopSkipJumpAttack: A Query-Efficient Decision-Based Attack", 2020',
        targeted=True,
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        return _HopSkipJump(
            steps=self.steps,
            initial_gradient_eval_steps=self.queries,
            max_gradient_eval_steps=self.max_queries,
            stepsize_search=self.search,
            gamma=self.gamma,
            constraint="l2" if norm.name == "L2" else "linf",
        )


@ATTACKS.register("brendel-bethge")
@dataclass(frozen=True)
class BrendelBethge(StartedAttack):
    """Boundary walk along gradients, within a trust region (Brendel et al. 2019).

    ``directions`` starts are tried. Needs the package numba: UsageError without it.
    """

    steps: int = 1000
    lr: float = 0.001
    overshoot: float = 1.1
    momentum: float = 0.8

    traits: ClassVar[Traits] = Traits(
        norms=("L0", "L1", "L2", "Linf"),
        access="white-box",
        paper='Brendel et al., "Accurate, Reliable and Fast Robustness Evaluation", 2019',
        targeted=True,
        minimum_norm=True,
        origin="foolbox",
    )

    def _build(self, norm: Norm) -> Any:
        peers = {
            "L0": foolbox.attacks.L0BrendelBethgeAttack,
            "L1": foolbox.attacks.L1BrendelBethgeAttack,
            "L2": foolbox.attacks.L2BrendelBethgeAttack,
            "Linf": foolbox.attacks.LinfinityBrendelBethgeAttack,
        }
        return peers[norm.name](
            steps=self.steps, lr=self.lr, overshoot=self.overshoot, momentum=self.momentum
        )

    def _starter(self) -> Any:
        if importlib.util.find_spec("numba") is None:
            raise UsageError("brendel-bethge needs the package numba: pip install numba.")
        return super()._starter()
