"""``probe attacks``: the attacks that can be used."""

from __future__ import annotations

import click

from probe.cli.console import line, table

_EXAMPLES = """\b
Examples:
  probe attacks
  probe attacks L1
  probe attacks decision-based
"""


@click.command("attacks", short_help="List the attacks.", epilog=_EXAMPLES)
@click.argument("query", default="")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(query: str, debug: bool) -> None:
    """List the attacks: norms, access, whether they support targeted attacks, options, paper.

    QUERY is part of a name, a norm such as L1, or an access such as decision-based.
    """
    from probe.attacks.select import attack_rows

    rows = attack_rows(query)
    table(("name", "norms", "access", "kind", "target", "from", "options", "what it is", "paper"), rows)
    line(f"{len(rows)} {'attack' if len(rows) == 1 else 'attacks'}")
