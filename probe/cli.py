"""The command line: parse → load → study.run → render → exit code. No logic of its own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe import __version__
from probe.console import Console, line, outcome, summary, table
from probe.core.errors import EXIT_INTERRUPTED, EXIT_SKIPPED, ProbeError
from probe.graph.structure import STRUCTURES
from probe.options import (
    Auto,
    Names,
    Numbers,
    ablating,
    attacking,
    common,
    one_or_per_channel,
    option,
    training,
)
from studies.adversarial.registries import CHECKS
from studies.adversarial.registries import VIEWS as ADVERSARIAL_VIEWS
from studies.filters.view import VIEWS

if TYPE_CHECKING:
    from probe.core.report import Report
    from probe.data.images import ImageSet
    from probe.models.loaded import LoadedModel
    from probe.models.source import Row

REPORTS = Path("reports")

_EXAMPLES = """\b
Examples:
  probe filters                                  the embedded ImageNet network, no network needed
  probe filters --model resnet18
  probe filters -m my_net.py:net --weights my.pth -d my_folder --mean 0.5 --std 0.25
  probe adversarial --eps 0.03                   attack it, and know whether to believe the answer
  probe adversarial -m zoo:resnet20 -d digits --attack standard --norm L2 --eps 0.1
  probe ablate --remove shortcut                 take structure away, and measure what it was worth
  probe models resnet                            what can be loaded
  probe attacks L1                               what can be attacked with
"""


_TRAIN_EXAMPLES = """\b
Examples:
  probe train zoo:resnet20 --data digits --out resnet20.safetensors
  probe train zoo:resnet20 --data digits --adversarial --norm Linf --eps 0.2
  probe train "resnet20?shortcut=False" --data my_folder --held-out 0.25 --epochs 20
"""


@click.group(
    epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="probe")
def cli() -> None:
    """Ask of a convolutional network: what did it learn, how fragile is it, which parts do the work?"""


def _view_list() -> str:
    return "\b\nViews:\n" + "\n".join(f"  {e.name:<12} {e.summary}" for e in VIEWS.entries.values())


@cli.command(epilog=_view_list())
@common
@option("--views", type=Names(), metavar="A,B", help="Only these views [default: all].")
@option(
    "--layers", "--layer", type=Auto(Names()), default="auto", help="Layers, or the last of every resolution."
)
@option("--channels", type=Auto(Numbers(int)), default="auto", help="Channels, or those that stand out most.")
@option(
    "--images", type=Numbers(int), default="4", help="How many images to look at one by one, or which: 0,5,7."
)
@option("--steps", type=click.IntRange(min=1), default=128, help="Optimisation steps of a feature picture.")
@click.pass_context
def filters(ctx: click.Context, /, **options: Any) -> None:
    """Look at the filters and at what excites them.

    With no other word: the embedded ImageNet network on the embedded photographs.
    """
    from studies import filters as study

    console = Console(options["quiet"])
    model, images = _load(options, console)
    shown = options["images"]
    config = study.FiltersConfig(
        views=options["views"] or (),
        layers=options["layers"],
        channels=options["channels"],
        images=shown[0] if len(shown) == 1 else shown,
        steps=options["steps"],
        batch_size=options["batch_size"],
        seed=options["seed"],
    )
    report = study.run(model, images, config, progress=console, command=_command())
    ctx.exit(_finish(report, options["out"], console))


_ADVERSARIAL_EXAMPLES = """\b
Examples:
  probe adversarial --eps 0.03
  probe adversarial -m resnet18 -d imagenet-samples --eps 8/255
  probe adversarial -m zoo:resnet20 -d digits --attack standard --norm L2 --eps 0.1
  probe adversarial --eps 0:8/255:9 --attack pgd?steps=100,mifgsm,square
  probe adversarial -m zoo:resnet20 --weights robust.safetensors --against zoo:resnet20 --eps 0.2
"""


def _adversarial_lists() -> str:
    views = "\n".join(f"  {e.name:<12} {e.summary}" for e in ADVERSARIAL_VIEWS.entries.values())
    checks = "\n".join(f"  {e.name:<26} {e.summary}" for e in CHECKS.entries.values())
    return f"{_ADVERSARIAL_EXAMPLES}\n\b\nViews:\n{views}\n\n\b\nChecks:\n{checks}"


@cli.command(epilog=_adversarial_lists())
@common
@attacking
@click.pass_context
def adversarial(ctx: click.Context, /, **options: Any) -> None:
    """Attack a network, and know whether to believe the answer.

    With no other word: the embedded ImageNet network on the embedded photographs. EPS is in units of the
    pixel range: 0.03, 8/255, several with commas, or FROM:TO:COUNT. `probe attacks` lists the attacks.
    """
    from probe.study_words import adversarial_config, another_model, journal_for
    from studies import adversarial as study

    console = Console(options["quiet"])
    config = adversarial_config(options)
    model, images = _load(options, console)
    others = study.Others(
        tuple(another_model(name, model, options, console) for name in options["transfer_to"] or ()),
        another_model(options["against"], model, options, console, options["against_weights"])
        if options["against"]
        else None,
    )
    journal = journal_for(config, model, images, options["resume"], console)
    try:
        report = study.run(
            model, images, config, others=others, progress=console, command=_command(), journal=journal
        )
    except KeyboardInterrupt:
        console.say(f"{journal.saved + journal.loaded} finished batches are kept: add --resume to go on.")
        raise
    code = _finish(report, options["out"], console)
    journal.remove()
    ctx.exit(code)


_ABLATE_EXAMPLES = """\b
Examples:
  probe ablate --remove shortcut
  probe ablate --remove dropout,lrn
  probe ablate --remove shortcut --depths 8,20,56 --mode retrain
  probe ablate -m torchvision:resnet50 --weights none --remove block --mode lesion -d imagenet-samples
  probe ablate -m my_net.py:net --weights my.pth -d my_folder --remove norm --also robustness,calibration
"""


def _structure_list() -> str:
    rows = "\n".join(f"  {e.name:<12} {e.summary}" for e in STRUCTURES.entries.values())
    return f"{_ABLATE_EXAMPLES}\n\b\nStructures:\n{rows}"


@cli.command(epilog=_structure_list())
@common
@ablating
@click.pass_context
def ablate(ctx: click.Context, /, **options: Any) -> None:
    """Take structure away, and measure what it was worth.

    With no other word: the shortcuts of a ResNet-20, cut as it is and trained without, on digits.
    """
    from probe.study_words import ablated_model, ablation_config, journal_for, training_parts
    from studies import ablation as study

    console = Console(options["quiet"])
    config = ablation_config(options)
    options["model"], options["data"] = ablated_model(options)
    model, images = _load(options, console)
    training, untrainable = training_parts(options, model, images, console)
    journal = journal_for(config, model, images, options["resume"], console, training)
    try:
        report = study.run(
            model,
            images,
            config,
            training=training,
            untrainable=untrainable,
            progress=console,
            command=_command(),
            journal=journal,
        )
    except KeyboardInterrupt:
        console.say(f"{journal.saved + journal.loaded} finished trainings are kept: add --resume to go on.")
        raise
    code = _finish(report, options["out"], console)
    journal.remove()
    ctx.exit(code)


@cli.command(epilog=_structure_list())
@common
@option(
    "--remove", "kinds", type=Names(), metavar="A,B", help="Only these structures [default: all but filter]."
)
@click.pass_context
def structures(ctx: click.Context, /, **options: Any) -> None:
    """List the structures of a network that can be taken away: place, shape, parameters, MACs.

    The names are those that --sites takes.
    """
    from probe.study_words import ablated_model
    from studies.ablation.listing import structure_rows

    console = Console(options["quiet"])
    options["remove"] = options["kinds"] or ("shortcut",)
    options["model"], options["data"] = ablated_model(options)
    model, _ = _load(options, console)
    rows, notes = structure_rows(model, options["kinds"])
    table(("structure", "site", "place", "what", "shape", "parameters", "MACs"), rows)
    for note in notes:
        line(note)
    line(f"{len(rows)} {'site' if len(rows) == 1 else 'sites'}")


@cli.command()
@click.argument("query", default="")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def attacks(query: str, debug: bool) -> None:
    """List the attacks: norms, access, whether they can aim at a class, options, paper.

    QUERY is a part of a name, a norm such as L1, or an access such as decision-based.
    """
    from probe.attacks.listing import attack_rows

    rows = attack_rows(query)
    table(("name", "norms", "access", "kind", "target", "from", "options", "what it is", "paper"), rows)
    line(f"{len(rows)} {'attack' if len(rows) == 1 else 'attacks'}")


@cli.command()
@click.argument("query", default="")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def models(query: str, debug: bool) -> None:
    """List what can be loaded, where its weights would come from, and whether they are there now.

    QUERY is a part of a name, or a source such as zoo: or timm:
    """
    from probe.models.load import catalogue

    rows = catalogue(query)
    table(("name", "source", "weights", "come from", "here"), [_model_row(row) for row in rows])
    line(f"{len(rows)} {'model' if len(rows) == 1 else 'models'}")


@cli.command(epilog=_TRAIN_EXAMPLES)
@click.argument("model")
@training
@click.pass_context
def train(ctx: click.Context, /, model: str, data: str, **options: Any) -> None:
    """Train a network from random weights, plainly or against an adversary, and keep it.

    MODEL is any name that models are loaded by, such as zoo:resnet20. Accuracy is that of held-out images, which
    are never trained on. The file is given back to every command as --weights FILE.
    """
    from probe.models.train import options_from, train

    console = Console(options.pop("quiet"))
    for name in ("mean", "std"):
        options[name] = one_or_per_channel(options[name], name)
    done = train(model, data, options_from(options), console)
    outcome(done.headline, str(done.path), console)
    ctx.exit(EXIT_SKIPPED if done.skipped else 0)


def _model_row(row: Row) -> tuple[str, ...]:
    return row.name, row.source, ", ".join(row.weights) or "–", row.origin, ", ".join(row.present) or "no"


def _load(options: dict[str, Any], console: Console) -> tuple[LoadedModel, ImageSet]:
    from probe.models.pair import load_both

    return load_both(
        options["model"],
        options["data"],
        n=options["num_samples"],
        weights=options["weights"],
        img_size=options["img_size"],
        mean=one_or_per_channel(options["mean"], "mean"),
        std=one_or_per_channel(options["std"], "std"),
        labels=options["labels"],
        allow_partial=options["allow_partial"],
        device=options["device"],
        seed=options["seed"],
        offline=options["offline"],
        progress=console,
    )


def _finish(report: Report, out: Path | None, console: Console) -> int:
    """Write the report, say where it is, and return the exit code."""
    from probe.report.index import update_index
    from probe.report.place import report_folder
    from probe.report.render import write_report

    folder = out or report_folder(REPORTS, report.study, report.model.name, report.data.name, datetime.now())
    page = write_report(report, folder)
    if out is None:
        update_index(REPORTS)
    summary(report, str(page), console)
    return EXIT_SKIPPED if report.data.skipped else 0


def _command() -> str:
    return shlex.join(["probe", *sys.argv[1:]])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and end it with the documented exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Run one command and return its exit code; every error is one line on stderr."""
    console = Console()
    try:
        code = cli.main(words, prog_name="probe", standalone_mode=False)
    except click.ClickException as error:
        console.error(error.format_message())
        return error.exit_code
    except ProbeError as error:
        if "--debug" in words:
            raise
        console.error(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.error("interrupted; nothing was written.")
        return EXIT_INTERRUPTED
    except Exception as error:
        if "--debug" in words:
            raise
        console.error(f"{type(error).__name__}: {error} (a defect of probe; --debug shows where)")
        return ProbeError.exit_code
    return int(code or 0)
