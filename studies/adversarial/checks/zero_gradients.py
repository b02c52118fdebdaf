"""Zero gradients: clean images at which the loss has no usable gradient."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor

from probe.attacks.losses import LOSSES, LossName
from probe.core.document import Check
from probe.core.seeds import scoped
from probe.core.state import frozen_parameters
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import (
    exceeds_chance,
    fail_or_warn,
    fraction_text,
    sample,
    unguided,
)
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("zero-gradients")
def zero_gradients(evidence: Evidence) -> Check:
    """Count the clean images whose loss has a gradient of exactly zero, or one that is not finite.

    A flag of AutoAttack (Croce and Hein 2020). Two losses are tested: where the margin has a gradient and the
    cross-entropy has none, the logits are so far apart that the softmax is exactly 1. The value is the larger number.
    """
    n = sample(evidence)
    margin, entropy = int(_useless(evidence, "margin").sum()), int(_useless(evidence, "ce").sum())
    status: CheckStatus = "pass"
    more = ""
    if margin:
        status = fail_or_warn(evidence) if exceeds_chance(margin, n) else "warn"
        more = f": attacks cannot follow such a gradient: use one that needs none ({unguided(evidence)}) or differentiate around the cause"
    elif entropy:
        status = fail_or_warn(evidence) if _only_entropy(evidence) else "warn"
        more = ": the logits saturate the softmax: attack the margin with `pgd?loss=margin` or `apgd-dlr`"
    detail = (
        f"At the clean images the gradient is zero or not finite for {fraction_text(margin, n)} with the margin as loss and "
        f"for {entropy} with the cross-entropy (accepted: none){more}."
    )
    return Check("Zero gradients", status, max(margin, entropy), detail)


def _useless(evidence: Evidence, name: LossName) -> Tensor:
    """Return for which images the gradient of the loss is zero or not finite, (M,)."""
    with ExitStack() as stack:
        stack.enter_context(frozen_parameters(evidence.model.module))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(scoped(evidence.seed, "check", "gradient"))
        x = evidence.images.detach().clone().requires_grad_()
        losses = LOSSES[name](evidence.model(x), evidence.labels, evidence.targets)
        if not losses.requires_grad:
            return torch.ones_like(evidence.labels, dtype=torch.bool)
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(losses.sum(), x, allow_unused=True)
    gradient = gradients[0]
    if gradient is None:
        return torch.ones_like(evidence.labels, dtype=torch.bool)
    flat: Tensor = gradient.flatten(1)
    return ~flat.isfinite().all(1) | (flat == 0).all(1)


def _only_entropy(evidence: Evidence) -> bool:
    losses = {
        str(getattr(attack.attack, "loss", ""))
        for attack in evidence.attacks
        if attack.attack.traits.access == "white-box"
    }
    return losses == {"ce"}
