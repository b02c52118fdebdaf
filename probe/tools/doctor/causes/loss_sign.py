"""Does the training move away from the labels, because the loss has the wrong sign?"""

from __future__ import annotations

from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.tools.doctor.diagnosis import Diagnosis, course_in_words
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.plan import Loss
from probe.tools.doctor.registries import CAUSES
from probe.tools.doctor.training_run import Hits, TrainingRun

_NAME = "loss-sign"
_EXPLAINED = frozenset(
    {
        *("double-softmax", "nll-of-logits", "undefined-loss", "undefined-operation", "overflow"),
        *("dead-relus", "vanishing-gradients", "learning-rate"),
    }
)
_ADVICE = "Change the sign of the loss (minimise the cross-entropy, not its negative), and check for maximize=True in the optimiser."


@CAUSES.register("loss-sign", order=4)
def loss_sign(evidence: TrainingEvidence) -> Diagnosis:
    """Compare the loss with known ones, and the accuracy with chance; then train on the negative loss."""
    title = "A loss of the wrong sign"
    course, form = evidence.trained, evidence.loss_form
    after = course.hits_after
    if form is not None and form.scale < 0:
        text = (
            f"For random outputs, the loss is {form.scale:.3g} times the {_KNOWN[form.name]}: the training maximises it"
            f"{_accuracy(course)}. Here {course_in_words(course)}{_control(evidence)}."
        )
        return Diagnosis(_NAME, "fault", title, text, _ADVICE, explains=_EXPLAINED)
    if course.hits_before is None or (after is None and course.failure is None):
        raise NotApplicableError(
            "The labels are not classes, so there is no accuracy to compare with chance."
        )
    suspect = course.outcome == "grew" and (evidence.sweep is None or evidence.sweep.best is None)
    low = after is not None and (after.below_chance or after.below(course.hits_before.share))
    useless = after is not None and course.outcome == "learned" and not after.above_chance
    if not suspect and not low and not useless:
        text = f"The accuracy is neither below chance nor lower than before{_accuracy(course)}."
        return Diagnosis(_NAME, "clear", title, text)
    other = evidence.with_loss(_negative)
    better = other.hits_after is not None and other.hits_after.right > (after or course.hits_before).right
    if other.hits_after is None or not better or not other.hits_after.above_chance:
        text = (
            f"The loss grows, or the accuracy falls or stays at chance{_accuracy(course)}, but training on the negative loss "
            "does not help."
        )
        return Diagnosis(_NAME, "clear", title, text)
    text = (
        f"At a learning rate of {course.lr:.3g}, {course_in_words(course)}{_accuracy(course)}; training on the negative loss "
        f"from the same start gives {_share(other.hits_after)}. This takes the largest output as the prediction."
    )
    # Of an unknown loss, the smallest output may be meant: distances, for example.
    return Diagnosis(_NAME, "fault", title, text, _ADVICE, certain=form is not None, explains=_EXPLAINED)


_KNOWN = {"cross-entropy": "cross-entropy", "nll": "negative log-likelihood"}


def _negative(loss: Loss) -> Loss:
    def changed(outputs: Tensor, labels: Tensor) -> Tensor:
        return -loss(outputs, labels)

    return changed


def _control(evidence: TrainingEvidence) -> str:
    other = evidence.with_loss(_negative)
    if other.hits_after is None:
        return ""
    return f"; training on the negative loss from the same start gives {_share(other.hits_after)}"


def _share(hits: Hits) -> str:
    return f"{hits.right} of {hits.n} images right"


def _accuracy(course: TrainingRun) -> str:
    before, after = course.hits_before, course.hits_after
    if before is None or after is None:
        return ""
    return (
        f" ({before.right} of {before.n} images right before, {after.right} after; predictions that ignore the images "
        f"would have {after.chance:.0%})"
    )
