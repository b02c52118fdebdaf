"""Charts outside the page: one file each for a paper, or one by its name for a notebook."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from probe.core.blocks import Figure
from probe.core.document import Report
from probe.core.errors import CannotRunError, UsageError
from probe.report.charts.draw import draw, has_marks, quiet
from probe.report.files import safe_name, write_together

FORMS = ("pdf", "svg", "png")

FIGURES = "figures"
COLUMN, LETTERS = 3.3, 8.0
"""Width of a paper's column in inches, and of its letters in points."""

_APART = re.compile(r"[^\w.]+")


def write_figures(report: Report, folder: Path | str, form: str) -> tuple[Path, ...]:
    """Write every chart of a report into ``folder/figures``, one file each, and return their paths.

    Files are named by section and title, such as ``curve-robust-accuracy-against-epsilon.pdf``, and are as wide as a
    paper's column (3.3 inches). Fonts are embedded in a PDF. Raises CannotRunError when the folder cannot be written
    to, UsageError for a form that there is not.
    """
    place = Path(folder) / FIGURES
    contents = figure_files(report, form)
    try:
        if contents:
            place.mkdir(parents=True, exist_ok=True)
        write_together(place, contents)
    except OSError as error:
        raise CannotRunError(
            f"The figures cannot be written to {place}: {error.strerror or error}."
        ) from error
    return tuple(place / name for name in contents)


def figure_files(report: Report, form: str) -> dict[str, bytes]:
    """Return every chart of a report as a file: its name and its bytes, the same for the same report."""
    if form not in FORMS:
        raise UsageError(f"'{form}' is no form of a figure: choose from {', '.join(FORMS)}.")
    files: dict[str, bytes] = {}
    for section, figure in _figures(report):
        if has_marks(figure):
            stem = safe_name(_APART.sub("-", f"{section} {figure.title}".lower()))
            name = next(name for name in _names(stem, form) if name not in files)
            files[name] = _encode(figure, form)
    return files


def find_figure(report: Report, name: str) -> Figure:
    """Return the first chart with this title, or of the section with this id, such as ``curve``.

    Raises UsageError that lists the names when there is none.
    """
    figures = list(_figures(report))
    for section, figure in figures:
        if name in (section, figure.title):
            return figure
    names = dict.fromkeys(text for section, figure in figures for text in (section, figure.title))
    known = "; ".join(names) or "this report has no chart"
    raise UsageError(f"There is no chart '{name}'. Section ids and titles of charts: {known}.")


def _figures(report: Report) -> Iterator[tuple[str, Figure]]:
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Figure):
                yield section.id, block


def _names(stem: str, form: str) -> Iterator[str]:
    yield f"{stem}.{form}"
    yield from (f"{stem}-{number}.{form}" for number in count(2))


def _encode(figure: Figure, form: str) -> bytes:
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
    buffer = io.BytesIO()
    canvas = draw(figure, COLUMN, LETTERS)
    with quiet():
        canvas.savefig(buffer, format=form, dpi=300, metadata=dates[form])
    return buffer.getvalue()
