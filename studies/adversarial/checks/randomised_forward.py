"""Randomised forward: networks whose outputs differ between passes of the same image."""

from __future__ import annotations

from probe.core.document import Check
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import averaging_attacks, fail_or_warn, fraction_text, sample
from studies.adversarial.evidence import PASSES, SAME_LOGITS, Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("randomised-forward")
def randomised_forward(evidence: Evidence) -> Check:
    """Compare the logits of repeated passes, with gradients and without.

    The first flag of AutoAttack (Croce and Hein 2020): a network with random outputs needs gradients averaged over
    several passes (expectation over transformation, Athalye et al. 2018). The value is the number of images whose
    logits differ by more than 1e-4 of the largest.
    """
    n = sample(evidence)
    changed = int(evidence.randomised.sum())
    averaged = averaging_attacks(evidence)
    status: CheckStatus = "pass"
    more = ""
    if changed:
        status = "warn" if averaged else fail_or_warn(evidence)
        more = (
            f": the gradients are averaged by {', '.join(averaged)}, but each prediction is still a single draw"
            if averaged
            else ": average the gradients with `--attack rand` or `--attack pgd?eot=20`"
        )
    detail = (
        f"{fraction_text(changed, n)} get logits that differ by more than {SAME_LOGITS:g} of the largest between "
        f"{PASSES} passes without and {PASSES} with gradients (accepted: none){more}."
    )
    return Check("Randomised forward", status, changed, detail)
