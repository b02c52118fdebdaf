"""Does one step break more than many?"""

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
)
from studies.adversarial.evidence import STEPS, Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("single-step")
def single_step(evidence: Evidence) -> Check:
    """Count the images that one step breaks and an iterative attack leaves.

    Carlini et al. 2019, "On Evaluating Adversarial Robustness": iterative attacks do at least as well as single-step
    ones; where they do not, the loss is masked away from the images. The value is the larger of two numbers: against
    the run's attacks, and against the reference PGD.
    """
    n = sample(evidence)
    fast = evidence.single_step
    missed = count(fast & ~evidence.chosen)
    surplus = count(fast & ~evidence.iterative)
    fired = exceeds_chance(max(missed, surplus), n)
    cure = (
        "the gradients mislead away from the images, so add `--attack fgsm` and `--attack square`"
        if exceeds_chance(surplus, n)
        else "the run's attacks are weaker than one step, so raise `--steps` or use `--attack standard`"
    )
    more = hint(fired, cure)
    detail = (
        f"FGSM broke {fraction_text(count(fast), n)}: {missed} that the run's attacks left and {surplus} that a PGD of {STEPS} "
        f"steps left ({criterion_text(n)}){more}."
    )
    return Check("Single step", fail_or_warn(evidence) if fired else "pass", max(missed, surplus), detail)
