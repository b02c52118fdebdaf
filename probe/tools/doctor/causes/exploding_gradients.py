"""Are the gradients or activations enormous before any training?"""

from __future__ import annotations

import math

from probe.tools.doctor.causes._common import where
from probe.tools.doctor.diagnosis import Diagnosis, Grade
from probe.tools.doctor.evidence import TrainingEvidence, short
from probe.tools.doctor.registries import CAUSES

_NAME = "exploding-gradients"

LARGE = 100.0
"""Gradient norm / weight norm at the first step. Networks that train have 0.001 to 10 in every layer; from 100 on, a
plain step of any usual size replaces the weights with noise."""

_EXPLAINED = frozenset({"overflow", "dead-relus", "vanishing-gradients", "learning-rate", "undefined-loss"})
_ADVICE = (
    "Initialise the weights so that activations keep their size from layer to layer (He: standard deviation "
    "sqrt(2 / inputs) for ReLU), normalise between the layers, or add shortcuts; if this is not enough, clip the gradients."
)


@CAUSES.register("exploding-gradients", order=12)
def exploding_gradients(evidence: TrainingEvidence) -> Diagnosis:
    """Compare each layer's gradient with its weights at the first step, before any update."""
    title = "Exploding gradients from the start"
    if evidence.at_once and not evidence.gradients:
        return _at_once(evidence, title)
    gradients = evidence.gradients
    if not gradients:
        return Diagnosis(_NAME, "clear", title, "No layer has weights.")
    layer, norm, share = max(gradients, key=lambda gradient: gradient[2])
    signal = _growth(evidence)
    facts = (
        f"At the first step, the gradient of {short(layer)} has norm {norm:.3g}, {share:.3g} times that of its weights "
        f"(usual: below 10)"
    )
    if share < LARGE:
        return Diagnosis(_NAME, "clear", title, f"{facts}: the largest of {len(gradients)} layers.")
    grade: Grade = "fault" if evidence.training_failed else "risk"
    after = f"; {signal}" if signal else ""
    return Diagnosis(_NAME, grade, title, f"{facts}{after}.", _ADVICE, certain=False, explains=_EXPLAINED)


def _at_once(evidence: TrainingEvidence, title: str) -> Diagnosis:
    failure = evidence.failure
    large = failure is not None and failure.wide and evidence.full_precision is None
    if failure is None or not large:
        return Diagnosis(
            _NAME, "clear", title, "The value that is not finite at the first step is not merely too large."
        )
    signal = _growth(evidence)
    why = f"; {signal}" if signal else ""
    text = f"{where(failure)}, before any update; in float64 the same step is finite, so the values are too large{why}."
    return Diagnosis(_NAME, "fault", title, text, _ADVICE, explains=_EXPLAINED)


def _growth(evidence: TrainingEvidence) -> str:
    """Return how the outputs grow from the first to the last finite layer; empty if they do not."""
    sizes = [
        (activity.name, activity.rms)
        for activity in evidence.layer_stats.layers
        if math.isfinite(activity.rms) and activity.rms > 0
    ]
    if len(sizes) < 2 or sizes[-1][1] < 100 * sizes[0][1]:
        return ""
    (first, small), (last, large) = sizes[0], sizes[-1]
    return (
        f"the outputs grow from {small:.3g} (root mean square, {short(first)}) to {large:.3g} ({short(last)}), "
        f"by a factor of {(large / small) ** (1 / (len(sizes) - 1)):.3g} per layer"
    )
