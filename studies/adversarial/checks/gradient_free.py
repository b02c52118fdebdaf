"""Gradient free: success of an attack without gradients against those with gradients."""

from __future__ import annotations

from probe.core.document import Check
from studies.adversarial.checks._common import (
    count,
    criterion_text,
    exceeds_chance,
    fail_or_warn,
    fraction_text,
    hint,
    images,
    sample,
    unguided,
)
from studies.adversarial.evidence import QUERIES, STEPS, Evidence
from studies.adversarial.registries import CHECKS

NAME = "Gradient free"


@CHECKS.register("gradient-free")
def gradient_free(evidence: Evidence) -> Check:
    """Compare the success of a search without gradients with that of the best gradient-based attack.

    Carlini et al. 2019: an attack that may use gradients does at least as well as one that may not. The run's
    white-box attacks and the reference PGD are compared and the better one counts, so that a weak choice of attack is
    not mistaken for masked gradients. The search is Square attack, in L0 and L1 Sparse-RS. The value is an
    upper bound of the number of images by which it leads.
    """
    n = sample(evidence)
    ours = evidence.chosen_with_gradients
    if bool(ours.all()):
        return Check(NAME, "pass", 0, f"White-box attacks broke all {images(n)}: no attack can do better.")
    alone = evidence.gradient_free_left
    if not exceeds_chance(count(alone), n):
        detail = (
            f"{evidence.search} with {QUERIES} queries broke {count(alone)} of the {count(~ours)} that the white-box "
            f"attacks did not break, out of {images(n)}, so it cannot lead by more ({criterion_text(n)})."
        )
        return Check(NAME, "pass", count(alone), detail)
    with_gradients = max(count(ours), count(evidence.with_gradients))
    without = count(evidence.gradient_free)
    ahead = max(without - with_gradients, 0)
    fired = exceeds_chance(ahead, n)
    reference = "σ-zero" if evidence.norm.name == "L0" else f"a PGD with {STEPS} steps"
    more = hint(
        fired,
        "search without gradients goes further here, which points to masked gradients: "
        f"use {unguided(evidence)} or differentiate around the part that masks them",
        evidence,
    )
    detail = (
        f"{evidence.search} with {QUERIES} queries broke {fraction_text(without, n)}, and the best attack with "
        f"gradients (the run's, or {reference}) broke {with_gradients}, so the search leads by {ahead} "
        f"({criterion_text(n)}){more}."
    )
    return Check(NAME, fail_or_warn(evidence) if fired else "pass", ahead, detail)
