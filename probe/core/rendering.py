"""What turns reports into pages and drawings: ``probe.report`` registers it here, so that the data need not know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True)
class Renderer:
    """Three functions of a report: write it to a folder, draw one of its charts, show it in a notebook."""

    save: Callable[[Any, Path | str, str | None], Path]
    figure: Callable[[Any, str, float, float], matplotlib.figure.Figure]
    notebook: Callable[[Any], str]


RENDERERS: list[Renderer] = []
"""The renderer in use is the last one."""


def renderer() -> Renderer:
    """Return the renderer in use; raises RuntimeError before ``probe.report`` was imported."""
    if not RENDERERS:
        raise RuntimeError("Import probe.report first: it is what writes, draws and shows reports.")
    return RENDERERS[-1]
