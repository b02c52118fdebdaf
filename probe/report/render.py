"""Report → report.html and results.json, or the same page inside a notebook."""

from __future__ import annotations

import contextlib
import html
import json
import re
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from probe.core.document import Report
from probe.core.errors import CannotRunError
from probe.report.charts.export import FIGURES, figure_files
from probe.report.files import write_together
from probe.report.page import page
from probe.report.results import SAMPLES, dumps, dumps_samples, schema, to_json
from probe.report.text import visible
from probe.report.thumbnail import THUMBNAIL, thumbnail

PAGE = "report.html"
RESULTS = "results.json"

_INSIDE = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]*")
"""A path that stays inside its folder: no ``..``, no hidden files."""
_LISTED = re.compile(r"(images|figures)/\w[\w.-]*")
"""What an earlier report's list may make us remove."""

_FINDINGS = 3
"""Sentences on the card of a notebook, at most."""

_HEIGHT_LISTENER = """
if (!window.probeReportListener) {
  window.probeReportListener = (event) => {
    const height = event.data && event.data.probeReportHeight;
    if (typeof height !== "number") return;
    for (const frame of document.querySelectorAll("iframe.probe-report")) {
      if (frame.contentWindow === event.source) {
        const most = Math.max(480, 0.85 * window.innerHeight);
        frame.style.height = Math.max(200, Math.min(height + 4, most)) + "px";
      }
    }
  };
  window.addEventListener("message", window.probeReportListener);
}
"""


def write_report(report: Report, folder: Path | str, figures: str | None = None) -> Path:
    """Write report.html, results.json and what belongs to them into ``folder``; return the page's path.

    That is the index's thumbnail.webp, samples.jsonl where there are samples, the report's ``files``, and with
    ``figures`` (pdf, svg or png) each chart as a file in ``figures/``. All appear together or not at all, also when
    the run is interrupted; files of an earlier report there are replaced or removed. A folder that stays empty
    because of a failure is removed. Raises CannotRunError when the folder cannot be written to, UsageError for a
    form of figures that there is not, ValueError for a file whose place is not inside it.
    """
    folder = Path(folder)
    try:
        contents = _contents(report, figures)
        earlier = _earlier(folder) - contents.keys()
        with ExitStack() as undo:
            for place in dict.fromkeys((folder, *((folder / name).parent for name in contents))):
                undo.callback(_remove_empty, place)
                place.mkdir(parents=True, exist_ok=True)
            write_together(folder, contents)
        for name in earlier:
            (folder / name).unlink(missing_ok=True)
            _remove_empty((folder / name).parent)
    except BaseException as error:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise CannotRunError(
                f"The report cannot be written to {folder}: {reason}. Choose another place with --out."
            ) from error
        raise
    return folder / PAGE


def _contents(report: Report, figures: str | None) -> dict[str, str | bytes]:
    if figures is not None:
        drawn = {f"{FIGURES}/{name}": content for name, content in figure_files(report, figures).items()}
        report = replace(report, files={**report.files, **drawn})
    contents: dict[str, str | bytes] = {PAGE: page(report), RESULTS: dumps(report)}
    picture = thumbnail(report)
    if picture is not None:
        contents[THUMBNAIL] = picture
    if report.samples:
        contents[SAMPLES] = dumps_samples(report)
    for name, content in report.files.items():
        if not _INSIDE.fullmatch(name) or name in contents:
            raise ValueError(f"'{name}' is not the place of a further file of a report")
        contents[name] = content
    return contents


def _earlier(folder: Path) -> set[str]:
    """Return the files of an earlier report in a folder: those with a fixed name, and the images that it lists."""
    names = {SAMPLES, THUMBNAIL}
    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError, TypeError):
        listed = json.loads((folder / RESULTS).read_text(encoding="utf-8")).get("artifacts", [])
        names |= {name for name in listed if isinstance(name, str) and _LISTED.fullmatch(name)}
    return {name for name in names if (folder / name).is_file()}


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def notebook(report: Report) -> str:
    """Return a card with the findings for a notebook, which opens the same page in an isolated frame, within the window."""
    inner = html.escape(page(report, beside=False), quote=True)
    findings = "".join(
        f"<li>{html.escape(visible(sentence))}</li>" for sentence in report.headline[:_FINDINGS]
    )
    return (
        '<div style="border:1px solid #8888;border-radius:6px;padding:0.6em 1em;max-width:70em">'
        f"<strong>{html.escape(visible(report.title))}</strong><ul>{findings}</ul>"
        '<details><summary style="cursor:pointer">Open the report</summary>'
        '<iframe class="probe-report" sandbox="allow-scripts" allow="clipboard-write" referrerpolicy="no-referrer" '
        f'title="{html.escape(report.study)} report" srcdoc="{inner}" '
        'style="width:100%;height:80vh;min-height:200px;border:1px solid #8888;border-radius:6px"></iframe></details></div>'
        f"<script>{_HEIGHT_LISTENER}</script>"
    )


__all__ = ["notebook", "schema", "to_json", "write_report"]
