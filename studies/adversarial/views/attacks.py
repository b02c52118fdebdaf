"""Success, size and cost of each attack at the reported epsilon."""

from __future__ import annotations

from typing import Any

import numpy as np

from probe.core.blocks import Cell, Column, Note, Table
from probe.core.document import Section, percent
from studies.adversarial.outcome import THEN, Outcome
from studies.adversarial.registries import VIEWS
from studies.adversarial.results import Phrases
from studies.adversarial.workspace import AdversarialWorkspace

_WORST = "worst case"

_COSTS = (
    Column("Passes", help="Forward passes per attacked image, over all epsilons, refinement included."),
    Column(
        "Gradients", help="Gradients computed per attacked image, over all epsilons, refinement included."
    ),
    Column("Time", unit="s", help="Wall time over all epsilons, refinement included."),
    Column(
        "Rescued",
        help="Adversarial images that the attack found on its way but did not return; they count as found here.",
    ),
    Column(
        "Projected",
        help="Images for which a proposal lay outside the ball or [0, 1] and was projected back before it was judged.",
    ),
)

_SIZES = (
    Column("Linf", help="Median largest change of a value; pixels run from 0 to 1."),
    Column("L2", help="Median Euclidean length."),
    Column("L1", help="Median sum of changes."),
    Column("L0", unit="pixels", help="Median number of pixels that changed."),
    Column(
        "SSIM",
        help="Median structural similarity with the original; 1 means identical (Wang et al. 2004).",
    ),
)

_CHAIN = (
    f" An attack with “{THEN.strip()}” goes on with what the adapted attacks above it left, and its rows, here and below, "
    "count what they broke."
)


@VIEWS.register("attacks", order=1)
def attacks(space: AdversarialWorkspace) -> Section:
    """Compare the attacks: their success, the size of their perturbations, and their cost."""
    rows = [_row(space, attack.text, attack.attack.traits.access) for attack in space.attacks]
    if len(space.attacks) > 1:
        rows.append(_row(space, _WORST, "all of them"))
    sizes = [_sizes(space, name, outcome) for name, outcome in space.results.attacks.items()]
    blocks: list[Any] = [
        Table(
            f"At {space.words(space.epsilon)}",
            _columns(space.phrases),
            tuple(rows),
            "An attack that breaks far fewer images than another is weak here; it does not show that the network "
            "is robust. The worst case counts an image as broken if any attack breaks it: only that row "
            "describes the network."
            + (_CHAIN if any(attack.text.startswith(THEN) for attack in space.attacks) else ""),
        ),
        Table(
            "Successful perturbations",
            _size_columns(space.phrases),
            tuple(sizes),
            "Medians over the images that the attack broke, each at the smallest epsilon of the curve that broke it, before "
            "the perturbation is refined. Most attacks stop at their first success, so that the confidence is that of a "
            "network that is only just misled, not of one misled as far as possible.",
        ),
    ]
    invalid = int(space.results.worst.invalid.sum())
    if invalid:
        blocks.append(
            Note(
                f"For {invalid} images an attack returned values that are not finite; the clean image was judged "
                "instead.",
                "warning",
            )
        )
    return Section("attacks", "Attacks", _summary(space), tuple(blocks))


def _columns(phrases: Phrases) -> tuple[Column, ...]:
    measure = phrases.measure
    return (
        Column(
            "Attack",
            help="The attack with its options; the worst case counts an image as broken if any attack breaks it.",
        ),
        Column(
            "Access", help="What the attack needs from the network: gradients, logits, decisions, or nothing."
        ),
        Column(measure.capitalize(), proportion=True, help=phrases.measure_help),
        *Column.interval(f"the 95% Wilson interval of the {measure}", proportion=True),
        Column("Success", proportion=True, help=phrases.success_help),
        *_COSTS,
    )


def _size_columns(phrases: Phrases) -> tuple[Column, ...]:
    return (
        Column(
            "Attack",
            help="The attack with its options; the worst case counts an image as broken if any attack breaks it.",
        ),
        Column("n", help="Images that the attack broke."),
        Column(
            "Confidence before",
            proportion=True,
            help="Median confidence of the network in its prediction without attack.",
        ),
        Column(
            "Confidence after", proportion=True, help=f"Median confidence of the network in {phrases.answer}."
        ),
        *_SIZES,
    )


def _summary(space: AdversarialWorkspace) -> str:
    results = space.results
    counts = {name: int(outcome.success(space.epsilon).sum()) for name, outcome in results.attacks.items()}
    leaders = [name for name, count in counts.items() if count == max(counts.values())]
    best, chain = leaders[0], [name for name in counts if name.startswith(THEN)]
    # What comes later in the chain has broken nothing more.
    leaders = [name for name in leaders if name not in chain or name == best]
    rate = results.success_rate(results.attacks[best], space.epsilon)
    if rate.value is None:
        return space.phrases.nothing_to_do
    done = space.phrases.strongest.format(value=percent(float(rate.value), rate.ci), n=rate.n)
    within = f"within {space.words(space.epsilon)}"
    if len(counts) == 1:
        return f"The only attack, {best}, {done}, {within}."
    if best in chain:
        return f"The chain of adapted attacks up to {best.removeprefix(THEN)}, {done}, {within}."
    if len(leaders) > 1:
        names = f"{', '.join(leaders[:-1])} and {leaders[-1]}"
        return f"The strongest single attacks on these images, {names}, tied: each {done}, {within}."
    return f"The strongest single attack on these images, {best}, {done}, {within}."


def _row(space: AdversarialWorkspace, name: str, access: str) -> tuple[Cell, ...]:
    results = space.results
    outcome = results.worst if name == _WORST else results.attacks[name]
    robust = results.robust_accuracy(outcome, space.epsilon)
    success = results.success_rate(outcome, space.epsilon)
    low, high = robust.ci or (None, None)
    costs: tuple[Cell, ...] = (None, None, None, None, None)
    if name != _WORST:
        n_attackable = max(1, int(results.correct.sum()))
        costs = (
            round(outcome.queries / n_attackable, 1),
            round(outcome.gradients / n_attackable, 1),
            round(outcome.seconds, 2),
            outcome.rescued,
            int(outcome.outside.sum()),
        )
    return (name, access, robust.value, low, high, success.value, *costs)


def _sizes(space: AdversarialWorkspace, name: str, outcome: Outcome) -> tuple[Cell, ...]:
    won = outcome.success(space.epsilon) & space.results.correct & np.isfinite(outcome.linf)
    if not won.any():
        return (name, 0, *[None] * 7)

    def median(values: Any) -> float:
        return float(np.median(np.asarray(values)[won]))

    return (
        name,
        int(won.sum()),
        median(space.results.clean.confidence),
        *(median(getattr(outcome, field)) for field in ("confidence", "linf", "l2", "l1")),
        int(median(outcome.l0)),
        median(outcome.ssim),
    )
