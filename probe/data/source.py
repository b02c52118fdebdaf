"""The interface of data sources, and their registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from probe.core.progress import SILENT, Progress
from probe.core.registry import Registry

if TYPE_CHECKING:  # so that the names can be listed without loading torch
    from probe.data.images import ImageSet


@dataclass(frozen=True)
class Request:
    """The request to a source: the path that the user typed (for file sources only), and options.

    ``offline`` forbids downloads. With ``flat``, a folder's subfolders are not classes. ``target`` is a function of the
    user's own, as FILE.py:FUNCTION.
    """

    path: Path | None = None
    offline: bool = False
    progress: Progress = SILENT
    flat: bool = False
    target: str = ""


class DataSource(Protocol):
    """A source returns all its images as one set, or raises CannotRunError with the reason and how to fix it."""

    def __call__(self, request: Request) -> ImageSet:
        """Return all images of the source, without reading them."""
        ...


SOURCES: Registry[DataSource] = Registry("data source", "probe.data.sources")

FOLDER, IMAGE, ARRAYS, PYTHON = "folder", "image", "arrays", "python"
"""The sources that are selected by a path instead of a name."""


def data_names() -> tuple[str, ...]:
    """Return the names of the data sets, sorted."""
    return tuple(name for name in SOURCES if name not in (FOLDER, IMAGE, ARRAYS, PYTHON))
