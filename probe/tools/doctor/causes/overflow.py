"""Are the values too large for their floating-point type?"""

from __future__ import annotations

from probe.core.errors import NotApplicableError
from probe.tools.doctor.causes._common import describe, where
from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.registries import CAUSES
from probe.tools.doctor.training_run import Failure

_NAME = "overflow"
_EXPLAINED = frozenset({"exploding-gradients", "vanishing-gradients", "dead-relus", "learning-rate"})


@CAUSES.register("overflow", order=11)
def overflow(evidence: TrainingEvidence) -> Diagnosis:
    """Train again in float32 if float16 or bfloat16 stopped being finite."""
    title = "Overflow of a narrow floating-point type"
    failure = evidence.failure
    if failure is None:
        return Diagnosis(_NAME, "clear", title, "No value was too large for its type.")
    if failure.operation is not None and failure.operation.singular:
        return Diagnosis(_NAME, "clear", title, "The operation that failed has no finite value in any type.")
    full = evidence.full_precision
    if full is None:
        raise NotApplicableError("Everything is already computed in float32 or wider.")
    if full.failure is not None:
        return Diagnosis(
            _NAME,
            "clear",
            title,
            f"In float32, the same training also stops being finite, at step {full.failure.fault.step + 1}.",
        )
    if full.outcome == "grew":
        text = (
            f"In float32, the same {len(full.losses)} steps stay finite, but the loss rises from {full.before:.3g} to "
            f"{full.after:.3g}: the narrow type is not what makes the training fail."
        )
        return Diagnosis(_NAME, "clear", title, text)
    kind = evidence.short_type
    limit = "" if failure.operation is not None else f" The largest {kind} value is {evidence.largest:.3g}."
    text = (
        f"{_what(failure)}; in float32, the same {len(full.losses)} steps stay finite, and the loss goes from "
        f"{full.before:.3g} to {full.after:.3g}.{limit}"
    )
    explains = _EXPLAINED - {"learning-rate"} if evidence.trained.exploded else _EXPLAINED
    return Diagnosis(_NAME, "fault", title, text, _advice(kind, failure), explains=explains)


def _what(failure: Failure) -> str:
    if failure.operation is None:
        return where(failure)
    return f"{where(failure)}, first in {describe(failure.operation)}: {failure.operation.reason}"


def _advice(kind: str, failure: Failure) -> str:
    if kind == "bfloat16":
        return "Compute this part in float32: bfloat16 has the range of float32, but few digits."
    if failure.fault.kind == "gradient":
        return "Scale the loss (torch.amp.GradScaler), or use bfloat16, which has the range of float32."
    return "Use bfloat16, which has the range of float32, or compute this layer in float32 and normalise before it."
