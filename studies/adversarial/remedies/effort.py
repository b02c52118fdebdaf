"""More steps, restarts, another loss, and a search without gradients."""

from __future__ import annotations

from studies.adversarial.remedies._case import REMEDIES, Case, Plan

_SEARCH = (
    "gradient-free",
    "black-box-beats-white-box",
    "zero-gradients",
    "unavailable-gradients",
    "random-noise",
)
_STEPS, _RESTARTS, _QUERIES = 100, 2, 1000


@REMEDIES.register("effort", order=9)
def effort(case: Case, plan: Plan) -> None:
    """Attack the margin and the DLR loss with more steps and restarts, and search without gradients where they are masked."""
    if not case.failed:
        return
    passes = f"&eot={plan.eot}" if plan.eot > 1 else ""
    # Where answers are random, the first success may be luck: the loss is raised to the end.
    to_the_end = "&stop=False" if case.asked("randomised-forward") else ""
    plan.attacks.append(f"pgd?loss=margin&steps={_STEPS}&restarts={_RESTARTS}{passes}{to_the_end}")
    if case.norm != "L0":
        plan.attacks.append(f"apgd-dlr?steps={_STEPS}{passes}")
    plan.say(sorted(case.failed), f"the margin and the DLR loss are attacked with {_STEPS} steps")
    if case.asked(*_SEARCH):
        search = "square" if case.norm in ("Linf", "L2") else "sparse-rs"
        plan.attacks.append(f"{search}?queries={_QUERIES}")
        plan.say(case.asked(*_SEARCH), f"{search} searches without gradients, with {_QUERIES} queries")
