"""Code that all studies share: choosing and running views and checks, and sentences of the methods paragraph."""

from __future__ import annotations

import dataclasses
import logging
import time
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import probe
from probe.core.document import Check, Section
from probe.core.errors import NotApplicableError
from probe.core.progress import Progress
from probe.core.registry import Registry
from probe.core.seeds import scoped
from probe.core.subject import DataInfo, ModelInfo

Space = TypeVar("Space", contravariant=True)

WILSON = (
    'Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", '
    "Journal of the American Statistical Association 22, 1927"
)


class View(Protocol[Space]):
    """One part of a report: computes a Section from the workspace; may raise NotApplicableError."""

    def __call__(self, space: Space, /) -> Section:
        """Compute the section."""
        ...


class Checker(Protocol[Space]):
    """One statement about an evaluation: computes a Check from the evidence; may raise NotApplicableError."""

    def __call__(self, evidence: Space, /) -> Check:
        """Make the check."""
        ...


def choose_views(
    registry: Registry[View[Space]], requested: Sequence[str] | None, without: Collection[str] = ()
) -> list[tuple[str, View[Space]]]:
    """Return the views named in ``requested`` in the order of the report.

    None means all but the optional ones and those of ``without``, the word ``all`` really all. Raises UsageError for an
    unknown name.
    """
    usual = [name for name, entry in registry.entries.items() if not entry.optional and name not in without]
    names = usual if requested is None else tuple(registry) if tuple(requested) == ("all",) else requested
    views = {name: registry.get(name) for name in names}
    return [(name, views[name]) for name in registry if name in views]


def run_views(
    views: Sequence[tuple[str, View[Space]]], space: Space, seed: int, progress: Progress, task: str
) -> tuple[Section, ...]:
    """Compute each view as a section with its seconds; one that does not apply, or fails, becomes a section with the reason."""
    sections = []
    with progress.task(task, len(views)) as advance:
        for name, view in views:
            started = time.perf_counter()
            try:
                with scoped(seed, "view", name):
                    section = view(space)
            except NotApplicableError as error:
                section = Section(name, name.capitalize(), reason=str(error))
            except Exception as error:
                section = Section(name, name.capitalize(), reason=failure(error, progress), failed=True)
            sections.append(dataclasses.replace(section, seconds=round(time.perf_counter() - started, 2)))
            advance(1)
    return tuple(sections)


def run_checks(
    checks: Sequence[tuple[str, Checker[Space]]], evidence: Space, progress: Progress
) -> tuple[Check, ...]:
    """Run each check; one that does not apply is kept with the reason, and one that fails is a warning."""
    results = []
    with progress.task("Checking", len(checks)) as advance:
        for name, check in checks:
            try:
                results.append(check(evidence))
            except NotApplicableError as error:
                title = name.replace("-", " ").capitalize()
                results.append(Check(title, "not applicable", None, str(error)))
            except Exception as error:
                title = name.replace("-", " ").capitalize()
                detail = f"This check could not be made: {failure(error, progress)}"
                results.append(Check(title, "warn", None, detail))
            advance(1)
    return tuple(results)


def failure(error: Exception, progress: Progress) -> str:
    """Return what went wrong in a part of a study, and where, for the report; the traceback goes to the log."""
    where = f" ({place})" if (place := _place(error)) else ""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0].rstrip('.') if lines else 'no message'}{where}."
    logging.getLogger("probe").debug("A part of a study failed.", exc_info=error)
    progress.say(f"! A part failed, and the rest goes on: {text}")
    return text


def _place(error: BaseException) -> str:
    """Return the file's name and line of the innermost frame that no library contains."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def subject(model: ModelInfo, data: DataInfo) -> str:
    """Write which network was studied on which images."""
    channels, height, width = model.input_size
    sample_note = f" (of {data.total:,}, a seeded sample)" if data.n < data.total and not data.skipped else ""
    labels = "labelled" if data.labelled else "unlabelled"
    return (
        f"We studied {model.name} ({model.parameters:,} parameters; weights: {model.weights}; input "
        f"{channels}×{height}×{width} with pixels in [0, 1], normalisation inside the network) on {data.n:,} {labels} "
        f"images of {data.name}{sample_note}."
        + (f" The images were {data.preprocessing.text}." if data.preprocessing.text else "")
    )


def tools(seed: int, torch_version: str) -> str:
    """Write the software versions and the seed."""
    return f"Everything was computed with probe {probe.__version__} and PyTorch {torch_version}, seed {seed}."


def bands(channels: int) -> tuple[str, ...]:
    """Return the sentence that says which channels of the images the pictures show, where that is not all of them."""
    if channels in (1, 3):
        return ()
    if channels == 2:
        return ("The pictures of images show the first of the 2 input channels, in grey.",)
    return (
        f"The pictures of images show the first 3 of the {channels} input channels (bands) as red, green and blue.",
    )
