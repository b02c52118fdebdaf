"""Operations inside a ``forward`` that have no gradient: rounding, thresholds, integers, detached tensors."""

from __future__ import annotations

from studies.adversarial.remedies._case import MASKED, REMEDIES, Case, Plan


@REMEDIES.register("operations", order=2)
def operations(case: Case, plan: Plan) -> None:
    """Let gradients pass rounding, thresholds, integers and detached tensors inside the code of a network."""
    asked = case.asked(*MASKED)
    if not asked or (case.round == 1 and case.reaches_pixels(plan.path)):
        return
    found = case.operations()
    if found:
        plan.path.operations = True
        plan.say(asked, f"gradients pass {', '.join(found)} inside the network's own code")
