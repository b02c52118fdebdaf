"""Comparison of runs of one study: ``compare(runs)`` returns a Report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from probe.tools.compare.runs import Run as Run
    from probe.tools.compare.runs import read_runs as read_runs
    from probe.tools.compare.runs import runs_of as runs_of
    from probe.tools.compare.study import compare as compare

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "compare": "probe.tools.compare.study",
        "read_runs": "probe.tools.compare.runs",
        "runs_of": "probe.tools.compare.runs",
        "Run": "probe.tools.compare.runs",
    },
)

__all__ = ["Run", "compare", "read_runs", "runs_of"]
