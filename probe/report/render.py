"""Report → report.html and results.json, or the same page inside a notebook."""

from __future__ import annotations

import contextlib
import html
from pathlib import Path

from probe.core.errors import CannotRunError
from probe.core.report import Report
from probe.report.files import write_together
from probe.report.page import page
from probe.report.results import dumps, schema, to_json
from probe.report.thumbnail import THUMBNAIL, thumbnail

PAGE = "report.html"
RESULTS = "results.json"

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


def write_report(report: Report, folder: Path | str) -> Path:
    """Write report.html, results.json and the index's thumbnail.webp into ``folder``; return the page's path.

    The files appear together or not at all, also when the run is interrupted; files of an earlier
    report there are replaced. A folder that stays empty because of a failure is removed. Raises
    CannotRunError when the folder cannot be written to.
    """
    folder = Path(folder)
    try:
        contents: dict[str, str | bytes] = {PAGE: page(report), RESULTS: dumps(report)}
        picture = thumbnail(report)
        if picture is not None:
            contents[THUMBNAIL] = picture
        folder.mkdir(parents=True, exist_ok=True)
        write_together(folder, contents)
        if picture is None:
            (folder / THUMBNAIL).unlink(missing_ok=True)  # of an earlier report
    except BaseException as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise CannotRunError(
                f"The report cannot be written to {folder}: {reason}. Choose another place with --out."
            ) from error
        raise
    return folder / PAGE


def notebook(report: Report) -> str:
    """Return the same page for a notebook: an isolated frame as high as the page, within the window."""
    inner = html.escape(page(report, beside=False), quote=True)
    return (
        '<iframe class="probe-report" sandbox="allow-scripts" allow="clipboard-write" referrerpolicy="no-referrer" '
        f'title="{html.escape(report.study)} report" srcdoc="{inner}" '
        'style="width:100%;height:80vh;min-height:200px;border:1px solid #8888;border-radius:6px"></iframe>'
        f"<script>{_HEIGHT_LISTENER}</script>"
    )


__all__ = ["notebook", "schema", "to_json", "write_report"]
