"""Reports as pages, files and drawings. Importing any part of it gives reports the means to show themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probe.core.document import Report as Report
from probe.core.rendering import RENDERERS, Renderer

if TYPE_CHECKING:
    import matplotlib.figure


def _save(report: Report, folder: Path | str, figures: str | None) -> Path:
    from probe.report.render import write_report

    return write_report(report, folder, figures)


def _figure(report: Report, name: str, width: float, font: float) -> matplotlib.figure.Figure:
    from probe.report.charts.draw import draw
    from probe.report.charts.export import find_figure

    return draw(find_figure(report, name), width, font)


def _notebook(report: Report) -> str:
    from probe.report.render import notebook

    return notebook(report)


if not RENDERERS:
    RENDERERS.append(Renderer(_save, _figure, _notebook))
