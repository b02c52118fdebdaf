"""Layers, cost and receptive fields of a network: ``run(model, AnatomyConfig(...))`` returns a Report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.lazy import lazy_exports

if TYPE_CHECKING:
    from probe.tools.anatomy.comparison import compare as compare
    from probe.tools.anatomy.examine import AnatomyConfig as AnatomyConfig
    from probe.tools.anatomy.study import run as run

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "run": "probe.tools.anatomy.study",
        "compare": "probe.tools.anatomy.comparison",
        "AnatomyConfig": "probe.tools.anatomy.examine",
    },
)

__all__ = ["AnatomyConfig", "compare", "run"]
