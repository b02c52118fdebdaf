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
_TARGETED_STEPS, _TARGETED_CLASSES = 50, 4
"""Steps towards each of nine likely classes, and how many classes the targeted DLR loss needs."""


@REMEDIES.register("effort", order=9)
def effort(case: Case, plan: Plan) -> None:
    """Attack the margin and the DLR loss with more steps, also towards likely classes, and search without gradients."""
    if not case.failed:
        return
    passes = f"&eot={plan.eot}" if plan.eot > 1 else ""
    # Where answers are random, the first success may be luck: the loss is raised to the end.
    to_the_end = "&stop=False" if case.asked("randomised-forward") else ""
    plan.attacks.append(f"pgd?loss=margin&steps={_STEPS}&restarts={_RESTARTS}{passes}{to_the_end}")
    if case.norm != "L0":
        plan.attacks.append(f"apgd-dlr?steps={_STEPS}{passes}")
    plan.say(sorted(case.failed), f"the margin and the DLR loss are attacked with {_STEPS} steps")
    if case.norm != "L0" and case.seen.final.shape[-1] >= _TARGETED_CLASSES:
        plan.attacks.append(f"apgd-t?steps={_TARGETED_STEPS}{passes}")
        plan.say(
            sorted(case.failed),
            f"the DLR loss towards each of up to nine likely classes is attacked with {_TARGETED_STEPS} steps",
        )
    if case.asked(*_SEARCH):
        search = "square" if case.norm in ("Linf", "L2") else "sparse-rs"
        plan.attacks.append(f"{search}?queries={_QUERIES}")
        plan.say(case.asked(*_SEARCH), f"{search} searches without gradients, with {_QUERIES} queries")
