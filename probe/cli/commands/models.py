"""``probe models``: the networks that can be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from probe.cli.console import line, table

if TYPE_CHECKING:
    from probe.models.source import ModelRow


_EXAMPLES = """\b
Examples:
  probe models
  probe models resnet
  probe models "timm:convnext*"
"""


@click.command("models", short_help="List the networks that can be loaded.", epilog=_EXAMPLES)
@click.argument("query", default="")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(query: str, debug: bool) -> None:
    """List the networks that can be loaded, where their weights come from, and whether those are on this machine.

    QUERY is part of a name, a pattern with * and ?, or a source such as zoo: or timm:
    """
    from probe.models.load import catalogue

    rows = catalogue(query)
    # The lists of weights, of very different lengths, stand where nothing has to be aligned after them.
    table(("name", "source", "here", "come from", "weights"), [_model_row(row) for row in rows])
    line(f"{len(rows)} {'model' if len(rows) == 1 else 'models'}")


def _model_row(row: ModelRow) -> tuple[str, ...]:
    return row.name, row.source, ", ".join(row.present) or "no", row.origin, ", ".join(row.weights) or "–"
