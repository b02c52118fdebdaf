"""``probe compare``: runs of one study side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from probe.cli.console import Console
from probe.cli.options import option
from probe.cli.shared import command_line, finish, report_options, reporting

_EXAMPLES = """\b
Examples:
  probe compare reports/adversarial-resnet20-*            every run against the first
  probe compare plain/results.json robust/results.json --out both
"""


@click.command("compare", epilog=_EXAMPLES)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN…", type=click.Path(path_type=Path))
@option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder of the report [default: a new one in reports/].",
)
@reporting
@option("-q", "--quiet", is_flag=True, help="Print the report's path only.")
@option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def command(ctx: click.Context, /, runs: tuple[Path, ...], **options: Any) -> None:
    """Compare runs of one study side by side: what differs, and whether the difference may be due to chance.

    RUN is the folder of a report or its results.json; the others are compared with the first. If both runs have a
    samples.jsonl with the same images, the tests are paired; otherwise they are not, and the report says so.
    P-values are corrected for multiple comparisons (Holm).
    """
    from probe.tools.compare import compare, read_runs

    report = compare(read_runs(runs), command=command_line())
    ctx.exit(finish(report, options["out"], Console(options["quiet"]), **report_options(options)))
