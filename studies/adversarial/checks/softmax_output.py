"""Does the network give logits, or probabilities?"""

from __future__ import annotations

from probe.core.document import Check
from probe.core.seeds import scoped
from studies.adversarial.checks._common import fail_or_warn, fraction_text, hint, sample
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("softmax-output")
def softmax_output(evidence: Evidence) -> Check:
    """Look whether every output lies in [0, 1] and each image's outputs sum to 1.

    A flag of AutoAttack (Croce and Hein 2020): the losses are made for logits, and on probabilities they saturate. The
    value is the number of images with such outputs; the check fires when all have them.
    """
    n = sample(evidence)
    with scoped(evidence.seed, "check", "softmax"):
        outputs = evidence.model.verdict(evidence.images)
    inside = (outputs >= 0).all(1) & (outputs <= 1).all(1)
    found = int((inside & ((outputs.sum(1) - 1).abs() < 1e-3)).sum())
    fired = found == n
    more = hint(fired, "let the network return what goes into its softmax, and attack that")
    detail = f"The outputs of {fraction_text(found, n)} lie in [0, 1] and sum to 1 (when all do, they are no logits){more}."
    return Check("Softmax output", fail_or_warn(evidence) if fired else "pass", found, detail)
