"""One perturbation for all images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.losses import ascent, difference
from probe.attacks.threats import THREATS
from probe.attacks.threats._base import Threat, ThreatOutcome, ThreatSubject, blank
from probe.attacks.threats._halves import halves
from probe.core.errors import NotApplicableError

_FACTORS = (0.5, 1.0, 2.0)
"""Budgets as multiples of the run's epsilon."""

_ENOUGH = 2.0
"""Images count in the loss only until their logits are this far on the wrong side: others then matter more."""

_GREY = 0.5
"""Where a perturbation is projected, so that up to an epsilon of 0.5 only the norm limits it."""


@THREATS.register("universal", order=3)
@dataclass(frozen=True)
class Universal(Threat):
    """One perturbation that is added to every image (Moosavi-Dezfooli et al. 2017; Shafahi et al. 2020).

    It is optimised by ``steps`` steps on one half of the images and measured on the other. ``size``: the length of a step, as a
    part of epsilon.
    """

    steps: int = 100
    size: float = 0.1

    title: ClassVar[str] = "One perturbation for all images"
    axis: ClassVar[str] = "epsilon"
    paper: ClassVar[str] = (
        'Moosavi-Dezfooli et al., "Universal Adversarial Perturbations", 2017; optimised as in Shafahi et al., '
        '"Universal Adversarial Training", 2020'
    )

    def attack(self, subject: ThreatSubject) -> ThreatOutcome:
        """Optimise one perturbation for each budget, each from the one before."""
        if subject.norm.name == "L0":
            raise NotApplicableError("A perturbation of all images has no gradient step in L0.")
        if subject.epsilon <= 0:
            raise NotApplicableError("Epsilon is 0: nothing may be changed.")
        fitted, tested = halves(subject)
        fit, test = subject.rows(fitted), subject.rows(tested)
        budgets = tuple(factor * subject.epsilon for factor in _FACTORS)
        rows = torch.arange(len(tested), device=tested.device)
        outcome = blank(subject, tested, budgets)
        wrong = outcome.smallest == 0
        delta = torch.zeros_like(subject.images[:1])
        columns = []
        for before, budget in zip((budgets[0], *budgets), budgets, strict=False):
            delta = self._optimised(fit, delta * (budget / before), budget)
            changed = (test.images + delta).clamp(0, 1)
            outcome.record(rows, test.broken(changed, rows), changed, budget)
            noisy = (test.images + self._control(subject, budget)).clamp(0, 1)
            columns.append(wrong | test.broken(noisy, rows))
        outcome.control = torch.stack(columns, 1)
        return outcome

    def _optimised(self, fit: ThreatSubject, delta: Tensor, budget: float) -> Tensor:
        grey = torch.full_like(delta, _GREY)
        order = fit.draws("universal", str(budget))
        best, most = delta, -1

        def project(moved: Tensor) -> Tensor:
            return fit.norm.project(grey, grey + moved, budget) - grey

        rows = torch.arange(len(fit.images), device=delta.device)
        for _ in range(self.steps):
            part = torch.randperm(len(rows), generator=order)[: fit.batch_size].to(delta.device)
            goal = None if fit.targets is None else fit.targets[part]
            images = (fit.images[part] + delta).clamp(0, 1)
            _, losses, gradients = ascent(fit.model, images, fit.labels[part], goal, difference)
            wanted = (losses < _ENOUGH).to(gradients)[:, None, None, None]
            gradient = (gradients * wanted).sum(0, keepdim=True)
            delta = project(delta + self.size * budget * fit.norm.steepest(gradient))
            fit.advance(1)
        for candidate in (best, delta):
            hits = int(fit.broken((fit.images + candidate).clamp(0, 1), rows).sum())
            if hits >= most:
                best, most = candidate, hits
        return best

    def _control(self, subject: ThreatSubject, budget: float) -> Tensor:
        """Return one random perturbation of the size of the budget."""
        noise = torch.randn(subject.images.shape[1:], generator=subject.draws("universal noise"))[None]
        noise = noise.sign() if subject.norm.name == "Linf" else noise
        return (noise * budget / float(subject.norm.size(noise)[0])).to(subject.images)

    @property
    def work(self) -> int:
        """All steps."""
        return self.steps * len(_FACTORS)

    def describe(self, budget: float) -> str:
        """Write epsilon."""
        return f"one perturbation of size {budget:.3g} for all images"

    @property
    def how(self) -> str:
        """How it was optimised, and its control."""
        return (
            f"{self.steps} steps for each epsilon on one half of the images, drawn by the seed; measured on the other half. The "
            "control is one random perturbation of the same size for all images."
        )
