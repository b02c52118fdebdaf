"""Transfer failure: images that are adversarial only while gradients are recorded."""

from __future__ import annotations

import torch

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
    with torch.enable_grad(), scoped(evidence.seed, "check", "transfer"):
        logits = evidence.model(verdict.images.detach().clone().requires_grad_()).detach()
    believed = adversarial(logits, evidence.labels, evidence.targets)
    n_failed = count(believed & ~verdict.success)
    fired = exceeds_chance(n_failed, n)
    remedy = (
        "the gradients in reduced precision are misleading: use float32"
        if evidence.model.bf16
        else "attacks stop at images that the network itself classifies correctly: make both behave alike, or use `--attack square`"
    )
    detail = (
        f"Of the {count(believed)} of {n} images that a PGD with {STEPS} steps broke while gradients were "
        f"recorded, {n_failed} are not adversarial for the plain network in float32 "
        f"({criterion_text(n)}){hint(fired, remedy)}."
    )
    return Check("Transfer failure", fail_or_warn(evidence) if fired else "pass", n_failed, detail)
