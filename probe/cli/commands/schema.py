"""``probe schema``: the schema of the machine-readable results."""

from __future__ import annotations

from typing import Literal

import click

from probe.cli.console import line

_EXAMPLES = """\b
Examples:
  probe schema > results.schema.json
  probe schema samples
"""


@click.command("schema", short_help="Print the JSON Schema of a report's numbers.", epilog=_EXAMPLES)
@click.argument("what", type=click.Choice(["results", "samples"]), default="results")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(what: Literal["results", "samples"], debug: bool) -> None:
    """Print the JSON Schema of results.json, or of a line of samples.jsonl.

    results.json has every number of a report; samples.jsonl, next to it, has one JSON object per line for each image.
    """
    from probe.report.results import schema_text

    line(schema_text(what).rstrip("\n"))
