"""Saved states of a training after each epoch, so that an interrupted training can continue to the same weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch


class Snapshots(Protocol):
    """Storage for the latest state."""

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, None if there is no usable one."""
        ...

    def save(self, state: Mapping[str, Any]) -> None:
        """Save a state, replacing the previous one."""
        ...


class SnapshotFile:
    """A file with the latest complete state; a crash at any moment leaves a usable state."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.epochs = 0
        """The number of finished epochs in the state that was last saved or loaded."""

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, None if the file is missing or cannot be read. Runs no code from the file."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            self.epochs = int(state["epoch"])
        except Exception:
            # For truncated or other files, torch.load raises errors of pickle, zipfile and its own.
            return None
        return dict(state)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state to a temporary file and rename it; raises OSError if writing fails."""
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
        """Delete the state."""
        self.path.unlink(missing_ok=True)
        self.epochs = 0
