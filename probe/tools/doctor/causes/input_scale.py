"""Does the first layer receive values of a usual size?"""

from __future__ import annotations

import math

from probe.core.errors import NotApplicableError
from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TrainingEvidence, short
from probe.tools.doctor.registries import CAUSES

_NAME = "input-scale"

LARGE, SMALL = 10.0, 0.01
"""Standard deviations of the first layer's input. Pixels in [0, 1] have 0.1 to 0.4, normalised pixels about 1, pixels
from 0 to 255 about 70, and pixels divided by 255 twice 0.001."""

OFFSET = 10.0
"""A mean this many standard deviations from 0 hides the differences between images; pixels in [0, 1] have 1 to 3."""

_EXPLAINED = frozenset(
    {"exploding-gradients", "vanishing-gradients", "dead-relus", "learning-rate", "overflow"}
)


@CAUSES.register("input-scale", order=7)
def input_scale(evidence: TrainingEvidence) -> Diagnosis:
    """Compare the input of the first layer with mean 0 and standard deviation 1."""
    first = evidence.first
    if not (math.isfinite(first.std) and math.isfinite(first.mean)):
        raise NotApplicableError(f"The input of {short(first.name)} is not finite.")
    facts = (
        f"{short(first.name)}, the first layer with weights, receives values from {first.low:.4g} to {first.high:.4g} "
        f"with mean {first.mean:.3g} and standard deviation {first.std:.3g}"
    )
    title = "Input that is not normalised"
    if first.std == 0:
        return Diagnosis(
            _NAME,
            "fault" if evidence.course is not None and evidence.training_failed else "risk",
            "Constant input",
            f"{facts}: all images look the same to the network.",
            "Check how the images are read and normalised.",
            explains=_EXPLAINED,
        )
    wrong = not SMALL <= first.std <= LARGE or abs(first.mean) > OFFSET * first.std
    if not wrong:
        return Diagnosis(_NAME, "clear", title, f"{facts}.")
    return _with_experiment(evidence, title, facts)


def _with_experiment(evidence: TrainingEvidence, title: str, facts: str) -> Diagnosis:
    """Train again with the input standardised, to see whether the training then works."""
    first = evidence.first
    advice = (
        f"Normalise the images to mean 0 and standard deviation 1: subtract {first.mean:.4g} from the current input and "
        f"divide it by {first.std:.4g} (divide pixels from 0 to 255 by 255 once)."
    )
    if evidence.course is None or not evidence.training_failed:
        return Diagnosis(_NAME, "risk", title, f"{facts}; the training works nevertheless.", advice)
    other = evidence.standardised
    if other.outcome == "learned":
        return Diagnosis(
            _NAME,
            "fault",
            title,
            f"{facts}. With this input standardised to mean 0 and standard deviation 1, the same training reduces the "
            f"loss from {other.before:.3g} to {other.after:.3g}; without, {course_text(evidence)}.",
            advice,
            explains=_EXPLAINED,
        )
    return Diagnosis(
        _NAME,
        "risk",
        title,
        f"{facts}. Standardising the input alone does not make the network learn.",
        advice,
    )


def course_text(evidence: TrainingEvidence) -> str:
    """Describe the outcome of the original run."""
    from probe.tools.doctor.diagnosis import course_in_words

    return course_in_words(evidence.trained)
