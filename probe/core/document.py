"""What a study found, as plain data: no HTML, no model, no file.

A study returns one ``Report``; ``probe.report`` turns it into report.html and results.json.
All text is plain text (the renderer escapes it); all pictures are uint8 arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from probe.core import stats
from probe.core.errors import CannotRunError, unknown
from probe.core.rendering import renderer
from probe.core.subject import DataInfo, ModelInfo
from probe.core.verdict import CheckStatus, Verdict, verdict_of

if TYPE_CHECKING:
    import matplotlib.figure

Cell = str | int | float | bool | None
Status = Literal["done", "skipped inputs", "incomplete", "interrupted"]
Json = Any

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


@dataclass(frozen=True)
class Section:
    """One part of a study.

    ``reason`` is set when it could not apply, or ``failed`` with an error; then there are no blocks.
    """

    id: str
    title: str
    summary: str = ""
    blocks: tuple[Block, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    results: tuple[Result, ...] = ()
    checks: tuple[Check, ...] = ()
    findings: tuple[str, ...] = ()
    failed: bool = False


@dataclass(frozen=True)
class Result:
    """A named number with its sample size and 95% interval where these have a meaning.

    ``per_image`` says where samples.jsonl tells what each image contributed to a proportion: the path of a truth value
    (``lesions.shortcut.right``), ``PATH > NUMBER`` (null counts as larger), or ``PATH = PATH``.
    """

    name: str
    value: float | int | str | None
    n: int | None = None
    ci: tuple[float, float] | None = None
    unit: str = ""
    higher_is_better: bool | None = None
    per_image: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval, where there is one."""
        return self.ci

    def __float__(self) -> float:
        """Return the value as a number; raises TypeError where it is none."""
        if not isinstance(self.value, int | float):
            raise TypeError(f"the result {self.name} is {self.value!r}, not a number")
        return float(self.value)

    @classmethod
    def proportion(
        cls,
        name: str,
        successes: int,
        n: int,
        *,
        higher_is_better: bool | None = None,
        per_image: str = "",
    ) -> Result:
        """Return a proportion with its Wilson interval; None when ``n`` is 0."""
        value = successes / n if n else None
        return cls(name, value, n, stats.wilson(successes, n), "proportion", higher_is_better, per_image)


@dataclass(frozen=True)
class Check:
    """A named statement about the evaluation itself that passes, warns, fails or does not apply."""

    name: str
    status: CheckStatus
    value: Cell
    detail: str


@dataclass(frozen=True)
class Report:
    """Everything a study found out, with what is needed to do it again.

    ``methods`` are whole sentences in the past tense that form one paragraph, ready to paste into a paper;
    ``references`` are the works that they cite, one entry each. ``samples`` has what was found out about each
    image, in the order of the images; ``files`` are further files that belong beside the report, such as
    ``images/index.json``: their paths with ``/`` (no ``..``) and their contents. ``key`` are ids of sections: the
    first of them that has a chart or pictures holds what stands beside the headline. ``n_checks`` is how many checks
    an evaluation of this kind must pass or not be subject to so that it is called reliable, and ``independent`` are the
    names of those of which at least one must have been made; None for studies without such a set.
    """

    study: str
    title: str
    model: ModelInfo
    data: DataInfo
    config: Mapping[str, Json]
    environment: Mapping[str, str]
    seed: int
    command: str
    created: str
    seconds: float
    headline: tuple[str, ...]
    sections: tuple[Section, ...]
    results: tuple[Result, ...] = ()
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    status: Status = "done"
    extra: Mapping[str, Json] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    samples: tuple[Mapping[str, Json], ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    n_checks: int | None = None
    independent: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Result:
        """Return the result called ``name``; raises UsageError, with close names, when there is none."""
        for result in self.all_results:
            if result.name == name:
                return result
        raise unknown("result", name, (result.name for result in self.all_results))

    @property
    def verdict(self) -> Verdict:
        """Whether the report can be believed, by its checks: its status, in a word, and why."""
        return verdict_of(self.all_checks, self.n_checks, self.independent)

    def to_dataframe(self) -> Any:
        """Return all results as a pandas DataFrame: name, value, low, high, n, unit; needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise CannotRunError("to_dataframe needs pandas: pip install pandas.") from error
        rows = [
            (result.name, result.value, *(result.ci or (None, None)), result.n, result.unit)
            for result in self.all_results
        ]
        return pandas.DataFrame(rows, columns=["name", "value", "low", "high", "n", "unit"])

    @property
    def all_results(self) -> tuple[Result, ...]:
        """The report's own results, then each section's."""
        return self.results + tuple(r for section in self.sections for r in section.results)

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """The report's own checks, then each section's."""
        return self.checks + tuple(c for section in self.sections for c in section.checks)

    def save(self, folder: Path | str, figures: str | None = None) -> Path:
        """Write report.html, results.json and what belongs to them into a folder; return the page's path.

        With ``figures`` (pdf, svg or png) every chart is also written as a file of its own.
        """
        return renderer().save(self, folder, figures)

    def figure(self, name: str, width: float = 6.4, font: float = 10.0) -> matplotlib.figure.Figure:
        """Draw the first chart of the section with this id, or with this title, to restyle or save it.

        ``width`` is in inches, ``font`` in points. Raises UsageError that lists the names for one that there is not.
        """
        return renderer().figure(self, name, width, font)

    def __repr__(self) -> str:
        """Return the title and the sentences that the command line prints, without the pictures."""
        return "\n".join((self.title, *(f"• {sentence}" for sentence in self.headline)))

    def _repr_html_(self) -> str:
        """Show the same page in a notebook."""
        return renderer().notebook(self)


def finite(value: float | None) -> float | None:
    """Return the value, or None when it is not a finite number (JSON knows no NaN)."""
    return value if value is not None and math.isfinite(value) else None


def percent(value: float, ci: Sequence[float] | None = None) -> str:
    """Write a proportion, or a ratio above 1, as a percentage, with its interval where given: ``85% [64, 95]``."""
    text = f"{100 * value:.3g}%" if value < 0.9995 else f"{100 * value:.0f}%"
    return text if ci is None else f"{text} [{100 * ci[0]:.0f}, {100 * ci[1]:.0f}]"
