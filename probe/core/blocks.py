"""What the sections of a report are made of: notes, tables, charts and pictures, as plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Cell = str | int | float | bool | None

_BESIDE = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]*", re.ASCII)
"""A path that stays inside its folder and needs no quoting."""


@dataclass(frozen=True)
class Picture:
    """One picture: ``pixels`` is uint8, (H, W, 3) or (H, W) for grey.

    ``alt`` says what is to be seen for those who cannot see it. ``pixelated`` keeps the
    pixels as crisp squares when the picture is enlarged (filters, tiny patches).
    ``anchor`` is a stable fragment such as ``layer2/ch17`` under which it can be linked.
    """

    pixels: NDArray[np.uint8]
    alt: str
    caption: str = ""
    anchor: str = ""
    pixelated: bool = False

    def __post_init__(self) -> None:
        """Refuse pixels that are not a non-empty uint8 array of shape (H, W) or (H, W, 3)."""
        shape = self.pixels.shape
        fits = len(shape) in (2, 3) and min(shape) > 0 and shape[2:] in ((), (3,))
        if self.pixels.dtype != np.uint8 or not fits:
            raise ValueError(f"picture '{self.alt}' is {self.pixels.dtype} of shape {shape}")


@dataclass(frozen=True)
class Strip:
    """Pictures that belong together and stand in one row: a channel, an image, a layer.

    ``compare`` names two of the pictures by index, such as the original and the adversarial image: a reader
    can then wipe from one to the other. Both must have the same height and width.
    """

    pictures: tuple[Picture, ...]
    label: str = ""
    note: str = ""
    anchor: str = ""
    compare: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse to compare pictures that there are not, or that do not lie over each other."""
        if self.compare is None:
            return
        if not all(0 <= index < len(self.pictures) for index in self.compare):
            raise ValueError(f"strip '{self.label}': no pictures {self.compare} among {len(self.pictures)}")
        sizes = {self.pictures[index].pixels.shape[:2] for index in self.compare}
        if len(sizes) != 1:
            raise ValueError(f"strip '{self.label}': the compared pictures differ in size")


@dataclass(frozen=True)
class Gallery:
    """Strips of pictures under one title; ``reading`` is the sentence on how to read them.

    ``size`` is the width in CSS pixels at which each picture is shown. A strip with many
    pictures wraps.
    """

    title: str
    strips: tuple[Strip, ...]
    reading: str
    size: int = 96


@dataclass(frozen=True)
class SteppedGallery:
    """Strips of pictures of which one is shown at a time: a slider over steps such as epsilons.

    ``steps`` are the labels, such as "ε = 0.0075". ``rows[i][k]`` is what row i (an image) shows at step k;
    each row has a strip for every step. ``start`` is the step shown first, ``size`` as in ``Gallery``. Where
    no script runs, and on paper, all steps are seen one under another.
    """

    title: str
    steps: tuple[str, ...]
    rows: tuple[tuple[Strip, ...], ...]
    reading: str
    size: int = 96
    start: int = 0

    def __post_init__(self) -> None:
        """Refuse rows whose length is not the number of steps, and a first step that there is not."""
        for row in self.rows:
            if len(row) != len(self.steps):
                raise ValueError(f"slides '{self.title}': {len(row)} strips for {len(self.steps)} steps")
        if not 0 <= self.start < max(1, len(self.steps)):
            raise ValueError(f"slides '{self.title}': no step {self.start} among {len(self.steps)}")


@dataclass(frozen=True)
class Column:
    """A table's column: heading, unit and the sentence shown as a tooltip.

    ``digits`` is the number of significant digits of a float; ``proportion`` shows a float as a percentage.
    """

    name: str
    unit: str = ""
    help: str = ""
    digits: int = 3
    proportion: bool = False

    @classmethod
    def interval(
        cls, of: str = "the 95% Wilson interval", *, proportion: bool = False, digits: int = 3
    ) -> tuple[Column, Column]:
        """Return the two columns of an interval, named low and high; ``of`` says which interval it is."""
        low, high = f"Lower end of {of}.", f"Upper end of {of}."
        return (
            cls("low", help=low, proportion=proportion, digits=digits),
            cls("high", help=high, proportion=proportion, digits=digits),
        )


@dataclass(frozen=True)
class Table:
    """Rows under columns; every row has one cell per column. None is shown as an en dash."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    reading: str = ""

    def __post_init__(self) -> None:
        """Refuse rows whose length is not the number of columns."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table '{self.title}': {len(row)} cells under {len(self.columns)} columns")


@dataclass(frozen=True)
class Axis:
    """One axis: its label with unit, linear or log, and the names at 0, 1, 2 … when it is categorical."""

    label: str
    scale: Literal["linear", "log"] = "linear"
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """One line or one set of bars: y over x, with an interval band where ``low`` and ``high`` are given."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse unequal lengths."""
        lengths = {len(self.x), len(self.y), len(self.low or self.y), len(self.high or self.y)}
        if len(lengths) != 1:
            raise ValueError(f"series '{self.label}' has unequal lengths")


@dataclass(frozen=True)
class Figure:
    """A chart as data. ``heatmap`` takes ``matrix`` (rows = y, columns = x) instead of series; ``polar`` x in degrees."""

    title: str
    kind: Literal["line", "bar", "scatter", "polar", "heatmap"]
    x: Axis
    y: Axis
    reading: str
    series: tuple[Series, ...] = ()
    matrix: tuple[tuple[float, ...], ...] = ()
    value_label: str = ""


@dataclass(frozen=True)
class Note:
    """A paragraph; ``tone`` marks a warning that a reader must not miss.

    ``links`` are words and the files beside the report that they lead to, such as ``filters/report.html``.
    """

    text: str
    tone: Literal["plain", "warning"] = "plain"
    links: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse links that lead out of the report's folder."""
        for _, place in self.links:
            if not _BESIDE.fullmatch(place):
                raise ValueError(f"'{place}' is no file beside the report")


Block = Note | Table | Figure | Gallery | SteppedGallery
