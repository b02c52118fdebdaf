"""``probe anatomy``: the layers of a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.cli.console import Console, line, table, users_output
from probe.cli.options import option
from probe.cli.shared import FIGURES, check_place, command_line, write_page
from probe.cli.values import NameList, Size
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
@option("--compare", type=NameList(), metavar="A,B", help="Compare two networks side by side.")
@option(
    "--weights",
    metavar="WHICH",
    default="none",
    help="As for the studies; none of the numbers depend on the weights.",
)
@option("--img-size", type=Size(), help="Input side of the network, or height,width.")
@option("--all", "everything", is_flag=True, help="Also list norms, activations and additions.")
@option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="What to print.")
@option("--html", is_flag=True, help="Also write a report with figures.")
@FIGURES
@option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder of the report [default: a new one in reports/]; implies --html.",
)
@option("--seed", type=click.IntRange(min=0), default=0)
@option("--offline", is_flag=True, help="Never use the internet.")
@option("-q", "--quiet", is_flag=True, help="Print the report's path only.")
@option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """List a network's layers: sizes, parameters, MACs, memory, receptive field, paths.

    One MAC is one multiplication and one addition, so FLOPs = 2 × MACs. Papers often write "FLOPs" when they mean
    MACs, and "MAC" when they mean the number of parameters. An asterisk after a receptive field means that gates or
    norms that act on the whole map are ignored.
    """
    from probe.tools import anatomy as study
    from probe.tools.anatomy.examine import examine

    names = _names(options)
    console = Console(options["quiet"])
    config = study.AnatomyConfig(options["seed"])
    ctx.with_resource(users_output())
    if options["html"] or options["out"] is not None:
        check_place(options["out"])
    models = [_load(name, options, console) for name in names]
    with console.task("Looking at the layers", None):
        # Two variants of one family have the same name: what the user typed distinguishes them.
        same_name = len({model.name for model in models}) < len(models)
        examined = [
            examine(model, config, name if same_name else "")
            for name, model in zip(names, models, strict=True)
        ]
    if not options["quiet"] or options["form"] == "json":
        _print(examined, options)
    if options["html"] or options["out"] is not None:
        if len(models) == 1:
            report = study.run(models[0], config, examined=examined[0], command=command_line())
        else:
            report = study.compare(
                models[0], models[1], config, both=(examined[0], examined[1]), command=command_line()
            )
        page = write_page(report, options["out"], console, options["figures"])
        if options["form"] == "json":  # stdout gets nothing else
            console.say(f"Report: {page}")
        else:  # the headline has been printed already
            line(str(page))


def _names(options: dict[str, Any]) -> tuple[str, ...]:
    if options["compare"] is None:
        return (options["model"] or DEFAULT_MODEL,)
    if options["model"] is not None:
        raise UsageError("--compare already gives both networks: remove --model.")
    if len(options["compare"]) != 2:
        raise UsageError(f"--compare takes two names separated by a comma, not {len(options['compare'])}.")
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


def _print(networks: list[Examined], options: dict[str, Any]) -> None:
    import json

    from probe.tools.anatomy.rows import console_rows, console_totals, plain, unlisted
    from probe.tools.anatomy.study import headline

    if options["form"] == "json":
        values = [plain(network) for network in networks]
        line(json.dumps(values[0] if len(values) == 1 else {"compare": values}, ensure_ascii=False, indent=2))
        return
    for network in networks:
        if len(networks) > 1:
            line(f"{network.name} ({network.model.source})")
        table(*console_rows(network, options["everything"]))
        rest = "" if options["everything"] else unlisted(network)
        if rest:
            line(f"{rest} --all lists them.")
        if len(networks) == 1:
            for sentence in headline(network):
                line(f"• {sentence}")
        line("")
    if len(networks) > 1:
        from probe.tools.anatomy.comparison import headline as difference

        table(*console_totals(networks[0], networks[1]))
        for sentence in difference(networks[0], networks[1]):
            line(f"• {sentence}")
