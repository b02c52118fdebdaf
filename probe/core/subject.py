"""What was studied, as a report names it: the model, the data, and the inputs that were skipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Skipped:
    """An input that was not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ModelInfo:
    """The model as the report names it; ``sha256`` is of the weights file, ``notes`` must be read."""

    name: str
    source: str
    weights: str
    sha256: str | None
    parameters: int
    macs: int | None
    input_size: tuple[int, int, int]
    num_classes: int
    licence: str = ""
    file: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataInfo:
    """The images as the report names them; ``n`` are those used, ``total`` those there are.

    ``sha256`` is over names, labels and contents of the images, where it was taken.
    """

    name: str
    n: int
    total: int
    labelled: bool
    source: str = ""
    licence: str = ""
    skipped: tuple[Skipped, ...] = ()
    sha256: str | None = None
