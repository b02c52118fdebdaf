"""Writing files so that a reader sees the old ones or the new ones, never half of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from itertools import count
from pathlib import Path

from probe.core.errors import CannotRunError


def write_together(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write several files (text as UTF-8) into one folder: all of them or none, also when interrupted.

    Each goes to a temporary file beside its place first and is renamed when all are written. When a
    rename fails, those done before are taken back. Raises OSError as the file system does.
    """
    with ExitStack() as undo:
        staged = [_stage(folder / name, content, undo) for name, content in contents.items()]
        for temporary, target in staged:
            _replace(temporary, target, undo)
        undo.pop_all()
    for _, target in staged:
        _backup_path(target).unlink(missing_ok=True)


def _stage(target: Path, content: str | bytes, undo: ExitStack) -> tuple[Path, Path]:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    undo.callback(_remove, temporary)
    if isinstance(content, bytes):
        with temporary.open("xb") as file:
            file.write(content)
    else:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    return temporary, target


def _replace(temporary: Path, target: Path, undo: ExitStack) -> None:
    """Rename into place, keeping what was there until all renames are done."""
    if target.exists():
        backup = _backup_path(target)
        undo.callback(_put_back, backup, target)
        _keep(target, backup)
    else:
        undo.callback(_remove, target)
    os.replace(temporary, target)


def _keep(target: Path, backup: Path) -> None:
    """Give the old file a second name; copy it where the file system knows no links."""
    backup.unlink(missing_ok=True)
    try:
        os.link(target, backup)
    except OSError:
        shutil.copy2(target, backup)


def _backup_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.old")


def _put_back(backup: Path, target: Path) -> None:
    if backup.exists():
        os.replace(backup, target)
        backup.unlink(missing_ok=True)  # still there when both names were links to one file


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


_LONGEST = 60
_OUTSIDE = re.compile(r"[^A-Za-z0-9._]+")


def report_folder(root: Path, study: str, model: str, data: str, stamp: datetime | str) -> Path:
    """Make and return a new folder such as ``reports/filters-efficientnet_lite0-20261123-214224``.

    An empty ``data`` leaves that part out. Every part is cut down to safe characters; a part that
    loses letters by that gets a short hash so that two names stay two. A name that is taken gets
    ``-2``, ``-3`` … Raises CannotRunError when the folder cannot be made.
    """
    when = stamp.strftime("%Y%m%d-%H%M%S") if isinstance(stamp, datetime) else _safe_stamp(stamp)
    name = "-".join([safe_name(study), safe_name(model), *([safe_name(data)] if data else []), when])
    try:
        root.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = root / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise CannotRunError(
            f"No report folder can be made in {root}: {error.strerror or error}. "
            "Choose another place with --out."
        ) from error
    raise AssertionError("unreachable")


def safe_name(text: str) -> str:
    """Turn any text into letters, digits, dots, hyphens and underscores, at most 60 and never empty."""
    plain = unicodedata.normalize("NFKD", text)
    letters = "".join(sign for sign in plain if not unicodedata.combining(sign))
    slug = _OUTSIDE.sub("-", letters).strip("-.")[:_LONGEST].strip("-.")
    lossy = any(ord(sign) > 127 for sign in letters) or len(letters) > _LONGEST or not slug
    if not lossy:
        return slug
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{slug[: _LONGEST - 9].rstrip('-.')}-{digest}".lstrip("-")


def _safe_stamp(stamp: str) -> str:
    return re.sub(r"[^0-9A-Za-z-]+", "-", stamp).strip("-")[:40] or "undated"
