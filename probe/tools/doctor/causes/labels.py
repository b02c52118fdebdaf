"""Are the labels valid classes of the network?"""

from __future__ import annotations

from probe.core.errors import NotApplicableError
from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.labels import IGNORED, outside
from probe.tools.doctor.registries import CAUSES

_NAME = "labels"


@CAUSES.register("labels", order=2)
def labels(evidence: TrainingEvidence) -> Diagnosis:
    """Look for labels outside the network's classes."""
    targets, shape = evidence.plan.labels, evidence.layer_stats.shape
    wrong = outside(targets, shape)
    if wrong is None:
        raise NotApplicableError("The labels are not class numbers.")
    classes, n = shape[1], len(targets)
    title = "Labels outside the classes"
    if not len(wrong):
        ignored = int((targets == IGNORED).sum())
        if ignored == n:
            return Diagnosis(
                _NAME,
                "fault",
                "No labels",
                f"All {n:,} labels are {IGNORED}, which cross-entropy ignores: its mean is 0 / 0.",
                "Number the classes from 0.",
                explains=frozenset(CAUSES) - {_NAME},
            )
        return Diagnosis(_NAME, "clear", title, f"All {n:,} labels are classes from 0 to {classes - 1}.")
    if not evidence.refusal:
        return Diagnosis(
            _NAME,
            "clear",
            title,
            f"{len(wrong):,} of {n:,} labels are outside the classes, but the loss accepts them.",
        )
    low, high = int(wrong.min()), int(wrong.max())
    span = f"{low}" if low == high else f"{low} to {high}"
    return Diagnosis(
        _NAME,
        "fault",
        title,
        f"The network has {classes} outputs (classes 0 to {classes - 1}), but {len(wrong):,} of {n:,} labels are "
        f"outside this range ({span}).",
        _advice(low, high, classes),
        explains=frozenset(CAUSES) - {_NAME, "input-not-finite", "weights-not-finite", "input-scale"},
    )


def _advice(low: int, high: int, classes: int) -> str:
    if low == high == classes:
        return f"If the classes are numbered from 1, subtract 1; otherwise give the last layer {high + 1} outputs."
    if low < 0:
        return f"Negative labels are not classes: number the classes from 0; the loss ignores only {IGNORED}."
    return f"Give the last layer {high + 1} outputs, or number the classes from 0 to {classes - 1}."
