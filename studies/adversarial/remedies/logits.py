"""Logits in place of probabilities."""

from __future__ import annotations

from torch import Tensor

from studies.adversarial.remedies._case import MASKED, REMEDIES, Case, Plan

_CHECKS = ("softmax-output", *MASKED[:4])


@REMEDIES.register("logits", order=1)
def logits(case: Case, plan: Plan) -> None:
    """Attack what the network computes before its softmax or another squashing of its outputs."""
    if not case.asked(*_CHECKS):
        return
    calls, final = case.seen
    if not _probabilities(final):
        return
    for call in reversed(calls):
        output = call.output
        if output.shape != final.shape or _probabilities(output):
            continue
        if bool((output.argmax(1) == final.argmax(1)).all()) and case.alive(output, call.input):
            plan.path.logits = call.name
            plan.say(
                case.asked(*_CHECKS),
                f"the output of {call.name} is attacked in place of the probabilities made of it",
            )
            return
    if case.squashed():
        plan.path.squashed = True
        plan.say(
            case.asked(*_CHECKS), "what goes into the last softmax is attacked in place of the probabilities"
        )


def _probabilities(output: Tensor) -> bool:
    return bool((output >= 0).all() and (output <= 1).all())
