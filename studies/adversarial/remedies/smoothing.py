"""Gradients that point nowhere because the loss is rough."""

from __future__ import annotations

from studies.adversarial.remedies._case import REMEDIES, Case, Plan

_CHECKS = (
    "unstable-predictions",
    "single-step",
    "gradient-free",
    "black-box-beats-white-box",
    "rising-epsilon",
    "unconstrained-failure",
)
PASSES = 20
_PART = 0.5


@REMEDIES.register("smoothing", order=6)
def smoothing(case: Case, plan: Plan) -> None:
    """Average gradients over noise of half of epsilon, which shows the slope of a loss that is rough at small scale."""
    if case.norm != "Linf" or not case.asked(*_CHECKS):
        return
    if case.round == 1 and plan.path.changed:
        return  # the gradients have another path now: whether they are rough is seen with it
    plan.path.noise, plan.eot = _PART * case.epsilon, max(plan.eot, PASSES)
    plan.say(
        case.asked(*_CHECKS),
        f"every gradient is the mean of {plan.eot} passes with noise of half of epsilon",
    )
