"""Sentences that more than one module of this layer says."""

from __future__ import annotations

from pathlib import Path

LICENCE_TORCHVISION = "BSD-3-Clause (torchvision)"


def shown_path(path: Path) -> str:
    """Return a path as reports show it: the home folder written as ``~``, so that no user is named."""
    try:
        return str(Path("~") / path.expanduser().absolute().relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


def ways_out(source: str, place: str = "", digits: bool = True) -> str:
    """Return the sentence with the ways to weights when there are none."""
    ways = ["give a file with --weights FILE", "take random weights with --weights none"]
    if place:
        ways.append(f"connect to the network or put the file at {place}")
    elif digits:
        ways.append("train it on the embedded digits with --weights digits")
    return f"Ways out for {source}: {', '.join(ways[:-1])}, or {ways[-1]}."
