"""More steps: images that a longer attack breaks."""

from __future__ import annotations

from probe.core.document import Check
from studies.adversarial.checks._common import (
    count,
    criterion_text,
    exceeds_chance,
    fail_or_warn,
    hint,
    images,
    sample,
)
from studies.adversarial.evidence import STEPS, Evidence
from studies.adversarial.registries import CHECKS

NAME = "More steps"


@CHECKS.register("more-steps")
def more_steps(evidence: Evidence) -> Check:
    """Count the images that a much longer PGD breaks and the run's attacks did not.

    Carlini et al. 2019: an attack has converged when more iterations change nothing. The value is the number of these
    images.
    """
    n = sample(evidence)
    if bool(evidence.chosen.all()):
        return Check(NAME, "pass", 0, f"All {images(n)} were broken, so more steps cannot break any more.")
    n_broken = count(evidence.longer & ~evidence.chosen)
    fired = exceeds_chance(n_broken, n)
    more = hint(
        fired,
        "the attack has not converged: raise `--steps` and `--restarts` or use `--attack standard`",
        evidence,
    )
    detail = (
        f"A PGD with {3 * STEPS} steps and two restarts broke {n_broken} of the {count(~evidence.chosen)} that the "
        f"run's attacks did not break, out of {n} ({criterion_text(n)}){more}."
    )
    return Check(NAME, fail_or_warn(evidence) if fired else "pass", n_broken, detail)
