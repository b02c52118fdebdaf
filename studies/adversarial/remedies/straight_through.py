"""Modules inside the network that have no gradient, such as a step in place of a ReLU."""

from __future__ import annotations

from studies.adversarial.remedies._case import MASKED, REMEDIES, Case, Plan


@REMEDIES.register("straight-through", order=4)
def straight_through(case: Case, plan: Plan) -> None:
    """Let gradients pass modules whose own gradient is zero or missing, by their slope over a wider range."""
    if not case.asked(*MASKED) or plan.path.operations:
        return
    blocking = []
    for call in case.seen.calls:
        same = call.input.shape == call.output.shape
        if (
            same
            and call.leaf
            and not case.alive(call.output, call.input)
            and bool((call.output != call.output.flatten()[0]).any())
        ):
            blocking.append(call.name)
    if blocking:
        plan.path.straight = tuple(dict.fromkeys(blocking))
        listed = ", ".join(plan.path.straight[:3]) + (" …" if len(plan.path.straight) > 3 else "")
        plan.say(
            case.asked(*MASKED),
            f"gradients pass {listed} by their slope over a wider range",
        )
