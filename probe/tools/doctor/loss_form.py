"""What the loss expects and what the network gives it: cross-entropy or NLL, logits or probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.core import seeds
from probe.core.errors import UsageError
from probe.tools.doctor.labels import IGNORED, outside
from probe.tools.doctor.plan import Loss, TrainingPlan

Given = Literal["probabilities", "log-probabilities", "other"]

_ROWS, _DRAWS = 6, 4
_CLOSE = 1e-3


@dataclass(frozen=True)
class LossForm:
    """A loss that equals ``scale`` times a known loss.

    ``name`` is ``cross-entropy``, with ``smoothing`` of the labels, or ``nll``, which expects log-probabilities.
    """

    name: Literal["cross-entropy", "nll"]
    scale: float
    smoothing: float = 0.0


def loss_form(plan: TrainingPlan, shape: tuple[int, ...]) -> LossForm | None:
    """Call the loss with random outputs and compare it with cross-entropy and with the negative log-likelihood.

    All labels of a call are the same class, so that class weights cancel in a weighted mean. None if the labels are not
    classes, the loss does not accept such outputs, or it is neither of the two.
    """
    wrong = outside(plan.labels, shape)
    if wrong is None or len(wrong) or shape[1] < 2:
        return None
    present = plan.labels[plan.labels != IGNORED]
    if not len(present):
        return None
    labels = present[:1].cpu().expand(_ROWS)
    draws = seeds.generator(plan.seed, "doctor", "loss form")
    outputs = [torch.randn(_ROWS, shape[1], generator=draws) for _ in range(_DRAWS)]
    try:
        with torch.no_grad():
            values = [float(plan.measure_loss(draw, labels)) for draw in outputs]
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, UsageError):
        return None
    if not all(map(math.isfinite, values)):
        return None
    wanted = labels.long()
    entropies = [float(F.cross_entropy(draw, wanted)) for draw in outputs]
    uniform = [float(-F.log_softmax(draw, 1).mean()) for draw in outputs]
    found = _fit(values, entropies, uniform)
    if found is not None:
        scale, smooth = found
        return LossForm("cross-entropy", scale + smooth, smooth / (scale + smooth))
    scale = values[0] / float(F.nll_loss(outputs[0], wanted))
    if all(
        math.isclose(value, scale * float(F.nll_loss(draw, wanted)), rel_tol=_CLOSE, abs_tol=1e-6)
        for value, draw in zip(values, outputs, strict=True)
    ):
        return LossForm("nll", scale) if abs(scale) > 1e-6 else None
    return None


def _fit(values: list[float], first: list[float], second: list[float]) -> tuple[float, float] | None:
    """Return a and b with values = a · first + b · second, fitted on two draws and checked on the others."""
    determinant = first[0] * second[1] - first[1] * second[0]
    if abs(determinant) < 1e-6:
        return None
    a = (values[0] * second[1] - values[1] * second[0]) / determinant
    b = (first[0] * values[1] - first[1] * values[0]) / determinant
    close = all(
        math.isclose(value, a * x + b * y, rel_tol=_CLOSE, abs_tol=1e-6)
        for value, x, y in zip(values, first, second, strict=True)
    )
    b = 0.0 if abs(b) < _CLOSE * abs(a) else b
    smooth = abs(a + b) > 1e-6 and 0 <= b / (a + b) < 1
    return (a, b) if close and smooth else None


def given(outputs: Tensor) -> Given:
    """Return whether every row of (N, C) outputs is a distribution, or its logarithms."""
    if outputs.dim() != 2 or outputs.shape[1] < 2 or not bool(torch.isfinite(outputs).all()):
        return "other"
    for values, kind in ((outputs, "probabilities"), (outputs.exp(), "log-probabilities")):
        inside = bool((values >= 0).all()) and bool((values <= 1 + _CLOSE).all())
        if inside and bool(((values.sum(1) - 1).abs() < _CLOSE).all()):
            return "probabilities" if kind == "probabilities" else "log-probabilities"
    return "other"


def least_after_softmax(classes: int) -> float:
    """Return the least cross-entropy of outputs that are probabilities: that of a one-hot row."""
    return math.log(math.e + classes - 1) - 1


def of_logarithms(loss: Loss) -> Loss:
    """Return the loss of the logarithm of the outputs."""

    def changed(outputs: Tensor, labels: Tensor) -> Tensor:
        return loss(torch.log(outputs.clamp_min(1e-12)), labels)

    return changed


def of_log_softmax(loss: Loss) -> Loss:
    """Return the loss of the log_softmax of the outputs."""

    def changed(outputs: Tensor, labels: Tensor) -> Tensor:
        return loss(torch.log_softmax(outputs, 1), labels)

    return changed
