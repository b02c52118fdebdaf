"""Charts: one description (``core.document.Figure``), one drawing by matplotlib, for pages, files and notebooks."""

from probe.report.charts.draw import draw as draw
from probe.report.charts.export import FORMS as FORMS
from probe.report.charts.export import find_figure as find_figure
from probe.report.charts.export import write_figures as write_figures
