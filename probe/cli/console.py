"""All that the program says: progress and sentences to stderr, results to stdout. The only module that prints."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

from probe.core.progress import Advance

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress as Bars

    from probe.core.document import Report, Result

_SHOWN = 8
"""Numbers in the table at the end; the rest is in the report."""

_SPEED_OVER = 3600.0
"""Seconds over which the speed of a step is measured: one unit of a long one takes minutes."""


class Console:
    """Shows progress bars on a terminal, one line per step in a pipe, and nothing when quiet."""

    def __init__(self, quiet: bool = False, err: TextIO | None = None) -> None:
        self.quiet = quiet
        self._err = err
        self._bars: Bars | None = None

    @property
    def rich(self) -> RichConsole:
        """A rich console on stderr; NO_COLOR is honoured by rich itself."""
        if self._bars is not None:
            return self._bars.console
        from rich.console import Console as RichConsole

        return RichConsole(file=self._err or sys.stderr, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Advance]:
        """Show a bar with the time left while the block runs; a step inside another has its bar below it."""
        if self.quiet:
            yield lambda _units: None
        elif not self.rich.is_terminal:
            self.say(f"{label} …")
            yield lambda _units: None
        else:
            with self._drawn() as bars:
                task = bars.add_task(label, total=total)
                yield lambda units: bars.advance(task, units)

    @contextmanager
    def _drawn(self) -> Iterator[Bars]:
        """Return the bars that are drawn now, or draw new ones while the block runs."""
        if self._bars is not None:
            yield self._bars
            return
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=self.rich, speed_estimate_period=_SPEED_OVER) as bars:
            self._bars = bars
            try:
                yield bars
            finally:
                self._bars = None

    def say(self, text: str) -> None:
        """Print one sentence to stderr."""
        if not self.quiet:
            from rich.markup import escape

            self.rich.print(escape(text))

    def error(self, text: str) -> None:
        """Print one error line to stderr, also when quiet."""
        click.echo(f"probe: {one_line(text)}", err=True)


def one_line(text: str) -> str:
    """Fold a text into one line."""
    return " ".join(text.split())


def summary(report: Report, page: str, console: Console) -> None:
    """Print the headline, the warnings and where the report is; only the path under -q.

    On a terminal the headline numbers stand in a table, with the verdict of the checks under it.
    """
    if not console.quiet:
        for warning in report.warnings:
            click.echo(f"! {one_line(warning)}")
        for sentence in report.headline:
            click.echo(f"• {one_line(sentence)}")
        for group in _skipped(report):
            click.echo(group)
        if sys.stdout.isatty():
            _numbers(report)
    click.echo(page)


def _numbers(report: Report) -> None:
    """Draw the report's first numbers with n and interval, and the verdict of its checks."""
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    from probe.core.verdict import verdict

    numbers = [result for result in report.results if not isinstance(result.value, str)]
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column("result", overflow="fold")
    for heading in ("value", "95% interval", "n"):
        drawn.add_column(heading, justify="right")
    for result in numbers[:_SHOWN]:
        drawn.add_row(*(Text(cell) for cell in _number_row(result)))
    rich = RichConsole(file=sys.stdout, highlight=False)
    if numbers:
        rich.print(drawn)
    if len(numbers) > _SHOWN:
        rich.print(Text(f"and {len(numbers) - _SHOWN} more in results.json"))
    if report.all_checks:
        said = verdict((check.name, check.status) for check in report.all_checks)
        colour = {"pass": "green", "warn": "yellow", "fail": "red"}.get(said.status, "")
        rich.print(Text(said.word, style=colour), Text(f"– {one_line(said.why)}"))


def _number_row(result: Result) -> tuple[str, str, str, str]:
    """Write one result: its name, its value with the unit, its interval and n; a dash where there is none."""
    proportion = result.unit == "proportion"

    def written(value: float | int | str | None) -> str:
        if not isinstance(value, int | float) or math.isnan(value):
            return "–"
        return (
            f"{100 * value:.1f}%"
            if proportion
            else f"{value:,}"
            if isinstance(value, int)
            else f"{value:.4g}"
        )

    value = written(result.value)
    unit = f" {result.unit}" if result.unit and not proportion and value != "–" else ""
    interval = "–" if result.ci is None else f"{written(result.ci[0])} to {written(result.ci[1])}"
    return one_line(result.name), f"{value}{unit}", interval, "–" if result.n is None else f"{result.n:,}"


def outcome(sentences: Sequence[str], place: str, console: Console) -> None:
    """Print what came of something and where it is; only the place when quiet."""
    if not console.quiet:
        for sentence in sentences:
            click.echo(f"• {one_line(sentence)}")
    click.echo(place)


def _skipped(report: Report, most: int = 5) -> Iterator[str]:
    skipped = report.data.skipped
    if skipped:
        yield f"! {len(skipped)} of the inputs were skipped:"
        for one in skipped[:most]:
            yield f"    {one_line(one.name)}: {one_line(one.reason)}"
        if len(skipped) > most:
            yield f"    and {len(skipped) - most} more, all in the report"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings, as wide as they need; aligned columns that grep and awk can read."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        click.echo(
            "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def line(text: str) -> None:
    """Print one line to stdout."""
    click.echo(text)
