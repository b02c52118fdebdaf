"""``probe anatomy``: what a network is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.cli.console import Console, line, table
from probe.cli.options import NameList, Size, option
from probe.cli.shared import typed, written
from probe.core.errors import UsageError

if TYPE_CHECKING:
    from probe.models.loaded import LoadedModel
    from probe.tools.anatomy.examine import Examined

DEFAULT_MODEL = "resnet18"

_EXAMPLES = """\b
Examples:
  probe anatomy --model resnet18
  probe anatomy --model torchvision:resnext50_32x4d --html
  probe anatomy --model timm:convnext_atto --img-size 160 --all
  probe anatomy --model my_net.py:net --format json
  probe anatomy --compare torchvision:resnet50,torchvision:resnext50_32x4d --html
"""


@click.command(
    "anatomy", short_help="List a network's layers: sizes, parameters, MACs, paths.", epilog=_EXAMPLES
)
@option("-m", "--model", metavar="NAME", help="resnet18, timm:NAME, net.py:factory, … (see: probe models).")
@option("--compare", type=NameList(), metavar="A,B", help="Put two networks side by side.")
@option("--weights", metavar="WHICH", default="none", help="As for the studies; no number depends on them.")
@option("--img-size", type=Size(), help="Input side of the network, or height,width.")
@option("--all", "everything", is_flag=True, help="List norms, activations and additions too.")
@option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="What is printed.")
@option("--html", is_flag=True, help="Write a report as well, with figures.")
@option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder of the report [default: a new one in reports/]; implies --html.",
)
@option("--seed", type=click.IntRange(min=0), default=0)
@option("--offline", is_flag=True, help="Never try the network.")
@option("-q", "--quiet", is_flag=True, help="Print the report's path only.")
@option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """List a network's layers: sizes, parameters, MACs, memory, receptive field, paths.

    One MAC is a multiplication and an addition, so FLOPs = 2 × MACs; texts that give "FLOPs" and "MAC" often mean
    MACs by the first and the number of parameters by the second. An asterisk after a receptive field says that gates
    or norms of the whole map are left out of it.
    """
    from probe.tools import anatomy as study
    from probe.tools.anatomy.examine import examine

    names = _names(options)
    console = Console(options["quiet"])
    config = study.AnatomyConfig(options["seed"])
    models = [_load(name, options, console) for name in names]
    with console.task("Looking at the layers", None):
        # Two builds of one family have the same name: then what was typed tells them apart.
        alike = len({model.name for model in models}) < len(models)
        found = [
            examine(model, config, name if alike else "") for name, model in zip(names, models, strict=True)
        ]
    if not options["quiet"] or options["form"] == "json":
        _print(found, options)
    if options["html"] or options["out"] is not None:
        if len(models) == 1:
            report = study.run(models[0], config, one=found[0], command=typed())
        else:
            report = study.compare(models[0], models[1], config, both=(found[0], found[1]), command=typed())
        page = written(report, options["out"], console)
        if options["form"] == "json":  # which is all that stdout gets
            console.say(f"The report: {page}")
        else:  # the headline is there already
            line(str(page))


def _names(options: dict[str, Any]) -> tuple[str, ...]:
    if options["compare"] is None:
        return (options["model"] or DEFAULT_MODEL,)
    if options["model"] is not None:
        raise UsageError("--compare names both networks: leave --model out.")
    if len(options["compare"]) != 2:
        raise UsageError(
            f"--compare takes two names with a comma between them, not {len(options['compare'])}."
        )
    names: tuple[str, ...] = options["compare"]
    return names


def _load(name: str, options: dict[str, Any], console: Console) -> LoadedModel:
    from probe.models.load import load_model

    return load_model(
        name,
        weights=options["weights"],
        img_size=options["img_size"],
        device="cpu",
        offline=options["offline"],
        seed=options["seed"],
        progress=console,
    )


def _print(found: list[Examined], options: dict[str, Any]) -> None:
    import json

    from probe.tools.anatomy.rows import console_rows, console_totals, plain, unlisted
    from probe.tools.anatomy.study import headline

    if options["form"] == "json":
        values = [plain(one) for one in found]
        line(json.dumps(values[0] if len(values) == 1 else {"compare": values}, ensure_ascii=False, indent=2))
        return
    for one in found:
        if len(found) > 1:
            line(f"{one.name} ({one.model.source})")
        table(*console_rows(one, options["everything"]))
        rest = "" if options["everything"] else unlisted(one)
        for sentence in ([f"{rest} --all lists them."] if rest else []) + [
            f"• {each}" for each in headline(one) if len(found) == 1
        ]:
            line(sentence)
        line("")
    if len(found) > 1:
        from probe.tools.anatomy.comparison import headline as difference

        table(*console_totals(found[0], found[1]))
        for each in difference(found[0], found[1]):
            line(f"• {each}")
