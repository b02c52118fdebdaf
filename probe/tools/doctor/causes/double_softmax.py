"""Does the network end with a softmax that the loss applies again?"""

from __future__ import annotations

from probe.core.errors import NotApplicableError
from probe.tools.doctor.diagnosis import Diagnosis, course_in_words
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.loss_form import given, least_after_softmax, of_logarithms
from probe.tools.doctor.registries import CAUSES

_NAME = "double-softmax"
_EXPLAINED = frozenset({"vanishing-gradients", "learning-rate", "dead-relus"})


@CAUSES.register("double-softmax", order=5)
def double_softmax(evidence: TrainingEvidence) -> Diagnosis:
    """Look for outputs that are probabilities, given to a cross-entropy that applies a softmax itself."""
    title = "A softmax before the cross-entropy"
    form = evidence.loss_form
    if form is None:
        raise NotApplicableError("The loss is not recognised as a cross-entropy of logits.")
    if form.name != "cross-entropy":
        return Diagnosis(_NAME, "clear", title, "The loss applies no softmax.")
    kind, classes = given(evidence.outputs), evidence.outputs.shape[1]
    if kind == "log-probabilities":
        text = "The outputs are log-probabilities already; the softmax in the loss is then redundant and changes nothing."
        return Diagnosis(_NAME, "clear", title, text)
    if kind != "probabilities":
        return Diagnosis(
            _NAME, "clear", title, "The outputs are not probabilities: their rows do not sum to 1."
        )
    text = (
        f"Every row of the {len(evidence.outputs)} outputs lies between 0 and 1 and sums to 1, and the loss applies a "
        "softmax again"
    )
    if form.smoothing == 0 and form.scale > 0:
        floor = form.scale * least_after_softmax(classes)
        text += f": with {classes} classes it cannot fall below {floor:.3g}, whatever the network learns"
    if evidence.course is not None:
        other = evidence.with_loss(of_logarithms)
        text += (
            f". Here {course_in_words(evidence.course)}; with the logarithm of the outputs, so that there is one softmax, "
            f"{course_in_words(other)}"
        )
    advice = (
        "Remove the softmax at the end of the network, or train with nll_loss on the logarithm of its output."
    )
    return Diagnosis(_NAME, "fault", title, f"{text}.", advice, explains=_EXPLAINED)
