"""``probe train``: train a network and save its weights."""

from __future__ import annotations

from typing import Any

import click

from probe.cli.console import Console, outcome
from probe.cli.options import one_or_per_channel
from probe.cli.train_options import training
from probe.core.errors import EXIT_SKIPPED

_EXAMPLES = """\b
Examples:
  probe train zoo:resnet20 --data digits
  probe train zoo:resnet20 --data digits --seeds 3 --epochs 2
  probe train zoo:resnet20 -d digits --adversarial --eps 0.2 --out robust.safetensors
  probe train "resnet20?shortcut=False" --data my_folder --held-out 0.25 --epochs 20
"""


@click.command("train", short_help="Train a network and save its weights.", epilog=_EXAMPLES)
@click.argument("model")
@training
@click.pass_context
def command(ctx: click.Context, /, model: str, data: str, **options: Any) -> None:
    """Train a network from random weights, normally or adversarially, and save it.

    MODEL is the name of any model, such as zoo:resnet20. The accuracy is measured on held-out images, which are
    never trained on. Pass the file to any command as --weights FILE.
    """
    from probe.train.several import seeds_headline, train_seeds
    from probe.train.trainer import options_from, train

    console = Console(options.pop("quiet"))
    for name in ("mean", "std"):
        options[name] = one_or_per_channel(options[name], name)
    seeds, jobs, cluster = (options.pop(name) for name in ("seeds", "jobs", "cluster"))
    wanted = options_from(options)
    if seeds > 1:
        several = train_seeds(model, data, wanted, seeds, jobs=jobs, cluster=cluster, progress=console)
        outcome(seeds_headline(several), "\n".join(str(one.path) for one in several), console)
        ctx.exit(EXIT_SKIPPED if any(one.skipped for one in several) else 0)
    trained = train(model, data, wanted, console)
    outcome(trained.headline, str(trained.path), console)
    ctx.exit(EXIT_SKIPPED if trained.skipped else 0)
