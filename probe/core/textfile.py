"""Reading a small text file that a user names: bounded, and never from a device or a pipe that does not end."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from probe.core.errors import UsageError

MOST_BYTES = 64 << 20
"""More than a million labelled files need."""


def read_text(path: Path, what: str, most: int = MOST_BYTES) -> str:
    """Return a text file's content, without a byte-order mark; ``what`` names the file, such as "labels file".

    Raises UsageError, in one line, for what is not a regular file, is larger than ``most`` bytes, or is not UTF-8 text.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "not a regular file but a device, a pipe or a socket"
            raise UsageError(f"The {what} {path} cannot be read: it is {kind}.")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise UsageError(f"The {what} {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UsageError(f"The {what} {str(path)!r} cannot be read: {error}.") from error
    if len(content) > most:
        raise UsageError(
            f"The {what} {path} is larger than {most >> 20} MiB, so it is hardly a {what}: give another."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"The {what} {path} is not UTF-8 text.") from error


def parse_json(text: str, path: Path, what: str) -> Any:
    """Return the value of a JSON text; raises UsageError for anything else, also for one that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UsageError(f"The {what} {path} is not usable JSON: it is nested too deeply.") from error
    except ValueError as error:
        raise UsageError(f"The {what} {path} is not valid JSON: {error}.") from error
