"""Softmax output: networks that return probabilities instead of logits."""

from __future__ import annotations

from probe.core.document import Check
from probe.core.seeds import scoped
from studies.adversarial.checks._common import fail_or_warn, fraction_text, hint, sample
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("softmax-output")
def softmax_output(evidence: Evidence) -> Check:
    """Check whether every output lies in [0, 1] and each image's outputs sum to 1.

    A flag of AutoAttack (Croce and Hein 2020): the losses expect logits and saturate on probabilities. The value is
    the number of images with such outputs; the check fires when all have them.
    """
    n = sample(evidence)
    with scoped(evidence.seed, "check", "softmax"):
        outputs = evidence.model.verdict(evidence.images)
    inside = (outputs >= 0).all(1) & (outputs <= 1).all(1)
    n_probabilities = int((inside & ((outputs.sum(1) - 1).abs() < 1e-3)).sum())
    fired = n_probabilities == n
    more = hint(fired, "let the network return the inputs of its softmax, and attack those")
    detail = f"The outputs of {fraction_text(n_probabilities, n)} lie in [0, 1] and sum to 1 (if all do, they are not logits){more}."
    return Check("Softmax output", fail_or_warn(evidence) if fired else "pass", n_probabilities, detail)
