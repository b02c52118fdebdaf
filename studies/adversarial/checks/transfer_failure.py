"""Is the network that gives the gradients the one that is judged?"""

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
    """Count the images that are adversarial for the network that is differentiated and not for the one that is judged.

    The fifth indicator of Pintor et al. 2022. The first is the network while gradients are recorded, in reduced
    precision where the run used it; the second is the plain network in float32. Both see the images at which the
    reference PGD ended. The value is the number of images.
    """
    n = sample(evidence)
    verdict = evidence.reference_run.verdict
    with torch.enable_grad(), scoped(evidence.seed, "check", "transfer"):
        logits = evidence.model(verdict.images.detach().clone().requires_grad_()).detach()
    believed = adversarial(logits, evidence.labels, evidence.targets)
    found = count(believed & ~verdict.success)
    fired = exceeds_chance(found, n)
    cure = (
        "the gradients in reduced precision mislead, use float32"
        if evidence.model.bf16
        else "attacks stop at images that the network itself gets right, so make both alike, or use `--attack square`"
    )
    detail = (
        f"Of the {count(believed)} of {n} images that a PGD of {STEPS} steps broke where gradients are recorded, "
        f"{found} are not adversarial for the plain network in float32 ({criterion_text(n)}){hint(fired, cure)}."
    )
    return Check("Transfer failure", fail_or_warn(evidence) if fired else "pass", found, detail)
