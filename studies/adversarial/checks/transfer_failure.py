"""Transfer failure: images that are adversarial only while gradients are recorded."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.attacks.losses import adversarial
from probe.core.document import Check
from probe.core.seeds import scoped
from studies.adversarial.checks._common import (
    count,
    criterion_text,
    exceeds_chance,
    fail_or_warn,
    hint,
    sample,
    unguided,
)
from studies.adversarial.evidence import STEPS, Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("transfer-failure")
def transfer_failure(evidence: Evidence) -> Check:
    """Count the images that are adversarial for the differentiated network and not for the judged one.

    The fifth indicator of Pintor et al. 2022. The first is the network while gradients are recorded, in reduced
    precision where the run used it; the second is the plain network in float32. Both see the images at which the
    reference PGD ended. The value is the number of images.
    """
    n = sample(evidence)
    verdict = evidence.reference_run.verdict
    believed = _believed(evidence)
    n_failed = count(believed & ~verdict.success)
    fired = exceeds_chance(n_failed, n)
    remedy = f"attacks stop at images that the network itself classifies correctly: make both behave alike, or use {unguided(evidence)}"
    if fired and evidence.model.approximate and not exceeds_chance(_failed_in_float32(evidence), n):
        remedy = "in float32 both agree, so the faster gradients are misleading: add `--full-precision`"
    detail = (
        f"Of the {count(believed)} of {n} images that a PGD with {STEPS} steps broke while gradients were "
        f"recorded, {n_failed} are not adversarial for the plain network in float32 "
        f"({criterion_text(n)}){hint(fired, remedy, evidence)}."
    )
    return Check("Transfer failure", fail_or_warn(evidence) if fired else "pass", n_failed, detail)


def _believed(evidence: Evidence) -> Tensor:
    """Return which end points of the reference PGD are adversarial while gradients are recorded, (M,)."""
    images = evidence.reference_run.verdict.images
    with torch.enable_grad(), scoped(evidence.seed, "check", "transfer"):
        logits = evidence.model(images.detach().clone().requires_grad_()).detach()
    return adversarial(logits, evidence.labels, evidence.targets)


def _failed_in_float32(evidence: Evidence) -> int:
    """Return the value of the check with gradients of the plain module in float32: the control for its cause."""
    with evidence.model.full_precision():
        return count(_believed(evidence) & ~evidence.reference_run.verdict.success)
