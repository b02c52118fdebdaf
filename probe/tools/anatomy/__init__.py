"""What a network is made of and what it costs: ``run(model, AnatomyConfig(...))`` returns a Report."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.tools.anatomy.comparison import compare as compare
    from probe.tools.anatomy.examine import AnatomyConfig as AnatomyConfig
    from probe.tools.anatomy.study import run as run

_LAZY = {
    "run": "probe.tools.anatomy.study",
    "compare": "probe.tools.anatomy.comparison",
    "AnatomyConfig": "probe.tools.anatomy.examine",
}

__all__ = ["AnatomyConfig", "compare", "run"]


def __getattr__(name: str) -> Any:
    """Import the study when it is first used; the help must not load torch."""
    if name not in _LAZY:
        raise AttributeError(f"module 'probe.tools.anatomy' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
