"""Black box beats white box: images that only the gradient-free attack breaks."""

from __future__ import annotations

from probe.core.document import Check
from probe.core.errors import NotApplicableError
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import (
    count,
    exceeds_chance,
    fail_or_warn,
    hint,
    images,
    sample,
    unguided,
)
from studies.adversarial.evidence import QUERIES, Evidence
from studies.adversarial.registries import CHECKS

NAME = "Black box beats white box"


@CHECKS.register("black-box-beats-white-box")
def black_box_beats_white_box(evidence: Evidence) -> Check:
    """Count the images that a search without gradients breaks and the run's white-box attacks did not.

    A flag of AutoAttack (Croce and Hein 2020), which any such image raises. The value is the number of these images.
    """
    n = sample(evidence)
    if not any(attack.attack.traits.access == "white-box" for attack in evidence.attacks):
        raise NotApplicableError("The run used no white-box attack.")
    unbroken = ~evidence.chosen_with_gradients
    if not bool(unbroken.any()):
        return Check(
            NAME,
            "pass",
            0,
            f"All {images(n)} were broken by the white-box attacks, so none is left to break.",
        )
    square = evidence.gradient_free_left
    n_broken = count(square)
    status: CheckStatus = "pass"
    more = ""
    if n_broken:
        status = fail_or_warn(evidence) if exceeds_chance(n_broken, n) else "warn"
        weak = not exceeds_chance(count(square & ~evidence.with_gradients), n)
        stronger = "use `--attack sigma-zero`" if evidence.norm.name == "L0" else "use `--attack standard`"
        more = hint(
            True,
            f"{'σ-zero' if evidence.norm.name == 'L0' else 'a plain PGD'} breaks these too, so the run's attacks are weak: {stronger}"
            if weak
            else "search without gradients goes further here, which points to masked gradients: "
            f"{stronger} or add {unguided(evidence)}",
            evidence,
        )
    detail = (
        f"{evidence.search} with {QUERIES} queries broke {n_broken} of the {count(unbroken)} that the white-box attacks did "
        f"not break, out of {images(n)} (accepted: none; a single one gives a warning){more}."
    )
    return Check(NAME, status, n_broken, detail)
