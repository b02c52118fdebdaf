"""Does the network use an operation where it has no finite value?"""

from __future__ import annotations

from probe.tools.doctor.causes._common import advice_for, describe, where
from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.registries import CAUSES

_NAME = "undefined-operation"
_EXPLAINED = frozenset(
    {
        "undefined-loss",
        "overflow",
        "exploding-gradients",
        "vanishing-gradients",
        "dead-relus",
        "learning-rate",
    }
)


@CAUSES.register("undefined-operation", order=9)
def undefined_operation(evidence: TrainingEvidence) -> Diagnosis:
    """Look for log of 0, division by 0, square root of negative numbers and their gradients inside the network."""
    title = "An operation in the network without a finite value"
    failure = evidence.failure
    if failure is None:
        steps = len(evidence.trained.losses)
        return Diagnosis(_NAME, "clear", title, f"All outputs and gradients of {steps} steps are finite.")
    operation = failure.operation
    inside = failure.fault.kind in ("output", "gradient") and operation is not None
    if operation is None or operation.layer is None or not inside or not operation.singular:
        return Diagnosis(
            _NAME,
            "clear",
            title,
            "The value that is not finite did not come from an operation in the network.",
        )
    quantity = "gradient" if operation.way == "backward" else "value"
    text = f"{where(failure)}: the {quantity} of {describe(operation)} is not finite; {operation.reason}."
    exploded = evidence.trained.exploded
    explains = _EXPLAINED - {"learning-rate"} if exploded else _EXPLAINED
    return Diagnosis(_NAME, "fault", title, text, advice_for(operation.name), not exploded, explains)
