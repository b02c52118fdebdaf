"""``--adapt``: where checks fail, attack again as they ask for, and check again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from probe.attacks.model import AttackedModel
from probe.attacks.select import SelectedAttack, choose_attacks
from probe.core.blocks import Cell, Column, Note, Table
from probe.core.document import Check, Result, Section, percent
from probe.core.journal import NOTHING
from probe.core.place import HERE
from probe.core.stats import wilson
from studies.adversarial.evidence import SAMPLE
from studies.adversarial.outcome import THEN, Outcome, worst_of
from studies.adversarial.remedies._case import REMEDIES, AdaptedGradients, Case, GradientPath, Plan
from studies.adversarial.results import Results
from studies.adversarial.workspace import AdversarialWorkspace

ROUNDS = 3

_NOTHING_TO_RUN = (
    "train-mode",
    "assumed-preprocessing",
    "batch-dependence",
    "silent-success",
    "too-few-classes",
)
"""Checks that no other attack answers: what they found has to be changed by the user."""


@dataclass(frozen=True)
class Adapted:
    """What was changed in each round, and the checks and results before the first and after the last."""

    plans: tuple[Plan, ...]
    before: Results
    checks_before: tuple[Check, ...]
    after: Results
    checks_after: tuple[Check, ...]


def adapt(
    space: AdversarialWorkspace,
    checks: tuple[Check, ...],
    check_again: Callable[[AdversarialWorkspace], tuple[Check, ...]],
) -> tuple[AdversarialWorkspace, Adapted]:
    """Attack as the failed checks ask for, in at most three rounds, and return the workspace with all results.

    Success is always judged on the network itself: only gradients and attacks change, so that robust accuracy can only fall.
    A round that nothing is changed in, or after which all is broken or no check fails, is the last.
    """
    plans: list[Plan] = []
    first, now = space, checks
    for number in range(1, ROUNDS + 1):
        failed = frozenset(_name(check) for check in now if check.status in ("fail", "warn"))
        failed -= frozenset(_NOTHING_TO_RUN)
        if not failed or not space.sample or bool(space.results.worst.success(space.epsilon).all()):
            break
        places = space.sample[:SAMPLE]
        # What the gradients already pass stays open; whether they need averages is asked again.
        path = replace(plans[-1].path, noise=0.0) if plans else GradientPath()
        plan, module = Plan(path), space.model.module
        case = Case(
            module,
            space.pixels(places),
            space.labels(places),
            failed,
            space.norm.name,
            space.epsilon,
            space.config.seed,
            number,
        )
        for name in REMEDIES:
            REMEDIES.get(name)(case, plan)
        if any(_covers(earlier, plan) for earlier in plans):
            break
        plans.append(plan)
        made = [
            outcome for name, outcome in space.results.attacks.items() if name not in first.results.attacks
        ]
        space = _attacked(space, plan, number, made)
        now = check_again(space)
    return space, Adapted(tuple(plans), first.results, checks, space.results, now)


def _covers(earlier: Plan, plan: Plan) -> bool:
    """Tell whether an earlier round made all attacks of a plan, with the same gradients."""
    same = (earlier.path, earlier.eot) == (plan.path, plan.eot)
    return same and set(plan.attacks) <= set(earlier.attacks)


def _name(check: Check) -> str:
    return check.name.lower().replace(" ", "-")


def _attacked(
    space: AdversarialWorkspace, plan: Plan, number: int, earlier: Sequence[Outcome]
) -> AdversarialWorkspace:
    """Make the attacks of a plan, and return the workspace with the results of all so far.

    They are made at the reported epsilon, each on what the adapted ones before it left; what is left by all goes on to larger
    ones, so that the curve falls as far as it can.
    """
    attacked = _with_gradients(space, plan.path)
    targeted = space.config.target is not None
    size = space.model.input.size
    chosen = tuple(
        SelectedAttack(
            f"{THEN if earlier or place else ''}{selected.name}, adapted {number}",
            selected.name,
            selected.attack,
        )
        for place, selected in enumerate(
            choose_attacks(tuple(plan.attacks), space.norm, targeted=targeted, size=size)
        )
    )
    before = space.results
    run = replace(
        space.run,
        attacked=attacked,
        attacks=chosen,
        task=replace(space.run.task, epsilons=(space.epsilon,)),
        before=replace(before, worst=worst_of(earlier) if earlier else Outcome.blank(before.n)),
        journal=NOTHING,
        keep=False,
        place=HERE,
    )
    found = run.run()
    attacks = {**before.attacks, **found.attacks}
    worst = worst_of([before.worst, found.worst])
    worst.totals[:] = before.worst.totals + found.worst.totals
    results = replace(before, attacks=attacks, worst=worst)
    # The views and checks go on with the adapted gradients, without their noise, and with all attacks.
    still = replace(plan.path, noise=0.0)
    attacked = _with_gradients(space, still)
    return replace(
        space, run=replace(space.run, attacked=attacked, attacks=(*space.attacks, *chosen)), results=results
    )


def _with_gradients(space: AdversarialWorkspace, path: GradientPath) -> AttackedModel:
    module = space.model.module
    gradients = AdaptedGradients(module, path) if path.changed else None
    return AttackedModel(
        module, memory_format=space.attacked.memory_format, bf16=False, gradient_module=gradients
    )


def adapted_section(space: AdversarialWorkspace, adapted: Adapted) -> Section:
    """Return the section that says what was changed, and what it changed."""
    if not adapted.plans:
        return Section("adapted", "Adapted attacks", summary=_nothing(space, adapted))
    rows: list[tuple[Cell, ...]] = [
        (number, *sentence.partition(": ")[::2])
        for number, plan in enumerate(adapted.plans, 1)
        for sentence in plan.words
    ]
    changes = Table(
        "What was changed",
        (
            Column("round", help="The checks are made again after each round."),
            Column("checks", help="The checks that asked for it."),
            Column("change", help="To the gradients that attacks follow, or to the attacks."),
        ),
        tuple(rows),
    )
    epsilon, n = space.epsilon, adapted.before.n
    counts = [int(each.robust(each.worst, epsilon).sum()) for each in (adapted.before, adapted.after)]
    numbers = Table(
        "Before and after",
        (
            Column("attacks", help="Those of the run, or with the adapted ones; the worst case over all."),
            Column(space.phrases.robust, help=space.phrases.robust_help),
            Column("of", help="The number of images."),
            Column("share", proportion=True, help="With its 95% Wilson interval beside it."),
            *Column.interval(proportion=True),
        ),
        tuple(
            (word, count, n, count / n, *wilson(count, n))
            for word, count in zip(("as chosen", "adapted"), counts, strict=True)
        ),
    )
    return Section(
        "adapted",
        "Adapted attacks",
        "Only what gradients and attacks see was changed; every image was judged on the network itself.",
        (numbers, changes, _checks(adapted), *_left(adapted)),
        results=(
            Result.proportion(f"{space.phrases.name}_before_adapting", counts[0], n, higher_is_better=True),
        ),
        findings=(
            f"Attacks adapted to the checks that failed leave {percent(counts[1] / n, wilson(counts[1], n))} of {n} images "
            f"{space.phrases.remain}; before, it was {percent(counts[0] / n, wilson(counts[0], n))}.",
        ),
    )


def _nothing(space: AdversarialWorkspace, adapted: Adapted) -> str:
    if not adapted.checks_before:
        return "No check was made, so that none could ask for another attack."
    if bool(space.results.worst.success(space.epsilon).all()):
        return "Every image is broken already: no other attack could break more."
    found = [check.name for check in adapted.checks_before if check.status in ("fail", "warn")]
    if found:
        return f"No other attack answers what was found ({', '.join(found)}): that has to be changed by hand."
    return "No check failed, so nothing had to be adapted."


def _checks(adapted: Adapted) -> Table:
    before = {check.name: check for check in adapted.checks_before}
    rows: list[tuple[Cell, ...]] = [
        (check.name, before[check.name].status, check.status)
        for check in adapted.checks_after
        if check.name in before and {before[check.name].status, check.status} & {"fail", "warn"}
    ]
    return Table(
        "Checks before and after",
        (
            Column(
                "check", help="Those that failed or warned before or after; all are in the section of checks."
            ),
            Column("before", help="With the attacks as chosen."),
            Column("after", help="With the adapted attacks and gradients."),
        ),
        tuple(rows),
    )


def _left(adapted: Adapted) -> Sequence[Note]:
    left = [check.name for check in adapted.checks_after if check.status in ("fail", "warn")]
    stuck = [name for name in left if name.lower().replace(" ", "-") in _NOTHING_TO_RUN]
    return (
        (Note(f"No attack answers these: {', '.join(stuck)}. What they found has to be changed.", "warning"),)
        if stuck
        else ()
    )
