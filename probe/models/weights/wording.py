"""Texts that several modules of this package use."""

from __future__ import annotations

from pathlib import Path

LICENCE_TORCHVISION = "BSD-3-Clause (torchvision)"


def shown_path(path: Path) -> str:
    """Return a path for reports: the home folder is written as ``~``, so that no user name is shown."""
    try:
        return str(Path("~") / path.expanduser().absolute().relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


def how_to_fix(source: str, place: str = "", digits: bool = True) -> str:
    """Return the sentence on how to fix missing weights."""
    choices = ["give a file with --weights FILE", "use random weights with --weights none"]
    if place:
        choices.append(f"connect to the internet or put the file at {place}")
    elif digits:
        choices.append("train it on the embedded digits with --weights digits")
    return f"For {source}, you can: {', '.join(choices[:-1])}, or {choices[-1]}."
