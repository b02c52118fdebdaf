"""What the commands share: loading, writing the report, and the command as it was typed."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.console import Console, summary
from probe.core.errors import EXIT_SKIPPED
from probe.options import one_or_per_channel

if TYPE_CHECKING:
    from probe.core.report import Report
    from probe.data.images import ImageSet
    from probe.models.loaded import LoadedModel

REPORTS = Path("reports")


def load(options: dict[str, Any], console: Console) -> tuple[LoadedModel, ImageSet]:
    """Return the model and the images that the common options name, fitted to each other."""
    from probe.models.pair import load_both

    return load_both(
        options["model"],
        options["data"],
        n=options["num_samples"],
        weights=options["weights"],
        img_size=options["img_size"],
        mean=one_or_per_channel(options["mean"], "mean"),
        std=one_or_per_channel(options["std"], "std"),
        labels=options["labels"],
        allow_partial=options["allow_partial"],
        device=options["device"],
        seed=options["seed"],
        offline=options["offline"],
        progress=console,
    )


def finish(report: Report, out: Path | None, console: Console) -> int:
    """Write the report, say where it is, and return the exit code."""
    from probe.report.index import update_index
    from probe.report.place import report_folder
    from probe.report.render import write_report

    folder = out or report_folder(REPORTS, report.study, report.model.name, report.data.name, datetime.now())
    page = write_report(report, folder)
    if out is None:
        update_index(REPORTS)
    summary(report, str(page), console)
    return EXIT_SKIPPED if report.data.skipped else 0


def typed() -> str:
    """Return the command line as it was typed."""
    return shlex.join(["probe", *sys.argv[1:]])
