"""Unstable predictions: smoothness of the loss where the attack starts."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.attacks.families.apgd import boundary_start
from probe.attacks.judge import margin
from probe.core.document import Check
from probe.core.errors import NotApplicableError
from probe.core.seeds import generator, scoped
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import (
    averaging_attacks,
    criterion_text,
    exceeds_chance,
    fail_or_warn,
    fraction_text,
    sample,
    undecided,
    unguided,
)
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

NAME = "Unstable predictions"
LIMIT = 0.05
RANDOM = 0.2
PART = 0.01
_SMALL_DRAWS, _LARGE_DRAWS = 6, 2


@CHECKS.register("unstable-predictions")
def unstable_predictions(evidence: Evidence) -> Check:
    """Compare the change of the loss under noise of epsilon/100 with that under noise of size epsilon.

    The second indicator of Pintor et al. 2022 is the change in a small ball as a part of the loss, 10% at most. The
    margin may be near 0, so here it is a part of the change in the ball of size epsilon, both root mean squares over
    draws and images, each image's margins in units of its logits' spread: near 1% where the loss is smooth, near 10%
    (the root of 1/100) where it moves in jumps, near 100% where it is random; more than 5% gives a warning and more
    than 20% a failure. A loss that moves in jumps may also stay exactly the same in the small ball; images for which
    it does are counted. The value is the ratio.
    """
    n = sample(evidence)
    if evidence.norm.name == "L0":
        raise NotApplicableError(
            "In L0 a pixel counts no matter how much it changes, so there is no small ball."
        )
    small, large = _changes(evidence, PART, _SMALL_DRAWS), _changes(evidence, 1.0, _LARGE_DRAWS)
    magnitude = float(large.square().mean().sqrt())
    if magnitude == 0:
        return undecided(NAME, "Noise of size epsilon does not change the loss at all.")
    ratio = float(small.square().mean().sqrt()) / magnitude
    constant = int(((small == 0).all(0) & (large != 0).any(0)).sum())
    status: CheckStatus = "pass"
    more = ""
    if ratio > RANDOM:
        status = "warn" if averaging_attacks(evidence) else fail_or_warn(evidence)
        more = (
            ": the network's outputs are random: average gradients with `pgd?eot=20` or `--attack rand`"
            if bool(evidence.randomised.any())
            else ": the network is deterministic, but its loss jumps or oscillates within a hundredth of epsilon, so that gradients "
            f"say little: add {unguided(evidence)}"
        )
    elif ratio > LIMIT or exceeds_chance(constant, n):
        status = "warn"
        more = f": the loss changes in jumps, where gradients say little: add {unguided(evidence)}"
    detail = (
        f"At the attack's start noise of epsilon/100 changes the margin by {100 * ratio:.2g}% of what noise of size "
        f"epsilon does (accepted: {100 * LIMIT:.0f}%; a smooth loss gives 1%), and not at all for {fraction_text(constant, n)} "
        f"({criterion_text(n)}){more}."
    )
    return Check(NAME, status, ratio, detail)


def _changes(evidence: Evidence, part: float, draws: int) -> Tensor:
    """Return the margins' changes under noise of ``part`` of epsilon, in units of the logits' spread, (draws, M)."""
    model, start = evidence.model, evidence.start
    radius = part * evidence.epsilon
    noise = generator(evidence.seed, "check", "unstable", str(part))
    with scoped(evidence.seed, "check", "unstable", str(part)):
        logits = model.verdict(start).double()
        spread = (logits.amax(1) - logits.amin(1)).clamp_min(1e-12)
        before = margin(logits, evidence.labels, evidence.targets)
        changes = []
        for _ in range(draws):
            moved = boundary_start(start, evidence.norm, radius, noise)
            after = margin(model.verdict(moved).double(), evidence.labels, evidence.targets)
            changes.append((after - before) / spread)
    return torch.stack(changes).nan_to_num(0.0, 0.0, 0.0)
