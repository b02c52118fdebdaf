"""What the causes share: a failed step in words, and the operation that failed."""

from __future__ import annotations

from probe.tools.doctor.evidence import short
from probe.tools.doctor.operations import Operation
from probe.tools.doctor.training_run import Failure

_ADVICE = {
    "log": "Bound the argument away from 0 (log(x.clamp_min(1e-6)), log1p), or use log_softmax and its like.",
    "sqrt": "Bound the argument away from 0: sqrt(x.clamp_min(1e-6)); at 0 itself its gradient is infinite.",
    "div": "Add a small number to the divisor (such as 1e-6), or bound it away from 0.",
}


def described(operation: Operation) -> str:
    """Write ``log in layer2 (net.py, line 12)``."""
    layer = f" in {short(operation.layer)}" if operation.layer is not None else ""
    place = f" ({operation.place})" if operation.place else ""
    return f"{operation.name}{layer}{place}"


def where(failure: Failure) -> str:
    """Write which value stopped being finite, and at which step."""
    fault = failure.fault
    layer = f" of {short(fault.layer)}" if fault.layer else ""
    value = {"nan": "NaN", "inf": "infinite"}[fault.value]
    return f"At step {fault.step + 1} the {fault.kind}{layer} is {value}"


def advice_for(name: str) -> str:
    """Return what to do about an operation at a place where it has no finite value."""
    key = next((key for key in _ADVICE if key in name), None)
    return (
        _ADVICE[key]
        if key
        else "Keep its argument inside the range where it has a finite value and gradient."
    )
