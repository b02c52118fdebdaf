"""What a data source is, and the registry that finds them."""

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
    """What a source is told: the path that was typed (sources of files only), and how to behave.

    ``offline`` forbids the network.
    """

    path: Path | None = None
    offline: bool = False
    progress: Progress = SILENT


class DataSource(Protocol):
    """A source makes all its images into one set; CannotRunError says why it cannot, and the way out."""

    def __call__(self, request: Request) -> ImageSet:
        """Return every image of the source, unread."""
        ...


SOURCES: Registry[DataSource] = Registry("data source", "probe.data.sources")

FOLDER, IMAGE = "folder", "image"
"""The sources that are given by a path instead of their name."""


def data_names() -> tuple[str, ...]:
    """Return the data sets that have a name of their own, sorted."""
    return tuple(name for name in SOURCES if name not in (FOLDER, IMAGE))
