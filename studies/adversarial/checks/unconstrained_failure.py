"""Unconstrained failure: images that an attack without bound does not break."""

from __future__ import annotations

from probe.core.document import Check
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import (
    count,
    exceeds_chance,
    fail_or_warn,
    fraction_text,
    hint,
    sample,
    unguided,
)
from studies.adversarial.evidence import STEPS, Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("unconstrained-failure")
def unconstrained_failure(evidence: Evidence) -> Check:
    """Count the images that PGD does not break when it may change them into anything.

    The sixth indicator of Pintor et al. 2022, "Indicators of Attack Failure": every image has an adversarial example
    within the whole range. The value is the number of images not broken.
    """
    n = sample(evidence)
    n_unbroken = count(~evidence.unbounded)
    status: CheckStatus = "pass"
    more = ""
    if n_unbroken:
        status = fail_or_warn(evidence) if exceeds_chance(n_unbroken, n) else "warn"
        remedy = (
            "every image can become one of another class, so the attack failed: try `pgd?loss=margin`, restarts, or "
            + unguided(evidence)
        )
        more = hint(True, remedy, evidence)
    words = "the target class" if evidence.targets is not None else "a wrong class"
    detail = (
        f"A PGD with {STEPS} steps without bound moved {fraction_text(n - n_unbroken, n)} to {words} and failed on "
        f"{n_unbroken} (accepted: none; a single one gives a warning){more}."
    )
    return Check("Unconstrained failure", status, n_unbroken, detail)
