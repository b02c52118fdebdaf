"""``probe corrupt``: write corrupted copies of a folder of images."""

from __future__ import annotations

from pathlib import Path

import click

from probe.cli.console import Console, outcome
from probe.cli.options import option
from probe.cli.values import NameList, Numbers
from probe.core.errors import EXIT_SKIPPED
from probe.data.corruptions import CORRUPTIONS

_EXAMPLES = """\b
Examples:
  probe corrupt my_folder --out my_folder-C
  probe corrupt my_folder --out foggy --corruptions fog,frost --severity 3,5 --format png
"""


def _lists() -> str:
    rows = "\n".join(f"  {e.name:<20} {e.summary}" for e in CORRUPTIONS.entries.values())
    return f"{_EXAMPLES}\n\b\nCorruptions:\n{rows}"


@click.command("corrupt", short_help="Write corrupted copies of images.", epilog=_lists())
@click.argument("folder", type=click.Path(path_type=Path))
@option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    required=True,
    help="A new folder for the copies.",
)
@option(
    "--corruptions",
    type=NameList(),
    metavar="A,B",
    default="all",
    help="Kinds, or all: the 15 of ImageNet-C.",
)
@option("--severity", type=Numbers(int), metavar="N,N", default="1,2,3,4,5", help="Severities, 1 to 5.")
@option(
    "--img-size",
    type=click.IntRange(min=1),
    metavar="SIDE",
    help="Resize, and crop to this side [default: 224, and smaller images as they are].",
)
@option(
    "--format",
    "form",
    type=click.Choice(["jpeg", "png"]),
    default="jpeg",
    help="JPEG has quality 85, as published.",
)
@option("--seed", type=click.IntRange(min=0), default=0)
@option("-q", "--quiet", is_flag=True, help="Print the folder's path only.")
@option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    folder: Path,
    out: Path,
    corruptions: tuple[str, ...],
    severity: tuple[int, ...],
    img_size: int | None,
    form: str,
    seed: int,
    quiet: bool,
    debug: bool,
) -> None:
    """Write corrupted copies of a folder of images, in the layout of ImageNet-C.

    FOLDER has a subfolder for each class; the copies are DIR/CORRUPTION/SEVERITY/CLASS/IMAGE.
    `probe adversarial --data FOLDER --corruptions DIR` reads them.
    """
    from probe.data.corruptions import chosen
    from probe.tools.corrupt import corrupt_folder

    console = Console(quiet)
    copies = corrupt_folder(
        folder,
        out,
        chosen(corruptions),
        tuple(dict.fromkeys(severity)),
        side=img_size,
        form="png" if form == "png" else "jpeg",
        seed=seed,
        progress=console,
    )
    lines = [f"{copies.written} corrupted copies of {copies.images} images were written."]
    lines += [f"Skipped: {one.name}: {one.reason}." for one in copies.skipped[:3]]
    outcome(lines, str(out), console)
    ctx.exit(EXIT_SKIPPED if copies.skipped else 0)
