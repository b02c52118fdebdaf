"""Texts that several causes use: on a failed step, and on the operation that failed."""

from __future__ import annotations

from probe.tools.doctor.evidence import short
from probe.tools.doctor.operations import Operation
from probe.tools.doctor.training_run import Failure

_ADVICE = {
    "log": "Keep the argument away from 0 (log(x.clamp_min(1e-6)), log1p), or use log_softmax or similar.",
    "sqrt": "Keep the argument away from 0: sqrt(x.clamp_min(1e-6)); the gradient at 0 is infinite.",
    "div": "Add a small number to the divisor (such as 1e-6), or keep it away from 0.",
}


def describe(operation: Operation) -> str:
    """Return the operation as text: ``log in layer2 (net.py, line 12)``."""
    layer = f" in {short(operation.layer)}" if operation.layer is not None else ""
    place = f" ({operation.place})" if operation.place else ""
    return f"{operation.name}{layer}{place}"


def where(failure: Failure) -> str:
    """Return which value stopped being finite, and at which step."""
    fault = failure.fault
    layer = f" of {short(fault.layer)}" if fault.layer else ""
    value = {"nan": "NaN", "inf": "infinite"}[fault.value]
    return f"At step {fault.step + 1} the {fault.kind}{layer} is {value}"


def advice_for(name: str) -> str:
    """Return the advice for an operation whose argument has no finite value or gradient."""
    key = next((key for key in _ADVICE if key in name), None)
    return (
        _ADVICE[key]
        if key
        else "Keep the argument in the range where the function has a finite value and gradient."
    )
