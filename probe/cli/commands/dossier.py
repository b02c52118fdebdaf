"""``probe dossier``: all three studies of one network, and how their results relate."""

from __future__ import annotations

from typing import Any

import click

from probe.cli.console import Console
from probe.cli.options import DEFAULT_EPSILONS, common, option, spreading
from probe.cli.shared import REPORTS, command_line, finish, load, report_options, reporting
from probe.cli.values import NameList

_EXAMPLES = """\b
Examples:
  probe dossier                                  the embedded ImageNet network on the embedded photographs
  probe dossier -m zoo:resnet20 -d digits
  probe dossier -m my_net.py:net --weights my.pth -d my_folder --layers layer2.1.conv1 --eps 4/255
"""


@click.command("dossier", epilog=_EXAMPLES)
@common
@option("--eps", metavar="EPS", help="Epsilon of the attack: 0.03 or 8/255 [default for Linf: 0.03].")
@option("--norm", default="Linf", metavar="NORM", help="Linf, L2, L1 or L0 (pixels).")
@option(
    "--layers",
    type=NameList(),
    metavar="A,B",
    help="Convolutions whose channels are measured [default: one, chosen automatically].",
)
@option(
    "--quick",
    is_flag=True,
    help="Fewer attack steps, fewer and faster pictures, and no checks of the attack.",
)
@spreading
@reporting
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Run all three studies on one network, and relate their results.

    Writes the three full reports into the folders filters, adversarial and ablation, and one report that links them:
    which channels the attack changes and how silencing them changes the loss, how removing single parts changes the
    accuracy on clean and on attacked images, and whether weights and activations of channels go with either. Nothing
    is trained (use probe ablate for that). Uses 40 images unless -n is given.
    """
    import tempfile
    from datetime import datetime
    from pathlib import Path

    from probe.attacks.norms import get_norm, parse_epsilons
    from probe.cli.configs import journal_for, resumable
    from probe.core.errors import CannotRunError, UsageError
    from probe.report.files import report_folder
    from probe.report.index import update_index
    from probe.report.render import write_report
    from probe.tools import dossier
    from probe.tools.dossier.choose import IMAGES

    console = Console(options["quiet"])
    norm = get_norm(options["norm"])
    epsilons = parse_epsilons(options["eps"] or DEFAULT_EPSILONS[norm.name], norm)
    if len(epsilons) != 1 or epsilons[0] <= 0:
        raise UsageError("A dossier takes one --eps above 0; it draws the curve around that value itself.")
    options["num_samples"] = options["num_samples"] or IMAGES
    model, images = load(options, console)
    config = dossier.DossierConfig(
        epsilon=epsilons[0],
        norm=norm.name,
        layers=options["layers"],
        quick=options["quick"],
        batch_size=options["batch_size"],
        seed=options["seed"],
        jobs=options["jobs"],
        cluster=options["cluster"],
    )
    journal = journal_for(config, model, images, options["resume"], console)
    with resumable(journal, console, "parts"):
        result = dossier.run(model, images, config, progress=console, command=command_line(), journal=journal)
    folder = options["out"] or report_folder(REPORTS, "dossier", model.name, images.name, datetime.now())
    try:
        for name, part in result.parts.items():
            write_report(part, folder / name, options["figures"])
    except CannotRunError as error:
        folder = Path(tempfile.mkdtemp(prefix="probe-report-"))
        for name, part in result.parts.items():
            write_report(part, folder / name, options["figures"])
        write_report(result.report, folder, options["figures"])
        raise CannotRunError(f"{error} The reports were written to {folder} instead.") from error
    code = finish(result.report, folder, console, **report_options(options))
    if options["out"] is None:
        update_index(REPORTS)
    journal.remove()
    ctx.exit(code)
