"""Saved parts of a long run, so that an interrupted run can continue where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""The errors of numpy and zipfile for truncated, modified or other files."""


class Journal(Protocol):
    """Storage of named arrays under keys."""

    def load(self, key: str) -> Arrays | None:
        """Return the arrays saved under a key, None if there are none that can be used."""
        ...

    def save(self, key: str, arrays: Arrays) -> None:
        """Save arrays under a key."""
        ...


class Nothing:
    """A journal that saves nothing."""

    def load(self, key: str) -> Arrays | None:
        """Return None."""
        return None

    def save(self, key: str, arrays: Arrays) -> None:
        """Do nothing."""


NOTHING: Journal = Nothing()


@dataclass
class Lenient:
    """A journal without which a run goes on where nothing can be written; ``say`` is told the reason, once."""

    journal: Journal
    say: Callable[[str], None]
    _full: bool = field(default=False, init=False)

    def load(self, key: str) -> Arrays | None:
        """Return what the journal has."""
        return self.journal.load(key)

    def save(self, key: str, arrays: Arrays) -> None:
        """Save, or say why not; after that nothing is tried any more."""
        if self._full:
            return
        try:
            self.journal.save(key, arrays)
        except OSError as error:
            # The run itself needs no journal; only a later --resume would.
            self._full = True
            self.say(f"This run cannot be saved for --resume: {error.strerror or error}.")


@dataclass(frozen=True)
class Within:
    """The part of a journal whose keys begin with ``prefix``, for one of several studies of a run."""

    journal: Journal
    prefix: str

    def load(self, key: str) -> Arrays | None:
        """Return the arrays saved under the key in this part."""
        return self.journal.load(f"{self.prefix}/{key}")

    def save(self, key: str, arrays: Arrays) -> None:
        """Save arrays under the key in this part."""
        self.journal.save(f"{self.prefix}/{key}", arrays)


class FileJournal:
    """A journal in its own folder: one .npz file per key, written completely or not at all.

    ``resume``: whether parts of an earlier run are used; otherwise they are removed first.
    """

    def __init__(self, root: Path, facts: Mapping[str, Any], *, resume: bool) -> None:
        text = json.dumps(facts, sort_keys=True, default=str)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:24]
        self.loaded = 0
        self.saved = 0
        if not resume:
            self.remove()

    def load(self, key: str) -> Arrays | None:
        """Return the arrays saved under ``key``; None if the file is missing or cannot be read."""
        path = self._path(key)
        try:
            # Opened here, because numpy does not close a file that it cannot read.
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except _UNREADABLE:
            return None
        self.loaded += 1
        return arrays

    def save(self, key: str, arrays: Arrays) -> None:
        """Write the arrays to a temporary file and rename it; raises OSError if writing fails."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=".part-", dir=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(part, self._path(key))
            self.saved += 1
        finally:
            Path(part).unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete all saved parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
