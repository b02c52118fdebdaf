"""Comparison of two networks on the same images."""

from __future__ import annotations

import numpy as np

from probe.attacks.norms import shown
from probe.core.blocks import Axis, Cell, Column, Figure, Series, Table
from probe.core.document import Result, Section, percent
from probe.core.errors import NotApplicableError
from probe.core.stats import holm, mcnemar_exact, newcombe_paired, wilson
from studies.adversarial.registries import VIEWS
from studies.adversarial.results import Results
from studies.adversarial.workspace import AdversarialWorkspace


@VIEWS.register("against", order=3)
def against(space: AdversarialWorkspace) -> Section:
    """Draw two networks' curves in one figure, with a paired test at each epsilon."""
    if space.against is None:
        raise NotApplicableError("No second network was given: use --against MODEL.")
    other, theirs = space.against
    ours = space.results
    common = np.intersect1d(ours.clean.index, theirs.clean.index)
    mine = np.searchsorted(ours.clean.index, common)
    their = np.searchsorted(theirs.clean.index, common)
    epsilons = ours.epsilons
    pairs = [(ours.robust(ours.worst, e)[mine], theirs.robust(theirs.worst, e)[their]) for e in epsilons]
    names, measure = _names(space.model.name, other.name), space.phrases.measure
    figure = Figure(
        "Two curves",
        "line",
        Axis(f"epsilon ({space.norm.name}, {space.norm.unit or 'pixel units'})"),
        Axis(measure),
        "The worst case over the same attacks on the same images; bands are 95% Wilson intervals. Where the "
        "bands overlap, look at the table: it has the paired test and the interval of the difference.",
        tuple(_series(name, epsilons, [pair[i] for pair in pairs]) for i, name in enumerate(names)),
    )
    tests = [mcnemar_exact(int((a & ~b).sum()), int((b & ~a).sum())) for a, b in pairs]
    rows = [
        _row(space, e, a, b, p, q, len(tests))
        for e, (a, b), p, q in zip(epsilons, pairs, tests, holm(tests), strict=True)
    ]
    table = Table(
        "Difference at each epsilon",
        (
            Column("epsilon", help="The requested radius."),
            Column(names[0], proportion=True, help=f"{measure.capitalize()}."),
            Column(names[1], proportion=True, help=f"{measure.capitalize()}."),
            Column("Difference", unit="points", help="First minus second, in percentage points."),
            *Column.interval(
                f"the {_level(len(epsilons))} interval of the difference (Newcombe 1998, paired)"
            ),
            Column("Only first", help=space.phrases.only.format(which="first")),
            Column("Only second", help=space.phrases.only.format(which="second")),
            Column("n", help="The number of images."),
            Column("p", help="Exact McNemar test on the pairs."),
            Column("p, Holm", help="Corrected for testing at several epsilons (Holm 1979)."),
        ),
        tuple(rows),
        f"The intervals are at the level {_level(len(epsilons))}: 95% for all {len(epsilons)} together (Bonferroni). The p "
        "values have Holm's correction, which is at most as strict.",
    )
    return _section(space, names, ours, pairs, tests, holm(tests), (figure, table))


def _names(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


def _series(name: str, epsilons: tuple[float, ...], masks: list[np.ndarray]) -> Series:
    bounds = [wilson(int(mask.sum()), len(mask)) for mask in masks]
    return Series(
        name,
        epsilons,
        tuple(float(mask.mean()) for mask in masks),
        tuple(low for low, _ in bounds),
        tuple(high for _, high in bounds),
    )


def _row(
    space: AdversarialWorkspace,
    epsilon: float,
    a: np.ndarray,
    b: np.ndarray,
    p: float,
    q: float,
    n_tests: int,
) -> tuple[Cell, ...]:
    return (
        shown(epsilon, space.norm),
        float(a.mean()),
        float(b.mean()),
        100 * float(a.mean() - b.mean()),
        *(100 * bound for bound in _interval(a, b, n_tests)),
        int((a & ~b).sum()),
        int((b & ~a).sum()),
        len(a),
        p,
        q,
    )


def _level(n_tests: int) -> str:
    """Return the level of each of several intervals that hold together with 95%."""
    return f"{100 - 5 / n_tests:.4g}%"


def _interval(a: np.ndarray, b: np.ndarray, n_tests: int) -> tuple[float, float]:
    """Return the interval of the proportion of ``a`` minus that of ``b``, at the level of ``_level``."""
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return newcombe_paired(both, only_b, only_a, neither, 1 - 0.05 / n_tests)


def _section(
    space: AdversarialWorkspace,
    names: tuple[str, str],
    ours: Results,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    tests: list[float],
    corrected: list[float],
    blocks: tuple[Figure, Table],
) -> Section:
    reported = min(range(len(ours.epsilons)), key=lambda i: abs(ours.epsilons[i] - space.epsilon))
    a, b = pairs[reported]
    first = percent(float(a.mean()), wilson(int(a.sum()), len(a)))
    second = percent(float(b.mean()), wilson(int(b.sum()), len(b)))
    low, high = (100 * bound for bound in _interval(a, b, len(tests)))
    finding = (
        f"At {space.words(space.epsilon)} {names[0]} {space.phrases.keeps.format(value=first, n=len(a))} and "
        f"{names[1]} {second}: a difference of {100 * float(a.mean() - b.mean()):+.1f} points "
        f"[{low:+.1f}, {high:+.1f}] ({_level(len(tests))} interval, 95% for all epsilons together; exact McNemar test p "
        f"= {tests[reported]:.2g}, {corrected[reported]:.2g} after Holm's correction over {len(tests)} epsilons)."
    )
    results = tuple(
        Result.points(
            f"difference@{e:.6g}",
            float(x.mean() - y.mean()),
            len(x),
            _interval(x, y, 1),
            higher_is_better=True,
        )
        for e, (x, y) in zip(ours.epsilons, pairs, strict=True)
    )
    theirs = Result.proportion(
        f"{space.phrases.name}:{names[1]}", int(b.sum()), len(b), higher_is_better=True
    )
    return Section(
        "against", "Against another network", blocks=blocks, results=(theirs, *results), findings=(finding,)
    )
