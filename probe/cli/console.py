"""All output of the program: progress and messages to stderr, results to stdout. The only module that prints."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, TextIO

import click

from probe.core.progress import Advance

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress as Bars

    from probe.core.document import Report, Result

_SHOWN = 8
"""How many numbers the final table shows; the rest are in the report."""

_SPEED_OVER = 3600.0
"""Seconds over which the speed of a task is averaged: one unit of a long task takes minutes."""


_own_output: TextIO | None = None


@contextmanager
def users_output() -> Iterator[None]:
    """Send what a user's code prints to stderr inside the block; what this module prints goes to stdout as before."""
    global _own_output
    _own_output = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _own_output = None


def _echo(text: str) -> None:
    click.echo(text, file=_own_output)


def drop_stdout() -> None:
    """Send what is still to be written to stdout to nowhere, after whoever read it has closed it."""
    with suppress(OSError, ValueError):
        target = os.open(os.devnull, os.O_WRONLY)
        os.dup2(target, (_own_output or sys.stdout).fileno())
        os.close(target)


class Console:
    """Progress bars on a terminal, one line per task in a pipe, and nothing when quiet."""

    def __init__(self, quiet: bool = False, err: TextIO | None = None) -> None:
        self.quiet = quiet
        self._err = err
        self._bars: Bars | None = None

    @property
    def rich(self) -> RichConsole:
        """A rich console on stderr; rich itself respects NO_COLOR."""
        if self._bars is not None:
            return self._bars.console
        from rich.console import Console as RichConsole

        return RichConsole(file=self._err or sys.stderr, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Advance]:
        """Show a bar with the remaining time while the block runs; the bar of a nested task is shown below."""
        if self.quiet:
            yield lambda _units: None
        elif not self.rich.is_terminal:
            self.say(f"{label} …")
            yield lambda _units: None
        else:
            with self._progress_bars() as bars:
                task = bars.add_task(label, total=total)
                yield lambda units: bars.advance(task, units)

    @contextmanager
    def _progress_bars(self) -> Iterator[Bars]:
        """Yield the progress display: the current one, or a new one that ends with the block."""
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

            # A full or broken stderr must not end a computation.
            with suppress(OSError):
                self.rich.print(escape(text))

    def error(self, text: str) -> None:
        """Print one error line to stderr, even when quiet."""
        with suppress(OSError):
            click.echo(f"probe: {one_line(text)}", err=True)


def one_line(text: str) -> str:
    """Fold a text into one line."""
    return " ".join(text.split())


def summary(report: Report, page: str, console: Console) -> None:
    """Print the headline, the warnings and the path of the report; only the path under -q.

    On a terminal, also print a table of the headline numbers and the verdict of the checks.
    """
    if not console.quiet:
        for warning in report.warnings:
            _echo(f"! {one_line(warning)}")
        for sentence in report.headline:
            _echo(f"• {one_line(sentence)}")
        for text in _skipped_lines(report):
            _echo(text)
        if (_own_output or sys.stdout).isatty():
            _numbers(report)
    _echo(page)


def _numbers(report: Report) -> None:
    """Print the report's first numbers with n and interval, and the verdict of its checks."""
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    numbers = [result for result in report.results if not isinstance(result.value, str)]
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column("result", overflow="fold")
    for heading in ("value", "95% interval", "n"):
        drawn.add_column(heading, justify="right")
    for result in numbers[:_SHOWN]:
        drawn.add_row(*(Text(cell) for cell in _number_row(result)))
    rich = RichConsole(file=_own_output or sys.stdout, highlight=False)
    if numbers:
        rich.print(drawn)
    if len(numbers) > _SHOWN:
        rich.print(Text(f"and {len(numbers) - _SHOWN} more in results.json"))
    if report.all_checks:
        overall = report.verdict
        colour = {"pass": "green", "warn": "yellow", "fail": "red"}.get(overall.status, "")
        rich.print(Text(overall.word, style=colour), Text(f"– {one_line(overall.why)}"))


def _number_row(result: Result) -> tuple[str, str, str, str]:
    """Format one result: its name, its value with the unit, its interval and n; a dash where there is none."""
    proportion = result.unit == "proportion"

    def number_text(value: float | int | str | None) -> str:
        if not isinstance(value, int | float) or math.isnan(value):
            return "–"
        return (
            f"{100 * value:.1f}%"
            if proportion
            else f"{value:,}"
            if isinstance(value, int)
            else f"{value:.4g}"
        )

    value = number_text(result.value)
    unit = f" {result.unit}" if result.unit and not proportion and value != "–" else ""
    interval = "–" if result.ci is None else f"{number_text(result.ci[0])} to {number_text(result.ci[1])}"
    return one_line(result.name), f"{value}{unit}", interval, "–" if result.n is None else f"{result.n:,}"


def outcome(sentences: Sequence[str], place: str, console: Console) -> None:
    """Print sentences on the result and the path of its file; only the path when quiet."""
    if not console.quiet:
        for sentence in sentences:
            _echo(f"• {one_line(sentence)}")
    _echo(place)


def _skipped_lines(report: Report, most: int = 5) -> Iterator[str]:
    skipped = report.data.skipped
    if skipped:
        yield f"! {len(skipped)} of the inputs {'was' if len(skipped) == 1 else 'were'} skipped:"
        for item in skipped[:most]:
            yield f"    {one_line(item.name)}: {one_line(item.reason)}"
        if len(skipped) > most:
            yield f"    and {len(skipped) - most} more, all in the report"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings in aligned columns that grep and awk can read."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        _echo("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def line(text: str) -> None:
    """Print one line to stdout."""
    _echo(text)
