"""``probe filters``: see what the filters respond to."""

from __future__ import annotations

from typing import Any

import click

from probe.cli.console import Console
from probe.cli.options import AGAINST, AGAINST_WEIGHTS, common, option, spreading
from probe.cli.shared import command_line, finish, load, report_options, reporting
from probe.cli.values import Auto, NameList, Numbers
from studies.filters.config import STEPS, WITHOUT_IMAGES
from studies.filters.registries import VIEWS

_EXAMPLES = """\b
Examples:
  probe filters                                        the embedded ImageNet network, works offline
  probe filters -m resnet18
  probe filters -m timm:convnext_atto --views patches,features --layers stages.2 --channels 3,17
  probe filters -m my_net.py:net --weights my.pth -d my_folder --mean 0.5 --std 0.25
  probe filters -m zoo:resnet20 -d digits --views similarity,probes --against zoo:lenet
  probe filters -m torchvision:vgg11 --weights none --views weights --format json
"""


def _view_list() -> str:
    lines = [
        f"  {e.name:<12} {e.summary}{' Only where it is named.' if e.optional else ''}"
        for e in VIEWS.entries.values()
    ]
    return "\b\nViews:\n" + "\n".join(lines)


@click.command("filters", epilog=f"{_EXAMPLES}\n{_view_list()}")
@common
@option(
    "--views",
    type=NameList(),
    metavar="A,B",
    help="Only these views, or all [default: all but optional ones].",
)
@option(
    "--layers",
    "--layer",
    type=Auto(NameList()),
    default="auto",
    help="Layers; auto: the last layer of each resolution.",
)
@option(
    "--channels", type=Auto(Numbers(int)), default="auto", help="Channels; auto: the most distinctive ones."
)
@option(
    "--images",
    type=Numbers(int),
    default="4",
    help="Number of images to show individually, or their indices: 0,5,7.",
)
@option("--steps", type=click.IntRange(min=1), default=STEPS, help="Optimisation steps of a feature picture.")
@AGAINST
@AGAINST_WEIGHTS
@option(
    "--concepts", metavar="FOLDER", help="Concepts for the view of that name: one subfolder of images each."
)
@option(
    "--masks", metavar="FOLDER", help="For the view dissection: images/NAME.jpg and masks/CONCEPT/NAME.png."
)
@spreading
@reporting
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Show the filters and what activates them.

    Without options: the embedded ImageNet network on the embedded photographs.
    """
    from probe.cli.configs import journal_for, resumable, second_model
    from studies import filters as study

    console = Console(options["quiet"])
    needs_images = options["views"] is None or not set(options["views"]) <= WITHOUT_IMAGES
    model, images = load(options, console, needs_images=needs_images)
    shown = options["images"]
    config = study.FiltersConfig(
        views=options["views"],
        layers=options["layers"],
        channels=options["channels"],
        images=shown[0] if len(shown) == 1 else shown,
        steps=options["steps"],
        concepts=options["concepts"],
        masks=options["masks"],
        batch_size=options["batch_size"],
        seed=options["seed"],
        jobs=options["jobs"],
        cluster=options["cluster"],
    )
    journal = journal_for(config, model, images, options["resume"], console)
    with resumable(journal, console, "parts"):
        report = study.run(
            model,
            images,
            config,
            progress=console,
            command=command_line(),
            journal=journal,
            against=second_model(model, options, console),
        )
    code = finish(report, options["out"], console, **report_options(options))
    journal.remove()
    ctx.exit(code)
