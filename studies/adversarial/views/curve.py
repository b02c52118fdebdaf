"""Robust accuracy against epsilon, and the smallest perturbation of each image."""

from __future__ import annotations

import math

import numpy as np

from probe.attacks.norms import shown
from probe.core.blocks import Axis, Cell, Column, Figure, Series, Table
from probe.core.document import Section
from studies.adversarial.outcome import Outcome
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace, accuracy_of_sizes, refines, refines_attack

_POINTS = 80


@VIEWS.register("curve", order=2)
def curve(space: AdversarialWorkspace) -> Section:
    """Draw robust accuracy against epsilon until it collapses, and the smallest perturbation of each image."""
    epsilons, measure = space.results.epsilons, space.phrases.measure
    plotted = _until_collapse(space)
    figure = Figure(
        f"{measure.capitalize()} against epsilon",
        "line",
        Axis(f"epsilon ({space.norm.name}, {space.norm.unit or 'pixel units, 1 is black to white'})"),
        Axis(measure),
        "Each point is a full attack at that epsilon. The band is the 95% Wilson interval of the worst case. A "
        "curve that does not reach 0 shows the limits of the attack, not that the network is safe. Single attacks "
        "cannot lie below the worst case. The curve is drawn slightly beyond the point where it reaches 0.",
        _series(space, plotted),
    )
    blocks = (figure, _table(space, epsilons), *_distribution(space))
    return Section("curve", "Robustness curve", _summary(space), blocks)


def _until_collapse(space: AdversarialWorkspace) -> tuple[float, ...]:
    """Return the epsilons up to the second one at which no image is robust."""
    results, epsilons, collapsed = space.results, [], 0
    for epsilon in results.epsilons:
        epsilons.append(epsilon)
        collapsed += not results.robust(results.worst, epsilon).any()
        if collapsed == 2:
            break
    return tuple(epsilons)


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
    # A single attack only runs up to the reported epsilon; beyond it, all attacks work on what none has broken.
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
        n_robust = int(results.robust(results.worst, epsilon).sum())
        rows.append((shown(epsilon, space.norm), epsilon, n_robust, results.n, accuracy.value, low, high))
    return Table(
        "The curve in numbers",
        (
            Column("epsilon", help="The requested radius."),
            Column("in pixel units", digits=4, help="1 is the distance from black to white."),
            Column(space.phrases.robust, help=space.phrases.robust_help),
            Column("of", help="The number of images."),
            Column(
                space.phrases.measure.capitalize(),
                proportion=True,
                help="With its 95% Wilson interval beside it.",
            ),
            *Column.interval(proportion=True),
        ),
        tuple(rows),
        "An image broken at one epsilon is broken at every larger one: a larger ball contains the smaller one. "
        "Every epsilon is attacked in full, with all steps, on images that no success found so far covers.",
    )


def _distribution(space: AdversarialWorkspace) -> tuple[Figure | Table, ...]:
    sizes = np.sort(space.results.worst.smallest[space.results.correct])
    finite = sizes[np.isfinite(sizes)].astype(float)
    if len(finite) == 0:
        return ()
    places = np.unique(np.linspace(0, len(finite) - 1, min(_POINTS, len(finite))).round().astype(int))
    figure = Figure(
        "The smallest perturbation found for each image",
        "line",
        Axis(f"size of the smallest perturbation found ({space.norm.name})"),
        Axis(f"part of the images {space.phrases.broken} at that size"),
        f"Each successful perturbation is scaled back until it only just succeeds{_how_refined(space)}. These are "
        "upper bounds: a better attack may find smaller ones. A steep rise means that the images need perturbations of similar "
        "size; a long tail means that a few images resist.",
        (Series("images", tuple(finite[places]), tuple((places + 1) / len(sizes))),),
    )
    names = [*space.results.attacks, *(["worst case"] if len(space.results.attacks) > 1 else [])]
    outcomes = [*space.results.attacks.values(), space.results.worst]
    rows = tuple(_quartile_row(space, name, outcome) for name, outcome in zip(names, outcomes, strict=False))
    table = Table(
        "Quartiles of the smallest perturbation found",
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
        f"In {space.norm.unit or 'pixel units'}: upper bounds{accuracy_of_sizes(space)}. A dash means that no "
        f"perturbation was found for that many images.{_unrefined(space)}",
    )
    return figure, table


def _how_refined(space: AdversarialWorkspace) -> str:
    return ", and refined by bisection" if refines(space) else ""


def _unrefined(space: AdversarialWorkspace) -> str:
    """Return the sentence on the attacks whose sizes hang on the epsilons."""
    names = [a.text for a in space.attacks if a.fixed and not refines_attack(space, a)]
    if not names:
        return ""
    return f" Those of {', '.join(names)} are only scaled back, and depend on which epsilons were tried."


def _quartile_row(space: AdversarialWorkspace, name: str, outcome: Outcome) -> tuple[Cell, ...]:
    sizes = outcome.smallest[space.results.correct]
    quarters = [q if math.isfinite(q) else None for q in space.results.quartiles(outcome)]
    return (name, len(sizes), int(np.isfinite(sizes).sum()), *quarters)


def _summary(space: AdversarialWorkspace) -> str:
    results = space.results
    last = results.epsilons[-1]
    n_robust = int(results.robust(results.worst, last).sum())
    if n_robust == 0:
        end = next(e for e in results.epsilons if not results.robust(results.worst, e).any())
        return f"None of the {results.n} images {space.phrases.remain} at {space.words(end)} or above."
    return f"{n_robust} of {results.n} images {space.phrases.remain} at {space.words(last)}, the largest epsilon tried."
