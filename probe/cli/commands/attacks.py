"""``probe attacks``: the attacks that can be used, and minimum-norm attacks side by side on a network."""

from __future__ import annotations

from typing import Any

import click

from probe.cli.console import Console, line, table, users_output
from probe.cli.options import option
from probe.cli.values import CountOrAll, NameList
from probe.core.errors import UsageError

DEFAULT_MODEL, DEFAULT_DATA, DEFAULT_COUNT = "zoo:resnet20", "digits", 50

_EXAMPLES = """\b
Examples:
  probe attacks
  probe attacks L1
  probe attacks decision-based
  probe attacks L2 --bench -m zoo:resnet20 -d digits -n 50 --attack fmn,ddn,deepfool
"""


@click.command("attacks", short_help="List the attacks, or compare them on a network.", epilog=_EXAMPLES)
@click.argument("query", default="")
@option("--bench", is_flag=True, help="Run the minimum-norm attacks for the norm QUERY on a network.")
@option("-m", "--model", metavar="NAME", default=DEFAULT_MODEL, help="With --bench: the network.")
@option("--weights", metavar="WHICH", default="default", help="With --bench: as for the studies.")
@option("-d", "--data", metavar="WHICH", default=DEFAULT_DATA, help="With --bench: the images.")
@option(
    "-n",
    "--num-samples",
    type=CountOrAll(),
    metavar="N",
    default=DEFAULT_COUNT,
    help="With --bench: the number of images, or all.",
)
@option("-b", "--batch-size", type=click.IntRange(min=1), default=32)
@option(
    "--attack",
    "attacks",
    type=NameList(),
    metavar="A,B",
    help="With --bench: these attacks [default: all white-box ones that fit].",
)
@option("--steps", type=click.IntRange(min=1), help="With --bench: steps of the attacks that have any.")
@option("--device", metavar="NAME", default="auto", help="With --bench: auto, cpu, cuda, …")
@option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="With --bench: what to print.",
)
@option("--seed", type=click.IntRange(min=0), default=0)
@option("--offline", is_flag=True, help="Never use the internet.")
@option("-q", "--quiet", is_flag=True, help="No progress.")
@option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """List the attacks: norms, access, whether they support targeted attacks, options, paper.

    QUERY is part of a name, a norm such as L1, or an access such as decision-based.

    With --bench, the attacks that look for the smallest perturbation run on the images that a network classifies correctly:
    success, median size with its interval, queries and gradients an image, and local optimality, the area above the robustness
    curve as a share of that of the best of all attacks, image by image.
    """
    if options["bench"]:
        _bench(ctx, options)
        return
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        if (
            name not in ("query", "bench", "debug", "quiet")
            and source is click.core.ParameterSource.COMMANDLINE
        ):
            flag = next(max(one.opts, key=len) for one in ctx.command.params if one.name == name)
            raise UsageError(f"{flag} is for comparing attacks on a network: add --bench, or remove {flag}.")
    from probe.attacks.select import attack_rows

    rows = attack_rows(options["query"])
    table(("name", "norms", "access", "kind", "target", "from", "options", "what it is", "paper"), rows)
    line(f"{len(rows)} {'attack' if len(rows) == 1 else 'attacks'}")


def _bench(ctx: click.Context, options: dict[str, Any]) -> None:
    import json

    from probe.attacks.norms import get_norm
    from probe.data.load import load_images
    from probe.models.load import load_model
    from probe.tools.attack_bench import COLUMNS, bench_attacks, bench_choice, cells, plain

    norm = get_norm(options["query"] or "L2")
    chosen = bench_choice(tuple(options["attacks"] or ()), norm, options["steps"])
    console = Console(options["quiet"])
    ctx.with_resource(users_output())
    shared = {"seed": options["seed"], "offline": options["offline"], "progress": console}
    images = load_images(options["data"], n=options["num_samples"], **shared)
    model = load_model(
        options["model"],
        weights=options["weights"],
        num_classes=images.num_classes,
        device=options["device"],
        **shared,
    )
    rows = bench_attacks(
        model, images, norm, chosen, batch_size=options["batch_size"], seed=options["seed"], progress=console
    )
    if options["form"] == "json":
        values = {
            "model": model.name,
            "data": images.name,
            "norm": norm.name,
            "attacks": [plain(r) for r in rows],
        }
        line(json.dumps(values, ensure_ascii=False, indent=2))
        return
    table(COLUMNS, [cells(row, norm) for row in rows])
    line(
        f"{norm.name} on {rows[0].n} images of {images.name} that {model.name} classifies correctly; – is infinite"
    )
