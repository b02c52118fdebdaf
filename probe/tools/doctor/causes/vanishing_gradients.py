"""Do the gradients vanish towards the first layers?"""

from __future__ import annotations

from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TINY, TrainingEvidence, short
from probe.tools.doctor.registries import CAUSES

_NAME = "vanishing-gradients"

SMALL = 1e-4
"""Gradient norm / weight norm of a layer, divided by that of the last layer, at the first step. Networks that train have
0.01 to 100 in their first layer; a network of ten sigmoid layers has 1e-7."""

_EXPLAINED = frozenset({"learning-rate"})


@CAUSES.register("vanishing-gradients", order=14)
def vanishing_gradients(evidence: TrainingEvidence) -> Diagnosis:
    """Compare the first layers' gradients with the last layer's at the first step, relative to their weights."""
    title = "Vanishing gradients"
    gradients = evidence.gradients
    if len(gradients) < 2:
        return Diagnosis(_NAME, "clear", title, "There are fewer than two layers with gradients to compare.")
    last = max(gradients[-1][2], TINY)
    layer, norm, share = gradients[0]
    ratio = share / last
    facts = (
        f"At the first step, the gradient of {short(layer)} has norm {norm:.3g}; relative to the weights, it is "
        f"{ratio:.2g} times that of {short(gradients[-1][0])} (usual: above 0.01)"
    )
    if ratio >= SMALL:
        return Diagnosis(_NAME, "clear", title, f"{facts}.")
    if norm == 0 and evidence.blocked and not evidence.training_failed:
        return Diagnosis(
            _NAME,
            "clear",
            title,
            f"No gradient reaches {short(layer)} at the first step, because the weights of {short(evidence.blocked[0])} are "
            "all 0 there; the training works nevertheless.",
        )
    few = sum(gradient[2] / last < SMALL for gradient in gradients)
    return Diagnosis(
        _NAME,
        "fault" if evidence.training_failed else "risk",
        title,
        f"{facts}; {few} of {len(gradients)} layers are below {SMALL:g}.",
        _advice(norm),
        certain=norm == 0,
        explains=_EXPLAINED,
    )


def _advice(norm: float) -> str:
    if norm == 0:
        return "No gradient arrives at all: look for detach(), rounding, argmax or dead units in the network."
    return (
        "Use ReLU instead of sigmoid or tanh, initialise the weights with He's or Glorot's rule, normalise between the "
        "layers, or add shortcuts."
    )
