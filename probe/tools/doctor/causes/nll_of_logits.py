"""Does the loss expect log-probabilities, and get something else?"""

from __future__ import annotations

from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.tools.doctor.diagnosis import Diagnosis, course_in_words
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.loss_form import given, of_log_softmax, of_logarithms
from probe.tools.doctor.registries import CAUSES

_NAME = "nll-of-logits"
_EXPLAINED = frozenset({"overflow", "undefined-loss", "dead-relus", "vanishing-gradients", "learning-rate"})


@CAUSES.register("nll-of-logits", order=6)
def nll_of_logits(evidence: TrainingEvidence) -> Diagnosis:
    """Look for outputs that are not log-probabilities, given to a negative log-likelihood."""
    title = "A negative log-likelihood of outputs that are not log-probabilities"
    form = evidence.loss_form
    if form is None:
        raise NotApplicableError("The loss is not recognised as a negative log-likelihood.")
    if form.name != "nll":
        return Diagnosis(_NAME, "clear", title, "The loss takes logits, not log-probabilities.")
    kind = given(evidence.outputs)
    if kind == "log-probabilities":
        return Diagnosis(_NAME, "clear", title, "The outputs are log-probabilities, as the loss expects.")
    text = (
        "The loss is proportional to the mean of −output[label], which is a log-likelihood only if the outputs are log-probabilities; "
        f"{_what(evidence.outputs, kind)}"
    )
    if evidence.course is not None:
        other = evidence.with_loss(of_logarithms if kind == "probabilities" else of_log_softmax)
        how = "the logarithm of the outputs" if kind == "probabilities" else "log_softmax of the outputs"
        text += f". Here {course_in_words(evidence.course)}; with {how}, {course_in_words(other)}"
    advice = (
        "Take the logarithm of the output (better: end with log_softmax instead of softmax)."
        if kind == "probabilities"
        else "Use cross_entropy, or end the network with log_softmax."
    )
    return Diagnosis(_NAME, "fault", title, f"{text}.", advice, explains=_EXPLAINED)


def _what(outputs: Tensor, kind: str) -> str:
    if kind == "probabilities":
        return "they are probabilities, not their logarithms: behind a softmax, the gradient is small where the label's probability is"
    sums = outputs.exp().sum(1)
    return (
        f"the exponentials of a row sum to {float(sums.min()):.3g} to {float(sums.max()):.3g} instead of 1, so the loss can "
        "fall without limit by larger outputs alone"
    )
