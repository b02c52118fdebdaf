"""``probe train``: train a network and keep it."""

from __future__ import annotations

from typing import Any

import click

from probe.cli.console import Console, outcome
from probe.cli.options import one_or_per_channel, training
from probe.core.errors import EXIT_SKIPPED

_EXAMPLES = """\b
Examples:
  probe train zoo:resnet20 --data digits --out resnet20.safetensors
  probe train zoo:resnet20 --data digits --adversarial --norm Linf --eps 0.2
  probe train "resnet20?shortcut=False" --data my_folder --held-out 0.25 --epochs 20
"""


@click.command("train", short_help="Train a network and keep its weights.", epilog=_EXAMPLES)
@click.argument("model")
@training
@click.pass_context
def command(ctx: click.Context, /, model: str, data: str, **options: Any) -> None:
    """Train a network from random weights, plainly or against an adversary, and keep it.

    MODEL is any name that models are loaded by, such as zoo:resnet20. Accuracy is that of held-out images, which
    are never trained on. The file is given back to every command as --weights FILE.
    """
    from probe.train.trainer import options_from, train

    console = Console(options.pop("quiet"))
    for name in ("mean", "std"):
        options[name] = one_or_per_channel(options[name], name)
    done = train(model, data, options_from(options), console)
    outcome(done.headline, str(done.path), console)
    ctx.exit(EXIT_SKIPPED if done.skipped else 0)
