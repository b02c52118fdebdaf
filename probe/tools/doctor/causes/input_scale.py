"""Does the first layer receive numbers of a usual size?"""

from __future__ import annotations

import math

from probe.core.errors import NotApplicableError
from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TrainingEvidence, short
from probe.tools.doctor.registries import CAUSES

_NAME = "input-scale"

LARGE, SMALL = 10.0, 0.01
"""Deviations of what the first layer receives. Pixels in [0, 1] have 0.1 to 0.4, normalised ones about 1, pixels
from 0 to 255 about 70, and pixels divided by 255 twice 0.001."""

OFFSET = 10.0
"""A mean so many deviations from 0 drowns what differs between images; pixels in [0, 1] have 1 to 3."""

_EXPLAINED = frozenset(
    {"exploding-gradients", "vanishing-gradients", "dead-relus", "learning-rate", "overflow"}
)


@CAUSES.register("input-scale", order=4)
def input_scale(evidence: TrainingEvidence) -> Diagnosis:
    """Compare what the first layer receives with mean 0 and deviation 1."""
    first = evidence.first
    if not (math.isfinite(first.std) and math.isfinite(first.mean)):
        raise NotApplicableError(f"What {short(first.name)} receives is not finite.")
    facts = (
        f"{short(first.name)}, the first layer with weights, receives numbers from {first.low:.4g} to {first.high:.4g} "
        f"with mean {first.mean:.3g} and standard deviation {first.std:.3g}"
    )
    title = "Input that is not normalised"
    if first.std == 0:
        return Diagnosis(
            _NAME,
            "fault" if evidence.course is not None and evidence.training_failed else "risk",
            "Constant input",
            f"{facts}: all images look the same to the network.",
            "Look at how the images are read and normalised.",
            explains=_EXPLAINED,
        )
    wrong = not SMALL <= first.std <= LARGE or abs(first.mean) > OFFSET * first.std
    if not wrong:
        return Diagnosis(_NAME, "clear", title, f"{facts}.")
    return _judged(evidence, title, facts)


def _judged(evidence: TrainingEvidence, title: str, facts: str) -> Diagnosis:
    """Train once more with the input standardised: does that take the failure away?"""
    first = evidence.first
    advice = (
        f"Normalise the images to mean 0 and standard deviation 1: subtract {first.mean:.4g} and divide by "
        f"{first.std:.4g} what is fed now (pixels of 0 to 255 are divided by 255 once)."
    )
    if evidence.course is None or not evidence.training_failed:
        return Diagnosis(_NAME, "risk", title, f"{facts}; the training works all the same.", advice)
    other = evidence.standardised
    if other.outcome == "learned":
        return Diagnosis(
            _NAME,
            "fault",
            title,
            f"{facts}. With that standardised to mean 0 and deviation 1 the same training takes the loss from "
            f"{other.before:.3g} to {other.after:.3g}; as it is, {told(evidence)}.",
            advice,
            explains=_EXPLAINED,
        )
    return Diagnosis(
        _NAME, "risk", title, f"{facts}. Standardising it alone does not make the network learn.", advice
    )


def told(evidence: TrainingEvidence) -> str:
    """Say what came of the run as it is."""
    from probe.tools.doctor.diagnosis import course_in_words

    return course_in_words(evidence.trained)
