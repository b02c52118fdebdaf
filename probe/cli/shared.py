"""Code shared by the commands: loading, writing the report, and the command line as typed."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from probe.cli.console import Console, drop_stdout, line, summary, users_output
from probe.cli.gates import GateOn, GateParam, ResultGate, check_gates
from probe.cli.options import one_or_per_channel, option
from probe.core.errors import EXIT_SKIPPED, CannotRunError, GateFailedError, UsageError

if TYPE_CHECKING:
    from probe.core.document import Report
    from probe.data.images import ImageSet
    from probe.models.loaded import LoadedModel

REPORTS = Path("reports")

Form = Literal["text", "json"]

F = TypeVar("F", bound=Callable[..., Any])

FIGURES = option(
    "--figures",
    type=click.Choice(["pdf", "svg", "png"]),
    help="Also write each chart as a file for a paper, in figures/.",
)

_REPORTING: tuple[Callable[[F], F], ...] = (
    FIGURES,
    option(
        "--format",
        "form",
        type=click.Choice(["text", "json"]),
        default="text",
        help="Output on stdout: a summary and the report's path, or results.json.",
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
    """Add the options for output and gates to a command; ``report_options`` passes them to ``finish``."""
    for add in reversed(_REPORTING):
        function = add(function)
    return function


def load(
    options: dict[str, Any], console: Console, *, strict: bool = True, needs_images: bool = True
) -> tuple[LoadedModel, ImageSet]:
    """Load the model and the images given by the common options, made to fit each other (see ``load_both``)."""
    from probe.models.pair import load_both

    if "out" in options:
        check_place(options["out"])
    click.get_current_context().with_resource(users_output())
    return load_both(
        options["model"],
        options["data"],
        n=options["num_samples"],
        weights=options["weights"],
        img_size=options["img_size"],
        mean=one_or_per_channel(options["mean"], "mean"),
        std=one_or_per_channel(options["std"], "std"),
        resize=options["resize"],
        crop=options["crop"],
        interpolation=options["interpolation"],
        output=options["output"],
        labels=options["labels"],
        labels_csv=options["labels_csv"],
        class_map=options["class_map"],
        allow_partial=options["allow_partial"],
        device=options["device"],
        seed=options["seed"],
        offline=options["offline"],
        progress=console,
        strict=strict,
        needs_images=needs_images,
    )


def finish(
    report: Report,
    out: Path | None,
    console: Console,
    *,
    form: Form = "text",
    gates: Sequence[ResultGate] = (),
    gate_on: GateOn = "value",
    figures: str | None = None,
) -> int:
    """Write the report, print its path, and return the exit code: of the gates, else of skipped inputs, else 0.

    Raises CannotRunError when the report cannot be written. A gate that fails, or that names no result, is reported
    on stderr after everything else, and the report is kept.
    """
    page = write_page(report, out, console, figures)
    try:
        _tell(report, page, console, form)
    except BrokenPipeError:
        drop_stdout()  # the report is there, whoever stopped reading
    except OSError as error:
        drop_stdout()
        raise CannotRunError(
            f"The report was written ({page}), but stdout cannot be: {error.strerror}."
        ) from error
    try:
        check_gates(report, gates, gate_on)
    except (GateFailedError, UsageError) as error:
        console.error(
            f"{error} The report was written: {page}" if isinstance(error, UsageError) else str(error)
        )
        return error.exit_code
    return EXIT_SKIPPED if report.data.skipped or report.status == "incomplete" else 0


def _tell(report: Report, page: Path, console: Console, form: Form) -> None:
    if form == "json":
        from probe.report.results import dumps

        line(dumps(report).rstrip("\n"))
        console.say(f"Report: {page}")
    else:
        summary(report, str(page), console)


def write_page(report: Report, out: Path | None, console: Console, figures: str | None = None) -> Path:
    """Write the report into ``out``, or into a new folder of reports/, whose index is then updated.

    ``figures``: pdf, svg or png, to write each chart as a file too.
    """
    from probe.report.files import report_folder
    from probe.report.index import update_index
    from probe.report.render import write_report

    name, data = report.model.name, report.data.name
    with console.task("Writing the report", None):
        try:
            folder = out or report_folder(REPORTS, report.study, name, data, datetime.now())
            page = write_report(report, folder, figures)
        except CannotRunError as error:
            raise _written_elsewhere(report, figures, error) from error
        if out is None:
            update_index(REPORTS)
    return page


def _written_elsewhere(report: Report, figures: str | None, error: CannotRunError) -> CannotRunError:
    """Write the report into a temporary folder, and return the error that says where it is."""
    from probe.report.render import write_report

    try:
        page = write_report(report, Path(tempfile.mkdtemp(prefix="probe-report-")), figures)
    except (OSError, CannotRunError):
        return error
    return CannotRunError(f"{error} The report was written to {page} instead.")


def check_place(out: Path | None) -> None:
    """Raise CannotRunError, before anything is computed, where no report can be written into ``out`` or reports/."""
    place = (out or REPORTS).absolute()
    folder = place
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise CannotRunError(
            f"The report cannot be written to {out or REPORTS}: {error.strerror} ({folder}). Choose another place with --out."
        ) from error


def report_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that ``reporting`` adds, as arguments for ``finish``."""
    return {name: options[name] for name in ("form", "gates", "gate_on", "figures")}


def command_line() -> str:
    """Return the command line as it was typed."""
    return shlex.join(["probe", *sys.argv[1:]])
