"""Are the weights of a layer all 0, or those of all its units equal, so that the units stay alike?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.core import seeds
from probe.tools.doctor.diagnosis import Diagnosis, course_in_words
from probe.tools.doctor.evidence import TrainingEvidence, short
from probe.tools.doctor.labels import restored
from probe.tools.doctor.registries import CAUSES
from probe.tools.doctor.training_run import TrainingRun

_NAME = "equal-weights"
_EXPLAINED = frozenset({"exploding-gradients", "dead-relus", "vanishing-gradients", "learning-rate"})
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
_GAIN = 0.95
"""The loss after the training with random weights must be below this times the loss without them."""


@dataclass(frozen=True)
class _Alike:
    name: str
    module: nn.Module
    zero: bool


@CAUSES.register("equal-weights", order=8)
def equal_weights(evidence: TrainingEvidence) -> Diagnosis:
    """Look for layers whose weights are all 0 or equal in all units; then train with random weights in them."""
    title = "Weights that are all equal"
    alike = _find(evidence)
    if not alike:
        return Diagnosis(_NAME, "clear", title, "No layer has the same weights in all its units.")
    zeros = [layer for layer in alike if layer.zero]
    if len(zeros) == len(alike):
        title = "Weights that are all 0"
    facts = _facts(alike, zeros, evidence)
    course = evidence.course
    if course is None:
        return Diagnosis(_NAME, "risk", title, f"{facts}.", _ADVICE)
    last = evidence.layer_stats.layers[-1].name
    other = _with_random(evidence, alike)
    control = f"{facts}. Here {course_in_words(course)}; with random weights there (Kaiming), {course_in_words(other)}."
    # Layers of zeros that do no harm are usual: the last of a classifier, or of a residual block.
    hidden = any(not layer.zero and layer.name != last for layer in alike)
    better = hidden and other.after < _GAIN * course.after
    if other.outcome == "learned" and (course.outcome != "learned" or better):
        return Diagnosis(_NAME, "fault", title, control, _ADVICE, explains=_EXPLAINED)
    if course.outcome == "learned":
        return Diagnosis(_NAME, "clear", title, control)
    return Diagnosis(_NAME, "risk", title, control, _ADVICE)


_ADVICE = (
    "Draw the weights at random (such as nn.init.kaiming_normal_): units with equal weights get equal gradients and stay equal, "
    "and a layer of zeros passes no gradient on."
)


def _find(evidence: TrainingEvidence) -> list[_Alike]:
    """Return the layers that are trained and whose units all have the same weights, in order of execution."""
    found = []
    for layer in evidence.layer_stats.layers:
        module = evidence.plan.module.get_submodule(layer.name)
        weight = getattr(module, "weight", None)
        if not isinstance(module, _LAYERS) or not isinstance(weight, Tensor) or not weight.requires_grad:
            continue
        zero = not bool(weight.detach().any())
        if zero or (getattr(module, "groups", 1) == 1 and _same_units(module, weight.detach())):
            found.append(_Alike(layer.name, module, zero))
    return found


def _same_units(module: nn.Module, weight: Tensor) -> bool:
    units = weight.transpose(0, 1) if getattr(module, "transposed", False) else weight
    return len(units) > 1 and bool((units == units[:1]).all())


def _facts(alike: list[_Alike], zeros: list[_Alike], evidence: TrainingEvidence) -> str:
    total = len(evidence.layer_stats.layers)
    names = ", ".join(short(layer.name) for layer in alike[:3]) + (", …" if len(alike) > 3 else "")
    what = "all 0" if len(zeros) == len(alike) else "the same in all units"
    return f"Before the first step the weights of {len(alike)} of {total} layers are {what} ({names})"


def _with_random(evidence: TrainingEvidence, alike: list[_Alike]) -> TrainingRun:
    """Train again with these layers' weights drawn at random, biases as they are."""
    plan = evidence.plan
    with restored(plan.module), seeds.scoped(plan.seed, "doctor", "random weights"):
        with torch.no_grad():
            for layer in alike:
                weight = layer.module.weight
                if isinstance(weight, Tensor):
                    nn.init.kaiming_normal_(weight)
        return evidence.again(plan)
