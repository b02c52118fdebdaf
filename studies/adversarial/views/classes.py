"""Which classes are fragile."""

from __future__ import annotations

import numpy as np

from probe.core.document import Cell, Column, Section, Table
from probe.core.errors import NotApplicableError
from probe.core.stats import wilson
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace


@VIEWS.register("classes", order=9)
def classes(space: AdversarialWorkspace) -> Section:
    """Compare what is right without attack with what stands under it, class by class."""
    labels = np.asarray(space.results.clean.label)
    if len(np.unique(labels)) < 2:
        raise NotApplicableError("All images are of one class, so there is nothing to compare.")
    robust = space.results.robust(space.results.worst, space.epsilon)
    rows = [_row(space, int(label), labels == label, robust) for label in np.unique(labels)]
    rows.sort(key=lambda row: (float(row[4] or 0), str(row[0])))
    what, clean = "class", "Right without attack."
    if not space.images.labelled:
        what, clean = "answer without attack", "The answer without attack is what the others are judged by."
    few = int(min((labels == label).sum() for label in np.unique(labels)))
    note = " With so few images a class the intervals are wide." if few < 10 else ""
    table = Table(
        f"By {what}, at {space.words(space.epsilon)}",
        (
            Column(what.capitalize(), help="The class of the images."),
            Column("n", help="The number of images."),
            Column("Clean", proportion=True, help=clean),
            Column(_standing(space), help=space.phrases.robust_help),
            Column(
                space.phrases.measure.capitalize(),
                proportion=True,
                help="With its 95% Wilson interval beside it.",
            ),
            Column("low", proportion=True, help="Lower end of the 95% Wilson interval."),
            Column("high", proportion=True, help="Upper end of the 95% Wilson interval."),
            Column("Goes to", help="The class that broken images are most often taken for, and how often."),
        ),
        tuple(rows),
        f"The most fragile first.{note}",
    )
    return Section("classes", "Classes", blocks=(table,))


def _standing(space: AdversarialWorkspace) -> str:
    return "Robust" if space.config.target is None else space.phrases.robust


def _row(space: AdversarialWorkspace, label: int, member: np.ndarray, robust: np.ndarray) -> tuple[Cell, ...]:
    results = space.results
    n, standing = int(member.sum()), int((member & robust).sum())
    low, high = wilson(standing, n)
    broken = member & results.right & ~robust
    taken = results.worst.prediction[broken]
    taken = taken[taken >= 0]
    goes = None
    if len(taken):
        names, counts = np.unique(taken, return_counts=True)
        best = int(counts.argmax())
        goes = f"{space.class_name(int(names[best]))} ({int(counts[best])} of {len(taken)})"
    clean = float((member & results.clean_right).sum() / n)
    return (space.class_name(label), n, clean, standing, standing / n, low, high, goes)
