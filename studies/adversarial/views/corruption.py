"""Common corruptions compared with the attack."""

from __future__ import annotations

import torch

from probe.core.document import Axis, Cell, Column, Figure, Result, Section, Series, Table, percent
from probe.core.errors import NotApplicableError
from probe.core.seeds import generator
from probe.core.stats import wilson
from probe.data.corruptions import CORRUPTIONS
from probe.data.corruptions._base import Corruption
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace

_MOST = 256
"""Images corrupted, at most; a seeded sample when there are more."""


@VIEWS.register("corruption", order=7)
def corruption(space: AdversarialWorkspace) -> Section:
    """Compare the attack with noise, blur, JPEG, brightness, contrast and shift at five severities."""
    order = torch.randperm(space.results.n, generator=generator(space.config.seed, "corruption")).tolist()
    places = list(space.readable(sorted(order[:_MOST])))
    if not places:
        raise NotApplicableError("None of the images can be read any more.")
    n = len(places)
    counts: dict[str, list[int]] = {}
    clean = int(space.results.clean_correct[places].sum())
    kinds = tuple(CORRUPTIONS.get(name)() for name in CORRUPTIONS)
    with space.progress.task("Corrupting", len(kinds) * 5 * n) as advance:
        for kind in kinds:
            counts[kind.name] = [0] * 5
            for start in range(0, n, space.config.batch_size):
                part = places[start : start + space.config.batch_size]
                images, labels = space.pixels(part), space.labels(part)
                for severity in range(1, 6):
                    draws = generator(space.config.seed, "corruption", kind.name, severity, start)
                    answers = space.attacked.verdict(kind.apply(images, severity, draws)).argmax(1)
                    counts[kind.name][severity - 1] += int((answers == labels).sum())
                    advance(len(part))
    attacked = int(space.results.robust(space.results.worst, space.epsilon)[places].sum())
    return _section(space, kinds, counts, clean, attacked, n)


def _section(
    space: AdversarialWorkspace,
    kinds: tuple[Corruption, ...],
    counts: dict[str, list[int]],
    clean: int,
    attacked: int,
    n: int,
) -> Section:
    rows: list[tuple[Cell, ...]] = []
    results = []
    for kind in kinds:
        for severity, correct in enumerate(counts[kind.name], 1):
            low, high = wilson(correct, n)
            rows.append((kind.name, severity, kind.amounts[severity - 1], correct, n, correct / n, low, high))
            name = f"{_accuracy(space)}:{kind.name.lower().replace(' ', '_')}@{severity}"
            results.append(Result.proportion(name, correct, n, higher_is_better=True))
    if space.config.target is None:
        low, high = wilson(attacked, n)
        rows.append(
            (f"attack, {space.words(space.epsilon)}", None, None, attacked, n, attacked / n, low, high)
        )
    correct = min(min(values) for values in counts.values())
    harmful = [
        f"{name}, severity {severity} of 5"
        for name, values in counts.items()
        for severity, value in enumerate(values, 1)
        if value == correct
    ]
    tied = ", tied" if len(harmful) > 1 else ""
    word = "correct" if space.images.labelled else "with an unchanged prediction"
    finding = (
        f"The most harmful common corruption in this sample ({'; '.join(harmful)}{tied}) leaves "
        f"{percent(correct / n, wilson(correct, n))} of {n} images {word}; {_beside(space, attacked, n)}."
    )
    return Section(
        "corruption",
        "Common corruptions",
        blocks=(*_figures(space, kinds, counts, clean, attacked, n), _table(space, tuple(rows))),
        results=tuple(results),
        findings=(finding,),
    )


def _beside(space: AdversarialWorkspace, attacked: int, n: int) -> str:
    if space.config.target is None:
        return f"the attack leaves {percent(attacked / n, wilson(attacked, n))}"
    moved = n - attacked
    return f"under attack {percent(moved / n, wilson(moved, n))} are in the target class"


def _accuracy(space: AdversarialWorkspace) -> str:
    return "accuracy" if space.images.labelled else "agreement"


def _figures(
    space: AdversarialWorkspace,
    kinds: tuple[Corruption, ...],
    counts: dict[str, list[int]],
    clean: int,
    attacked: int,
    n: int,
) -> tuple[Figure, ...]:
    """Return two charts of three corruptions each: six bands in one chart would be unreadable."""

    def series(label: str, values: list[int]) -> Series:
        bounds = [wilson(value, n) for value in values]
        return Series(
            label,
            tuple(float(severity) for severity in range(len(values))),
            tuple(value / n for value in values),
            tuple(low for low, _ in bounds),
            tuple(high for _, high in bounds),
        )

    names, measure = list(counts), _accuracy(space)
    # An image that an attack has not moved to its target may be wrong: that is no floor for accuracy.
    targeted = space.config.target is not None
    floor = () if targeted else (series(f"attack, {space.words(space.epsilon)}", [attacked] * 6),)
    charts = []
    for group in (names[:3], names[3:]):
        lines = [series(name, [clean, *counts[name]]) for name in group]
        charts.append(
            Figure(
                f"{measure.capitalize()} under {', '.join(group)}",
                "line",
                Axis("severity (0: none)"),
                Axis(measure),
                "Kinds and strengths after Hendrycks and Dietterich 2019, with 95% Wilson intervals. A network "
                "can be robust to every corruption and yet fail on an imperceptible perturbation: these are "
                "different questions.",
                (*lines, *floor),
            )
        )
    return tuple(charts)


def _table(space: AdversarialWorkspace, rows: tuple[tuple[Cell, ...], ...]) -> Table:
    measure = _accuracy(space).capitalize()
    return Table(
        f"{measure} under common corruptions, in numbers",
        (
            Column("Corruption", help="The kind of corruption."),
            Column("Severity", help="From 1, barely visible, to 5."),
            Column(
                "Amount", help="Noise: standard deviation; blur and shift: part of the side; JPEG: quality."
            ),
            Column(
                "Correct" if space.images.labelled else "Same prediction",
                help="Images whose prediction equals the reference.",
            ),
            Column("of", help="The number of images."),
            Column(measure, proportion=True, help="With its 95% Wilson interval beside it."),
            *Column.interval(proportion=True),
        ),
        rows,
    )
