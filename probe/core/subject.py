"""What was studied, as a report names it: the model, the data, and the inputs that were skipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
class PreprocessingInfo:
    """What happened to an image between its file and the network.

    ``text`` is one sentence, ``chain`` the same for programs: step → value. ``assumed`` are the parts that are not
    known to be those of the training; ``how_to_fix`` are the options that set them.
    """

    text: str = ""
    chain: Mapping[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    how_to_fix: str = ""


@dataclass(frozen=True)
class DataInfo:
    """The images as the report names them; ``n`` are those used, ``total`` those there are.

    ``sha256`` is over names, labels and contents of the images, where it was taken. ``labels`` says how labels and
    classes were matched.
    """

    name: str
    n: int
    total: int
    labelled: bool
    source: str = ""
    licence: str = ""
    skipped: tuple[Skipped, ...] = ()
    sha256: str | None = None
    labels: str = ""
    preprocessing: PreprocessingInfo = field(default_factory=PreprocessingInfo)
