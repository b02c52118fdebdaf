"""Writing files so that a reader sees the old ones or the new ones, never half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path


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
        _kept(target).unlink(missing_ok=True)


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
        kept = _kept(target)
        undo.callback(_put_back, kept, target)
        _keep(target, kept)
    else:
        undo.callback(_remove, target)
    os.replace(temporary, target)


def _keep(target: Path, kept: Path) -> None:
    """Give the old file a second name; copy it where the file system knows no links."""
    kept.unlink(missing_ok=True)
    try:
        os.link(target, kept)
    except OSError:
        shutil.copy2(target, kept)


def _kept(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.old")


def _put_back(kept: Path, target: Path) -> None:
    if kept.exists():
        os.replace(kept, target)
        kept.unlink(missing_ok=True)  # still there when both names were links to one file


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
