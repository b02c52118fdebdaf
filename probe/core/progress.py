"""The interface through which long computations report their progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float], None]
"""Called with the number of units done since the last call."""


class Progress(Protocol):
    """A display of progress, such as the bars of the console."""

    def task(self, label: str, total: float | None) -> AbstractContextManager[Advance]:
        """Open a task of ``total`` units (None: unknown); call the value of the ``with`` block to advance it."""
        ...

    def say(self, text: str) -> None:
        """Show the user a sentence that matters now, such as which weights are used."""
        ...


class Silent:
    """Progress that is not shown."""

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Advance]:
        """Open a task that shows nothing."""
        yield lambda _units: None

    def say(self, text: str) -> None:
        """Do nothing."""


SILENT: Progress = Silent()
