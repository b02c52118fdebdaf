"""How a long computation tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float], None]
"""Called with the number of units done since the last call."""


class Progress(Protocol):
    """Whoever shows progress; the console draws bars, tests and notebooks may stay silent."""

    def task(self, label: str, total: float | None) -> AbstractContextManager[Advance]:
        """Open a task of ``total`` units (None: unknown); the value of the block advances it."""
        ...

    def say(self, text: str) -> None:
        """Tell the user one sentence that matters now, such as which weights are used."""
        ...


class Silent:
    """Progress that nobody sees."""

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Advance]:
        """Open a task that shows nothing."""
        yield lambda _units: None

    def say(self, text: str) -> None:
        """Say nothing."""


SILENT: Progress = Silent()
