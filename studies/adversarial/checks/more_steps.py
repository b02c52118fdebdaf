"""Do more steps break more?"""

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
    """Count the images that a much longer PGD breaks and the run's attacks left.

    Carlini et al. 2019: an attack has converged when more iterations change nothing. The value is their number.
    """
    n = sample(evidence)
    if bool(evidence.chosen.all()):
        return Check(NAME, "pass", 0, f"All {images(n)} were broken, so more steps have nothing to add.")
    found = count(evidence.longer & ~evidence.chosen)
    fired = exceeds_chance(found, n)
    more = hint(
        fired, "the attack has not converged, raise `--steps` and `--restarts` or use `--attack standard`"
    )
    detail = (
        f"A PGD of {3 * STEPS} steps and two restarts broke {found} of the {count(~evidence.chosen)} that the run's "
        f"attacks left of {n} ({criterion_text(n)}){more}."
    )
    return Check(NAME, fail_or_warn(evidence) if fired else "pass", found, detail)
