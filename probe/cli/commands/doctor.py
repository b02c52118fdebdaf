"""``probe doctor``: find out why a network does not train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.cli.console import Console
from probe.cli.options import OPTIMIZER, common, option
from probe.cli.shared import command_line, finish, load, report_options, reporting
from probe.core.errors import UsageError
from probe.tools.doctor.registries import CAUSES

if TYPE_CHECKING:
    from torch import Tensor

    from probe.tools.doctor.plan import Loss

DEFAULT_MODEL, DEFAULT_DATA = "zoo:resnet20", "digits"

_EXAMPLES = """\b
Examples:
  probe doctor -m zoo:resnet20 -d digits
  probe doctor -m zoo:alexnet -d fashion-mnist --optimizer sgd --lr 0.5
  probe doctor -m my_net.py:net -d my_folder --lr 0.1 --loss my_losses.py:focal
"""


def _causes() -> str:
    return "\b\nCauses:\n" + "\n".join(f"  {e.name:<20} {e.summary}" for e in CAUSES.entries.values())


@click.command("doctor", epilog=f"{_EXAMPLES}\n{_causes()}")
@common
@option("--lr", type=float, help="Constant learning rate [default: depends on network and optimizer].")
@option("--steps", type=click.IntRange(min=1), default=40, help="Number of batches to train on.")
@OPTIMIZER
@option("--train-batch", type=click.IntRange(min=2), help="Batch size in training [default: --batch-size].")
@option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    help="Autocast precision of the forward pass.",
)
@option("--loss", metavar="FILE:FUNCTION", help="(logits, labels) → one number [default: cross-entropy].")
@option("--no-sweep", is_flag=True, help="Do not try other learning rates.")
@reporting
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Train for a few steps and diagnose what goes wrong.

    Without options: a ResNet-20 on digits. Training starts from random weights, from those given by --weights, or
    from those that your own function returns. The trained weights are discarded. The exit code is 0 whatever is found.
    """
    from probe.tools import doctor as study

    console = Console(options["quiet"])
    config = study.DoctorConfig(
        lr=options["lr"],
        steps=options["steps"],
        optimiser=options["optimiser"] or "adamw",
        train_batch=options["train_batch"] or max(2, options["batch_size"]),
        sweep=not options["no_sweep"],
        precision=options["precision"],
        loss=options["loss"] or "cross-entropy",
        seed=options["seed"],
    )
    how: dict[str, Any] = {} if options["loss"] is None else {"loss": _loss(options["loss"])}
    options["model"] = options["model"] or DEFAULT_MODEL
    options["data"] = _training_part(options["data"] or DEFAULT_DATA)
    options["weights"] = _start(options)
    model, images = load(options, console, strict=False)  # labels that do not fit are a finding
    report = study.run(model, images, config, progress=console, command=command_line(), **how)
    ctx.exit(finish(report, options["out"], console, **report_options(options)))


def _training_part(name: str) -> str:
    """Return the name of the data set's training part, or the name unchanged if it has none."""
    from probe.data.source import data_names

    part = f"{name}-train"
    return part if name in data_names() and part in data_names() else name


def _start(options: dict[str, Any]) -> str:
    """Return the weights to start from: those the user chose, those a user's function always returns, else random."""
    from functools import partial

    from probe.models.load import find_architecture
    from probe.models.source import Access, Build
    from probe.models.weights.reinitialise import always_same

    if options["weights"] != "default":
        return str(options["weights"])
    architecture = find_architecture(options["model"], Access(options["offline"], Console(True)))
    if not architecture.user_code:
        return "none"
    size = options["img_size"]
    build = Build(None, (size, size) if isinstance(size, int) else size)
    return "default" if always_same(partial(architecture.build, build)) else "none"


def _loss(text: str) -> Loss:
    """Return the user's loss; errors that it raises are reported with file and line."""
    from probe.core import usercode

    place, _, name = text.rpartition(":")
    if not place.endswith(".py") or not name.isidentifier():
        raise UsageError(f"--loss must be path/to/file.py:FUNCTION, not '{text}'.")
    path = Path(place).expanduser()
    function = usercode.attribute(usercode.load_file(path), name, place)
    if not callable(function):
        raise UsageError(f"{text} is not a function of (logits, labels).")

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = function(outputs, labels)
        return value

    return loss
