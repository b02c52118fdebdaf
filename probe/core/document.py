"""What a study found, as plain data: no HTML, no model, no file.

A study returns one ``Report``; ``probe.report`` turns it into report.html and results.json.
All text is plain text (the renderer escapes it); all pictures are uint8 arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from probe.core import stats
from probe.core.blocks import Block, Cell
from probe.core.errors import CannotRunError, unknown
from probe.core.rendering import renderer
from probe.core.subject import DataInfo, ModelInfo
from probe.core.verdict import CheckStatus, Verdict, verdict_of

if TYPE_CHECKING:
    import matplotlib.figure

Status = Literal["done", "skipped inputs", "incomplete", "interrupted"]
Json = Any


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

    @classmethod
    def points(
        cls,
        name: str,
        difference: float | None,
        n: int | None,
        ci: tuple[float, float] | None = None,
        *,
        higher_is_better: bool | None = None,
    ) -> Result:
        """Return a difference of proportions, given in [-1, 1] with its interval, in percentage points."""
        # Rounded, because the difference of equal proportions can be off by the last bit.
        value = None if difference is None else round(100 * difference, 12)
        scaled = None if ci is None else (100 * ci[0], 100 * ci[1])
        return cls(name, value, n, scaled, "points", higher_is_better)


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
