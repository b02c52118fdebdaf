"""Common corruptions compared with the attack."""

from __future__ import annotations

from itertools import groupby

from probe.core.blocks import Axis, Cell, Column, Figure, Note, Table
from probe.core.document import Result, Section, percent
from probe.core.stats import wilson
from probe.data.corrupted_copies import CorruptedCopies, kinds_or_folder
from probe.data.corruptions import FEW
from studies.adversarial.corrupted import Corrupted, Interval, alexnet_error, family_of, measure, title_of
from studies.adversarial.registries import VIEWS
from studies.adversarial.views._shares import accuracy_word, shares
from studies.adversarial.workspace import AdversarialWorkspace

_LINES = 4
"""Corruptions in one chart, at most: more bands would be unreadable."""


@VIEWS.register("corruption", order=7)
def corruption(space: AdversarialWorkspace) -> Section:
    """Compare the attack with common corruptions (noise, blur, weather, digital) at five severities."""
    found = measure(space)
    n = len(found)
    attacked = int(space.results.robust(space.results.worst, space.epsilon)[list(found.places)].sum())
    return Section(
        "corruption",
        "Common corruptions",
        blocks=(
            *_figures(space, found, attacked),
            _errors(space, found),
            _table(space, found, attacked),
            Note(_how(space, found)),
        ),
        results=tuple(_results(space, found)),
        findings=(_most_harmful(space, found, attacked, n), *_mean_finding(space, found)),
    )


def _results(space: AdversarialWorkspace, found: Corrupted) -> list[Result]:
    """Return the accuracy of every kind and severity, and the errors averaged over severities."""
    n = len(found)
    results = [
        Result.proportion(f"{accuracy_word(space)}:{kind}@{severity}", correct, n, higher_is_better=True)
        for kind in found.kinds
        for severity, correct in enumerate(found.counts(kind), 1)
    ]

    def add(name: str, measured: tuple[float, Interval] | None, unit: str) -> None:
        if measured is not None:
            results.append(Result(name, measured[0], n, measured[1], unit, False))

    for kind in found.kinds:
        add(f"corruption_error:{kind}", found.error(kind), "proportion")
        add(f"ce:{kind}", found.corruption_error(kind), "× AlexNet")
    results += [
        Result.proportion(f"{accuracy_word(space)}:worst_kind@{severity}", count, n, higher_is_better=True)
        for severity, count in enumerate(found.worst, 1)
    ]
    add("mean_corruption_error", found.mean_error(), "proportion")
    add("mce", found.mce(), "× AlexNet")
    add("relative_mce", found.relative_mce(), "× AlexNet")
    return results


def _most_harmful(space: AdversarialWorkspace, found: Corrupted, attacked: int, n: int) -> str:
    counts = {kind: found.counts(kind) for kind in found.kinds}
    correct = min(min(values) for values in counts.values())
    harmful = [
        f"{title_of(kind)}, severity {severity} of 5"
        for kind, values in counts.items()
        for severity, value in enumerate(values, 1)
        if value == correct
    ]
    tied = ", tied" if len(harmful) > 1 else ""
    more = f"; and {len(harmful) - 3} more" if len(harmful) > 3 else ""
    word = "correct" if space.images.labelled else "with an unchanged prediction"
    return (
        f"The most harmful common corruption in this sample ({'; '.join(harmful[:3])}{more}{tied}) leaves "
        f"{percent(correct / n, wilson(correct, n))} of {n} images {word}; {_beside(space, attacked, n)}."
    )


def _mean_finding(space: AdversarialWorkspace, found: Corrupted) -> tuple[str, ...]:
    mce = found.mce()
    if mce is not None:
        return (f"The mean corruption error (mCE) over the 15 kinds is {percent(*mce)}; AlexNet's is 100%.",)
    mean, interval = found.mean_error()
    word = "error" if space.images.labelled else "share of changed predictions"
    kinds = len(found.benchmark)
    return (
        f"The mean {word} over {kinds} {'kind' if kinds == 1 else 'kinds'} and five severities is {percent(mean, interval)}.",
    )


def _beside(space: AdversarialWorkspace, attacked: int, n: int) -> str:
    if space.config.target is None:
        return f"the attack leaves {percent(attacked / n, wilson(attacked, n))}"
    moved = n - attacked
    return f"under attack {percent(moved / n, wilson(moved, n))} are in the target class"


def _how(space: AdversarialWorkspace, found: Corrupted) -> str:
    """Say where the corrupted images come from, what is not as published, and what is missing."""
    words = space.config.corruptions
    side = min(space.model.input.size[1:])
    large = side >= 85
    source = kinds_or_folder(words)
    if isinstance(source, CorruptedCopies):
        text = f"The corrupted images were read from {source.layout}. "
    else:
        scaled = "" if side in (224, 32) else f" with lengths scaled by {side / (224 if large else 32):.3g}"
        text = (
            f"The parameters are those of {'ImageNet-C (224' if large else 'CIFAR-10-C (32'} pixels; Hendrycks and Dietterich "
            f"2019) for images of {side} pixels{scaled}. "
        )
        if "frost" in found.kinds:
            text += "Frost is drawn, not cut from the published photographs. "
    if not words and found.kinds == FEW:
        text += "Six of the 15 kinds are used; --corruptions all uses all of them. "
    if not found.published:
        text += (
            "Errors are not divided by AlexNet's (CE, mCE): those are for the 1000 ImageNet classes, labelled images and "
            "224 pixels. "
        )
    elif not found.complete:
        text += "mCE is defined over all 15 kinds, and is not given for fewer. "
    if found.left_out:
        more = f"; and {len(found.left_out) - 3} more" if len(found.left_out) > 3 else ""
        text += f"Left out: {'; '.join(found.left_out[:3])}{more}."
    return text.strip()


def _groups(kinds: tuple[str, ...]) -> list[list[str]]:
    """Return the kinds chart by chart: families together where they fit."""
    groups: list[list[str]] = [[]]
    for _, members in groupby(kinds, key=family_of):
        family = list(members)
        if groups[-1] and len(groups[-1]) + len(family) > _LINES:
            groups.append([])
        for kind in family:
            if len(groups[-1]) == _LINES:
                groups.append([])
            groups[-1].append(kind)
    return groups


def _figures(space: AdversarialWorkspace, found: Corrupted, attacked: int) -> list[Figure]:
    n, measure_ = len(found), accuracy_word(space)

    # An image that an attack has not moved to its target may be wrong: that is no floor for accuracy.
    targeted = space.config.target is not None
    floor = (
        () if targeted else (shares(f"attack, {space.words(space.epsilon)}", range(6), [attacked] * 6, n),)
    )
    clean = int(found.clean.sum())
    return [
        Figure(
            f"{measure_.capitalize()} under {', '.join(map(title_of, group))}",
            "line",
            Axis("severity (0: none)"),
            Axis(measure_),
            "Kinds and strengths after Hendrycks and Dietterich 2019, with 95% Wilson intervals. A network "
            "can be robust to every corruption and yet fail on an imperceptible perturbation: these are "
            "different questions.",
            (*(shares(title_of(kind), range(6), [clean, *found.counts(kind)], n) for kind in group), *floor),
        )
        for group in _groups(found.kinds)
    ]


def _errors(space: AdversarialWorkspace, found: Corrupted) -> Table:
    """Return the errors averaged over severities, divided by AlexNet's where they apply."""
    rows: list[tuple[Cell, ...]] = []

    def add(
        name: str,
        family: str,
        error: tuple[float, Interval],
        ce: tuple[float, Interval] | None,
        alexnet: Cell,
    ) -> None:
        row: tuple[Cell, ...] = (name, family, error[0], *(error[1] or (None, None)))
        if found.published:
            value, interval = ce or (None, None)
            row += (alexnet, value, *(interval or (None, None)))
        rows.append(row)

    for kind in found.kinds:
        add(
            title_of(kind),
            family_of(kind),
            found.error(kind),
            found.corruption_error(kind),
            alexnet_error(kind),
        )
    extra = "" if found.kinds == found.benchmark else " of the benchmark"
    add(f"mean of {len(found.benchmark)} kinds{extra}", "", found.mean_error(), found.mce(), None)
    if (relative := found.relative_mce()) is not None:
        rows.append(("relative mCE", "", None, None, None, None, relative[0], *(relative[1] or (None, None))))
    what = "Error" if space.images.labelled else "Changed predictions"
    columns = [
        Column("Corruption", help="The kind of corruption."),
        Column("Family", help="Noise, blur, weather, digital; extra: not in the benchmark."),
        Column(what, proportion=True, help="Averaged over the five severities."),
        *Column.interval("the 95% bootstrap interval over images", proportion=True),
    ]
    if found.published:
        columns += [
            Column("AlexNet", proportion=True, help="The published error of AlexNet."),
            Column("CE", proportion=True, help="Error divided by AlexNet's; the mean over the 15 is mCE."),
            *Column.interval("the 95% bootstrap interval over images", proportion=True),
        ]
    return Table(f"{what} by corruption", tuple(columns), tuple(rows))


def _table(space: AdversarialWorkspace, found: Corrupted, attacked: int) -> Table:
    measure_, n = accuracy_word(space).capitalize(), len(found)
    rows: list[tuple[Cell, ...]] = [
        (title_of(kind), severity, correct, n, correct / n, *wilson(correct, n))
        for kind in found.kinds
        for severity, correct in enumerate(found.counts(kind), 1)
    ]
    rows += [
        ("worst of all", severity, correct, n, correct / n, *wilson(correct, n))
        for severity, correct in enumerate(found.worst, 1)
    ]
    if space.config.target is None:
        name = f"attack, {space.words(space.epsilon)}"
        rows.append((name, None, attacked, n, attacked / n, *wilson(attacked, n)))
    return Table(
        f"{measure_} under common corruptions, in numbers",
        (
            Column("Corruption", help="The kind of corruption."),
            Column("Severity", help="From 1, weakest, to 5."),
            Column(
                "Correct" if space.images.labelled else "Same prediction",
                help="Images whose prediction equals the reference; for the worst of all, under every kind up to this severity.",
            ),
            Column("of", help="The number of images."),
            Column(measure_, proportion=True, help="With its 95% Wilson interval beside it."),
            *Column.interval(proportion=True),
        ),
        tuple(rows),
    )
