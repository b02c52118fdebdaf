"""Does the loss use an operation where it has no finite value?"""

from __future__ import annotations

from probe.tools.doctor.causes._common import advice_for, describe, where
from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.registries import CAUSES

_NAME = "undefined-loss"
_EXPLAINED = frozenset(
    {"overflow", "exploding-gradients", "vanishing-gradients", "dead-relus", "learning-rate"}
)


@CAUSES.register("undefined-loss", order=10)
def undefined_loss(evidence: TrainingEvidence) -> Diagnosis:
    """Look for log of 0, division by 0 and similar operations in the loss, given finite outputs."""
    title = "A loss without a finite value"
    failure = evidence.failure
    if failure is None:
        steps = len(evidence.trained.losses)
        return Diagnosis(
            _NAME, "clear", title, f"The loss of all {steps} batches and its gradients are finite."
        )
    operation = failure.operation
    # Outside all modules there is only the loss: its gradient is computed before that of any layer.
    outside = (
        operation is not None
        and operation.layer is None
        and failure.fault.kind in ("loss", "gradient", "output")
    )
    if operation is None or not outside:
        if failure.fault.kind == "loss":
            return _without_operation(evidence, title)
        return Diagnosis(_NAME, "clear", title, "The value that is not finite did not come from the loss.")
    if not operation.singular:
        return _without_operation(evidence, title)
    quantity = "gradient" if operation.way == "backward" else "value"
    text = (
        f"{where(failure)}, although the outputs of the network are finite: the {quantity} of {describe(operation)} in the "
        f"loss is not finite; {operation.reason}."
    )
    grown = evidence.trained.exploded
    return Diagnosis(
        _NAME,
        "fault",
        title,
        text,
        advice_for(operation.name),
        not grown,
        _EXPLAINED - {"learning-rate"} if grown else _EXPLAINED,
    )


def _without_operation(evidence: TrainingEvidence, title: str) -> Diagnosis:
    failure = evidence.trained.failure
    if failure is None or failure.wide is not False:
        return Diagnosis(
            _NAME,
            "clear",
            title,
            "The value that is not finite is only too large for its type, not undefined.",
        )
    return Diagnosis(
        _NAME,
        "fault",
        title,
        f"{where(failure)}, although the outputs of the network are finite; in float64 it is not finite either.",
        "Look for a logarithm of 0, a division by 0 (such as a mean over no elements) or a square root in the loss.",
        certain=False,
        explains=_EXPLAINED - {"learning-rate"} if evidence.trained.exploded else _EXPLAINED,
    )
