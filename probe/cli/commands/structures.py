"""``probe structures``: the parts of a network that can be removed."""

from __future__ import annotations

from typing import Any

import click

from probe.cli.commands.ablate import kind_list
from probe.cli.console import Console, line, table
from probe.cli.options import common, option
from probe.cli.shared import load
from probe.cli.values import NameList
from probe.graph.edit.structure import SWAP

_EXAMPLES = """\b
Examples:
  probe structures -m densenet121 --weights none
  probe structures -m zoo:resnet20 --remove shortcut,norm
  probe structures -m my_net.py:net --weights none --swap "activation?to=gelu"
"""


@click.command(
    "structures",
    short_help="List the parts of a network that can be removed.",
    epilog=f"{_EXAMPLES}\n{kind_list()}",
)
@common
@option(
    "--remove",
    "kinds",
    type=NameList(),
    metavar="A,B",
    help="Only these structures [default: all but filter].",
)
@option("--swap", type=NameList(), metavar="A,B", help="These swaps: kernel?to=large, activation?to=gelu, …")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """List the parts of a network that can be removed: place, shape, parameters, MACs.

    Use these names with --sites.
    """
    from probe.cli.configs import ablated_model
    from studies.ablation.plan import structure_rows

    console = Console(options["quiet"])
    options["remove"] = options["kinds"] or (() if options["swap"] else ("shortcut",))
    swaps = tuple(SWAP + text for text in options["swap"] or ())
    options["model"], options["data"] = ablated_model(options)
    model, _ = load(options, console)
    rows, notes = structure_rows(model, (*(options["kinds"] or ()), *swaps))
    table(("structure", "site", "place", "what", "shape", "parameters", "MACs"), rows)
    for note in notes:
        line(note)
    line(f"{len(rows)} {'site' if len(rows) == 1 else 'sites'}")
