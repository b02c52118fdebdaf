"""Reference attack: images that a plain PGD breaks and the run's attacks did not."""

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
    """Count the images that a PGD with 40 steps on the margin breaks and the run's attacks did not.

    A robust accuracy is only as good as the strongest attack that was tried (Carlini et al. 2019). The value is the
    number of images.
    """
    n = sample(evidence)
    if bool(evidence.chosen.all()):
        return Check(NAME, "pass", 0, f"All {images(n)} were broken, so the reference cannot break any more.")
    n_broken = count(evidence.iterative & ~evidence.chosen)
    fired = exceeds_chance(n_broken, n)
    names = ", ".join(attack.text for attack in evidence.attacks)
    more = hint(
        fired,
        f"{names} is too weak to rely on: add `--attack pgd?loss=margin` or use `--attack standard`",
        evidence,
    )
    detail = (
        f"A PGD with {STEPS} steps on the margin broke {n_broken} of the {count(~evidence.chosen)} that the run's "
        f"attacks did not break, out of {n} ({criterion_text(n)}){more}."
    )
    return Check(NAME, fail_or_warn(evidence) if fired else "pass", n_broken, detail)
