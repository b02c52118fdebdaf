"""What the commands share: loading, writing the report, and the command as it was typed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from probe.cli.console import Console, line, summary
from probe.cli.gates import GateOn, GateParam, ResultGate, check_gates
from probe.cli.options import one_or_per_channel, option
from probe.core.errors import EXIT_SKIPPED, GateFailedError, UsageError

if TYPE_CHECKING:
    from probe.core.document import Report
    from probe.data.images import ImageSet
    from probe.models.loaded import LoadedModel

REPORTS = Path("reports")

Form = Literal["text", "json"]

F = TypeVar("F", bound=Callable[..., Any])

_REPORTING: tuple[Callable[[F], F], ...] = (
    option(
        "--format",
        "form",
        type=click.Choice(["text", "json"]),
        default="text",
        help="What goes to stdout: sentences and the report's path, or results.json.",
    ),
    option(
        "--fail-under",
        "gates",
        type=GateParam(),
        multiple=True,
        metavar="NAME=VALUE",
        help="Exit with 1 when this result is below VALUE (above, where lower is better); may be repeated.",
    ),
    option(
        "--gate-on",
        type=click.Choice(["value", "interval"]),
        default="value",
        help="What --fail-under compares: the value, or the worse end of its 95% interval.",
    ),
)


def reporting(function: F) -> F:
    """Add the options on what becomes of a finished report to a command; ``finish`` takes their values."""
    for add in reversed(_REPORTING):
        function = add(function)
    return function


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


def finish(
    report: Report,
    out: Path | None,
    console: Console,
    *,
    form: Form = "text",
    gates: Sequence[ResultGate] = (),
    gate_on: GateOn = "value",
) -> int:
    """Write the report, say where it is, and return the exit code: of the gates, else of skipped inputs, else 0.

    Raises CannotRunError when the report cannot be written. A gate that fails, or that names no result, is told on
    stderr when all else has been said, and the report stays.
    """
    page = written(report, out, console)
    if form == "json":
        from probe.report.results import dumps

        line(dumps(report).rstrip("\n"))
        console.say(f"The report: {page}")
    else:
        summary(report, str(page), console)
    try:
        check_gates(report, gates, gate_on)
    except (GateFailedError, UsageError) as error:
        console.error(
            f"{error} The report was written: {page}" if isinstance(error, UsageError) else str(error)
        )
        return error.exit_code
    return EXIT_SKIPPED if report.data.skipped else 0


def written(report: Report, out: Path | None, console: Console) -> Path:
    """Write the report into ``out``, or into a new folder of reports/ whose index is brought up to date."""
    from probe.report.files import report_folder
    from probe.report.index import update_index
    from probe.report.render import write_report

    folder = out or report_folder(REPORTS, report.study, report.model.name, report.data.name, datetime.now())
    with console.task("Writing the report", None):
        page = write_report(report, folder)
        if out is None:
            update_index(REPORTS)
    return page


def reported(options: dict[str, Any]) -> dict[str, Any]:
    """Return what ``finish`` is given of the options that ``reporting`` adds."""
    return {name: options[name] for name in ("form", "gates", "gate_on")}


def typed() -> str:
    """Return the command line as it was typed."""
    return shlex.join(["probe", *sys.argv[1:]])
