"""Unbounded: accuracy under an attack that may change anything."""

from __future__ import annotations

from probe.core.document import Check
from probe.core.errors import NotApplicableError
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


@CHECKS.register("unbounded")
def unbounded(evidence: Evidence) -> Check:
    """Measure the accuracy under PGD with the largest epsilon that the pixel range allows.

    Carlini et al. 2019: with no bound accuracy is at most that of guessing, one over the number of classes. The value
    is the part of the sample that remains correct.
    """
    n = sample(evidence)
    if evidence.targets is not None:
        raise NotApplicableError("Guessing is not defined for a targeted attack.")
    n_unbroken = count(~evidence.unbounded)
    guessing = 1 / max(evidence.num_classes, 1)
    fired = n_unbroken > guessing * n and exceeds_chance(n_unbroken, n)
    more = hint(
        fired,
        f"something hinders the attack: look for masked gradients and use {unguided(evidence)}",
        evidence,
    )
    detail = (
        f"Under a PGD with {STEPS} steps without bound, {fraction_text(n_unbroken, n)} remain correct: "
        f"{100 * n_unbroken / n:.3g}%, where guessing among {evidence.num_classes} classes gives {100 * guessing:.2g}% "
        f"(accepted: that, or one image){more}."
    )
    return Check("Unbounded", fail_or_warn(evidence) if fired else "pass", n_unbroken / n, detail)
