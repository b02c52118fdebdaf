"""The state of a training after each epoch, kept so that one that was killed can go on to the same weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch


class Snapshots(Protocol):
    """Keeps one state, the latest."""

    def load(self) -> dict[str, Any] | None:
        """Return the state that was kept, None when there is nothing usable."""
        ...

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a state in place of the one before."""
        ...


class SnapshotFile:
    """One file with the latest state: whole, or the one before it; a crash at any moment leaves a usable one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.epochs = 0
        """The number of finished epochs in the state that was last saved or loaded."""

    def load(self) -> dict[str, Any] | None:
        """Return the kept state; a file that cannot be read counts as absent. Runs no code from the file."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            self.epochs = int(state["epoch"])
        except Exception:
            # torch.load raises errors of pickle, zipfile and its own for a file that is cut short or of another kind.
            return None
        return dict(state)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state to a temporary file and rename it; raises OSError when the disk does."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=".part-", dir=self.path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                torch.save(dict(state), file)
            os.replace(part, self.path)
            self.epochs = int(state["epoch"])
        finally:
            Path(part).unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget the state."""
        self.path.unlink(missing_ok=True)
        self.epochs = 0
