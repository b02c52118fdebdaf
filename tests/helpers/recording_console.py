"""A console that remembers its progress and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from probe.core.progress import Advance


class Console:
    """Progress that remembers its tasks (label, total, done) and sentences."""

    def __init__(self) -> None:
        self.tasks: list[list[object]] = []
        self.said: list[str] = []

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Advance]:
        entry: list[object] = [label, total, 0.0]
        self.tasks.append(entry)

        def advance(units: float) -> None:
            entry[2] = float(entry[2]) + units  # type: ignore[arg-type]

        yield advance

    def say(self, text: str) -> None:
        self.said.append(text)
