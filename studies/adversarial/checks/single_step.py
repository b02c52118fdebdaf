"""Single step: images that one step breaks and many steps do not."""

from __future__ import annotations

from probe.core.document import Check
from studies.adversarial.checks._common import (
    count,
    criterion_text,
    exceeds_chance,
    fail_or_warn,
    fraction_text,
    hint,
    sample,
    unguided,
)
from studies.adversarial.evidence import STEPS, Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("single-step")
def single_step(evidence: Evidence) -> Check:
    """Count the images that one step breaks and an iterative attack does not.

    Carlini et al. 2019, "On Evaluating Adversarial Robustness": iterative attacks do at least as well as single-step
    ones; where they do not, the loss is masked away from the images. The value is the larger of two numbers: against
    the run's attacks, and against the reference PGD.
    """
    n = sample(evidence)
    fast = evidence.single_step
    missed = count(fast & ~evidence.chosen)
    surplus = count(fast & ~evidence.iterative)
    fired = exceeds_chance(max(missed, surplus), n)
    remedy = (
        "many small steps lead less far than one, which points to gradients that mislead away from the images: add "
        f"`--attack fgsm` and {unguided(evidence)}"
        if exceeds_chance(surplus, n)
        else "the run's attacks are weaker than one step: raise `--steps` or use `--attack standard`"
    )
    more = hint(fired, remedy, evidence)
    detail = (
        f"FGSM broke {fraction_text(count(fast), n)}: {missed} that the run's attacks did not break and {surplus} "
        f"that a PGD with {STEPS} steps did not ({criterion_text(n)}){more}."
    )
    return Check("Single step", fail_or_warn(evidence) if fired else "pass", max(missed, surplus), detail)
