"""Gradients of networks that answer at random."""

from __future__ import annotations

from studies.adversarial.remedies._case import REMEDIES, Case, Plan

PASSES = 20
"""As in AutoAttack's ``rand`` (Croce and Hein 2020)."""


@REMEDIES.register("averaging", order=5)
def averaging(case: Case, plan: Plan) -> None:
    """Average gradients over passes of a randomised network (expectation over transformation, Athalye et al. 2018)."""
    if case.asked("randomised-forward"):
        plan.eot = PASSES
        plan.say(["randomised-forward"], f"every gradient is the mean of {PASSES} passes")
