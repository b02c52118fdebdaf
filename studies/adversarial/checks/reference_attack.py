"""Does a plain reference attack break what the run's attacks left?"""

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

NAME = "Reference attack"


@CHECKS.register("reference-attack")
def reference_attack(evidence: Evidence) -> Check:
    """Count the images that a PGD of 40 steps on the margin breaks and the run's attacks left.

    A robust accuracy is only as good as the strongest attack that was tried (Carlini et al. 2019). The value is the
    number of images.
    """
    n = sample(evidence)
    if bool(evidence.chosen.all()):
        return Check(NAME, "pass", 0, f"All {images(n)} were broken, so the reference has nothing to add.")
    found = count(evidence.iterative & ~evidence.chosen)
    fired = exceeds_chance(found, n)
    names = ", ".join(one.text for one in evidence.attacks)
    more = hint(
        fired, f"{names} is too weak to rely on, add `--attack pgd?loss=margin` or use `--attack standard`"
    )
    detail = (
        f"A PGD of {STEPS} steps on the margin broke {found} of the {count(~evidence.chosen)} that the run's attacks "
        f"left of {n} ({criterion_text(n)}){more}."
    )
    return Check(NAME, fail_or_warn(evidence) if fired else "pass", found, detail)
