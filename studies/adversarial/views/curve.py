"""Robust accuracy against epsilon, and how small a perturbation each image needs."""

from __future__ import annotations

import math

import numpy as np

from probe.attacks.norms import shown
from probe.core.document import Axis, Cell, Column, Figure, Section, Series, Table
from studies.adversarial.outcome import Outcome
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace

_POINTS = 80


@VIEWS.register("curve", order=2)
def curve(space: AdversarialWorkspace) -> Section:
    """Draw robust accuracy against epsilon until it collapses, and the smallest perturbation of each image."""
    epsilons, measure = space.results.epsilons, space.phrases.measure
    drawn = _until_collapse(space)
    figure = Figure(
        f"{measure.capitalize()} against epsilon",
        "line",
        Axis(f"epsilon ({space.norm.name}, {space.norm.unit or 'pixel units, 1 is black to white'})"),
        Axis(measure),
        "A network that is not defended falls within a few 255ths; a robust one falls slowly. The "
        "band is the 95% Wilson "
        "interval of the worst case. A curve that does not reach the floor means that the attack is at its limits, "
        "not that the network is safe. Single attacks lie above the worst case. The curve is drawn a little further "
        "than where it reaches 0.",
        _series(space, drawn),
    )
    blocks = (figure, _table(space, epsilons), *_distribution(space))
    return Section("curve", "Robustness curve", _summary(space), blocks)


def _until_collapse(space: AdversarialWorkspace) -> tuple[float, ...]:
    """Return the epsilons up to the second one at which nothing is left."""
    results, kept, over = space.results, [], 0
    for epsilon in results.epsilons:
        kept.append(epsilon)
        over += not results.robust(results.worst, epsilon).any()
        if over == 2:
            break
    return tuple(kept)


def _series(space: AdversarialWorkspace, epsilons: tuple[float, ...]) -> tuple[Series, ...]:
    results = space.results
    worst = [results.robust_accuracy(results.worst, e) for e in epsilons]
    label = "worst case" if len(results.attacks) > 1 else next(iter(results.attacks))
    first = Series(
        label,
        epsilons,
        tuple(float(r.value or 0) for r in worst),
        tuple((r.ci or (0.0, 1.0))[0] for r in worst),
        tuple((r.ci or (0.0, 1.0))[1] for r in worst),
    )
    if len(results.attacks) == 1:
        return (first,)
    # A single attack is only run up to the epsilon asked for; beyond it, what nothing has broken is left to all.
    own = tuple(e for e in epsilons if e <= space.epsilon * (1 + 1e-9))
    others = tuple(
        Series(name, own, tuple(float(results.robust(outcome, e).mean()) for e in own))
        for name, outcome in results.attacks.items()
    )
    return (first, *others)


def _table(space: AdversarialWorkspace, epsilons: tuple[float, ...]) -> Table:
    results = space.results
    rows: list[tuple[Cell, ...]] = []
    for epsilon in epsilons:
        accuracy = results.robust_accuracy(results.worst, epsilon)
        low, high = accuracy.ci or (None, None)
        standing = int(results.robust(results.worst, epsilon).sum())
        rows.append((shown(epsilon, space.norm), epsilon, standing, results.n, accuracy.value, low, high))
    return Table(
        "The curve in numbers",
        (
            Column("epsilon", help="The radius as it was asked for."),
            Column("in pixel units", digits=4, help="1 is the distance from black to white."),
            Column(space.phrases.robust, help=space.phrases.robust_help),
            Column("of", help="The number of images."),
            Column(
                space.phrases.measure.capitalize(),
                proportion=True,
                help="With its 95% Wilson interval beside it.",
            ),
            Column("low", proportion=True, help="Lower end of the 95% Wilson interval."),
            Column("high", proportion=True, help="Upper end of the 95% Wilson interval."),
        ),
        tuple(rows),
        "An image broken at one epsilon is broken at every larger one: a larger ball holds the "
        "smaller one. Each larger "
        "epsilon is therefore tried only on what still stands.",
    )


def _distribution(space: AdversarialWorkspace) -> tuple[Figure | Table, ...]:
    sizes = np.sort(space.results.worst.smallest[space.results.right])
    found = sizes[np.isfinite(sizes)].astype(float)
    if len(found) == 0:
        return ()
    places = np.unique(np.linspace(0, len(found) - 1, min(_POINTS, len(found))).round().astype(int))
    figure = Figure(
        "The smallest perturbation of each image",
        "line",
        Axis(f"size of the smallest perturbation found ({space.norm.name})"),
        Axis(f"part of the images {space.phrases.broken} by it"),
        "Each success is drawn back along its own perturbation until it is just one. These are upper bounds: a better "
        "attack may find less. A steep rise means that the images are alike in this; a long tail that a few resist.",
        (Series("images", tuple(found[places]), tuple((places + 1) / len(sizes))),),
    )
    names = [*space.results.attacks, *(["worst case"] if len(space.results.attacks) > 1 else [])]
    outcomes = [*space.results.attacks.values(), space.results.worst]
    rows = tuple(_quartile_row(space, name, one) for name, one in zip(names, outcomes, strict=False))
    table = Table(
        "Quartiles of the smallest perturbation",
        (
            Column(
                "Attack",
                help="The attack with its options; the worst case counts an image as broken if any attack breaks it.",
            ),
            Column("n", help=space.phrases.begin_help),
            Column("Found for", help="Images for which a perturbation was found at all."),
            Column("Lower quartile", digits=3, help="A quarter of the images needs no more than this."),
            Column("Median", digits=3, help="Half of the images need no more than this."),
            Column("Upper quartile", digits=3, help="Three quarters of the images need no more than this."),
        ),
        rows,
        f"In {space.norm.unit or 'pixel units'}; a dash where no perturbation was found for so many images.",
    )
    return figure, table


def _quartile_row(space: AdversarialWorkspace, name: str, outcome: Outcome) -> tuple[Cell, ...]:
    sizes = outcome.smallest[space.results.right]
    quarters = [q if math.isfinite(q) else None for q in space.results.quartiles(outcome)]
    return (name, len(sizes), int(np.isfinite(sizes).sum()), *quarters)


def _summary(space: AdversarialWorkspace) -> str:
    results = space.results
    last = results.epsilons[-1]
    standing = int(results.robust(results.worst, last).sum())
    if standing == 0:
        end = next(e for e in results.epsilons if not results.robust(results.worst, e).any())
        return f"Nothing is left standing from {space.words(end)} on, of {results.n} images."
    return f"{standing} of {results.n} images still stand at {space.words(last)}, the largest epsilon tried."
