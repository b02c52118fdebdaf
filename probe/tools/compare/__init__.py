"""Runs of one study side by side: ``compare(runs)`` returns a Report."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.tools.compare.runs import Run as Run
    from probe.tools.compare.runs import read_runs as read_runs
    from probe.tools.compare.study import compare as compare

_LAZY = {
    "compare": "probe.tools.compare.study",
    "read_runs": "probe.tools.compare.runs",
    "Run": "probe.tools.compare.runs",
}

__all__ = ["Run", "compare", "read_runs"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is first used; the help must not load numpy."""
    if name not in _LAZY:
        raise AttributeError(f"module 'probe.tools.compare' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
