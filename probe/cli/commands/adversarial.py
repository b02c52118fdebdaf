"""``probe adversarial``: attack a network."""

from __future__ import annotations

from typing import Any

import click

from probe.attacks.threats import THREATS
from probe.cli.console import Console
from probe.cli.options import attacking, common, option
from probe.cli.shared import command_line, finish, load, report_options, reporting
from probe.core.registry import Registry
from probe.data.corruptions import CORRUPTIONS
from studies.adversarial.registries import CHECKS, VIEWS

_EXAMPLES = """\b
Examples:
  probe adversarial --eps 0.03
  probe adversarial -m resnet18 -d imagenet-samples --eps 8/255
  probe adversarial -m zoo:resnet20 -d digits -n 10 --attack standard --norm L2 --eps 0.1
  probe adversarial --eps 0:8/255:9 --attack "pgd?steps=100,mifgsm" --target least-likely
  probe adversarial -m zoo:resnet20 --weights robust.safetensors --against zoo:resnet20 --eps 0.2
  probe adversarial -m my_net.py:net --weights my.pth -d my_folder --fail-under robust_accuracy=0.4
  probe adversarial -m zoo:lenet -d digits -n 20 --eps 0.01 --certify
  probe adversarial -m zoo:lenet -d digits --eps 0.1 --threats spatial,patch
  probe adversarial --save-images npz --format json > results.json
"""


def _lists() -> str:
    kinds: dict[str, Registry[Any]] = {
        "Views": VIEWS,
        "Checks": CHECKS,
        "Threats": THREATS,
        "Corruptions": CORRUPTIONS,
    }
    lists = []
    for title, registry in kinds.items():
        entries = registry.entries.values()
        wide = max(len(entry.name) for entry in entries)
        lines = "\n".join(f"  {entry.name:<{wide}} {entry.summary}" for entry in entries)
        lists.append(f"\b\n{title}:\n{lines}")
    return "\n\n".join([_EXAMPLES, *lists])


@click.command("adversarial", epilog=_lists())
@common
@attacking
@option(
    "--save-images",
    type=click.Choice(["png", "npz"]),
    help="Save one adversarial image for each image that was broken, from the attack with the smallest perturbation, "
    "in images/. npz is exact; PNG rounds to 8 bits, which can leave the epsilon ball or undo the attack "
    "(images/index.json says where).",
)
@reporting
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Attack a network, and check whether the result can be trusted.

    Without options: the embedded ImageNet network on the embedded photographs. EPS is in units of the
    pixel range: 0.03, 8/255, several separated by commas, or FROM:TO:COUNT. `probe attacks` lists the attacks.
    """
    from probe.cli.configs import adversarial_config, another_model, journal_for, resumable, second_model
    from studies import adversarial as study

    console = Console(options["quiet"])
    config = adversarial_config(options)
    model, images = load(options, console)
    others = study.ComparisonModels(
        tuple(another_model(name, model, options, console) for name in options["transfer_to"] or ()),
        second_model(model, options, console),
    )
    journal = journal_for(config, model, images, options["resume"], console)
    with resumable(journal, console, "batches"):
        report = study.run(
            model, images, config, others=others, progress=console, command=command_line(), journal=journal
        )
    code = finish(report, options["out"], console, **report_options(options))
    journal.remove()
    ctx.exit(code)
