"""``probe ablate``: remove parts of a network."""

from __future__ import annotations

from typing import Any

import click

from probe.cli.console import Console
from probe.cli.options import ablating, common
from probe.cli.shared import command_line, finish, load, report_options, reporting
from probe.graph.edit.structure import STRUCTURES, SWAPS

_EXAMPLES = """\b
Examples:
  probe ablate --remove shortcut
  probe ablate --remove dropout,lrn
  probe ablate --remove shortcut --mode retrain --depths 8,20,56
  probe ablate --swap "activation?to=sigmoid"
  probe ablate --remove sharing,locality
  probe ablate -m torchvision:resnet50 --weights none --remove block --mode lesion -d imagenet-samples
  probe ablate -m my_net.py:net --weights my.pth -d my_folder --remove norm --also robustness,calibration
  probe ablate --remove shortcut --mode lesion --format json
"""


def kind_list() -> str:
    """Return the structures that can be removed and the swaps, for the help."""
    rows = "\n".join(f"  {e.name:<12} {e.summary}" for e in STRUCTURES.entries.values())
    swaps = "\n".join(f"  {e.name:<12} {e.summary}" for e in SWAPS.entries.values())
    return f"\b\nStructures:\n{rows}\n\n\b\nSwaps:\n{swaps}"


@click.command(
    "ablate",
    short_help="Remove parts of the network and measure their effect.",
    epilog=f"{_EXAMPLES}\n{kind_list()}",
)
@common
@ablating
@reporting
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Remove or replace parts of the network, and measure their effect.

    Without options: the shortcuts of a ResNet-20 on digits, ablated without retraining and retrained without them.
    """
    from probe.cli.configs import ablated_model, ablation_config, journal_for, resumable, training_parts
    from studies import ablation as study

    console = Console(options["quiet"])
    config = ablation_config(options)
    options["model"], options["data"] = ablated_model(options)
    model, images = load(options, console)
    training, untrainable = training_parts(options, model, images, console)
    journal = journal_for(config, model, images, options["resume"], console, training)
    with resumable(journal, console, "trainings"):
        report = study.run(
            model,
            images,
            config,
            training=training,
            untrainable=untrainable,
            progress=console,
            command=command_line(),
            journal=journal,
        )
    code = finish(report, options["out"], console, **report_options(options))
    journal.remove()
    ctx.exit(code)
