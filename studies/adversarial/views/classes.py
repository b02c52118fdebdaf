"""Robustness by class."""

from __future__ import annotations

import numpy as np

from probe.core.blocks import Cell, Column, Table
from probe.core.document import Section
from probe.core.errors import NotApplicableError
from probe.core.stats import wilson
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace


@VIEWS.register("classes", order=9)
def classes(space: AdversarialWorkspace) -> Section:
    """Compare clean and robust accuracy, class by class."""
    labels = np.asarray(space.results.clean.label)
    if len(np.unique(labels)) < 2:
        raise NotApplicableError("All images are of one class, so there is nothing to compare.")
    robust = space.results.robust(space.results.worst, space.epsilon)
    rows = [_row(space, int(label), labels == label, robust) for label in np.unique(labels)]
    rows.sort(key=lambda row: (float(row[4] or 0), str(row[0])))
    noun, clean = "class", "Classified correctly without attack."
    if not space.images.labelled:
        noun, clean = (
            "prediction without attack",
            "The prediction without attack is the reference for the others.",
        )
    few = int(min((labels == label).sum() for label in np.unique(labels)))
    note = " With so few images per class the intervals are wide." if few < 10 else ""
    table = Table(
        f"By {noun}, at {space.words(space.epsilon)}",
        (
            Column(noun.capitalize(), help="The class of the images."),
            Column("n", help="The number of images."),
            Column("Clean", proportion=True, help=clean),
            Column(_robust_column(space), help=space.phrases.robust_help),
            Column(
                space.phrases.measure.capitalize(),
                proportion=True,
                help="With its 95% Wilson interval beside it.",
            ),
            *Column.interval(proportion=True),
            Column(
                "Predicted as",
                help="The class most often predicted for broken images, ties named, and how often.",
            ),
        ),
        tuple(rows),
        f"In this sample, the classes with the smallest part come first, and ties by name; the order is uncertain where the "
        f"intervals overlap.{note}",
    )
    return Section("classes", "Classes", blocks=(table,))


def _robust_column(space: AdversarialWorkspace) -> str:
    return "Robust" if space.config.target is None else space.phrases.robust


def _row(space: AdversarialWorkspace, label: int, member: np.ndarray, robust: np.ndarray) -> tuple[Cell, ...]:
    results = space.results
    n, n_robust = int(member.sum()), int((member & robust).sum())
    low, high = wilson(n_robust, n)
    broken = member & results.correct & ~robust
    predicted = results.worst.prediction[broken]
    predicted = predicted[predicted >= 0]
    predicted_as = None
    if len(predicted):
        names, counts = np.unique(predicted, return_counts=True)
        most = int(counts.max())
        tied = [space.class_name(int(name)) for name in names[counts == most]]
        each = " each" if len(tied) > 1 else ""
        predicted_as = f"{', '.join(tied)} ({most}{each} of {len(predicted)})"
    clean = float((member & results.clean_correct).sum() / n)
    return (space.class_name(label), n, clean, n_robust, n_robust / n, low, high, predicted_as)
