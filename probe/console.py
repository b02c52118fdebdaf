"""All that the program says: progress and sentences to stderr, results to stdout. The only module that prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

from probe.core.progress import Advance

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from probe.core.report import Report


class Console:
    """Shows progress bars on a terminal, one line per step in a pipe, and nothing when quiet."""

    def __init__(self, quiet: bool = False, err: TextIO | None = None) -> None:
        self.quiet = quiet
        self._err = err

    @property
    def rich(self) -> RichConsole:
        """A rich console on stderr; NO_COLOR is honoured by rich itself."""
        from rich.console import Console as RichConsole

        return RichConsole(file=self._err or sys.stderr, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Advance]:
        """Show a bar with the time left while the block runs."""
        if self.quiet:
            yield lambda _units: None
            return
        rich = self.rich
        if not rich.is_terminal:
            self.say(f"{label} …")
            yield lambda _units: None
            return
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=rich) as bars:
            task = bars.add_task(label, total=total)
            yield lambda units: bars.advance(task, units)

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
    """Print the headline, the warnings and where the report is; only the path under -q."""
    if not console.quiet:
        for warning in report.warnings:
            click.echo(f"! {one_line(warning)}")
        for line in report.headline:
            click.echo(f"• {one_line(line)}")
        for group in _skipped(report):
            click.echo(group)
    click.echo(page)


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
