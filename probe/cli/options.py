"""The options that the commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from probe.cli.values import CountOrAll, NameList, Numbers, Size
from probe.core.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def option(*names: str, **how: Any) -> Callable[[F], F]:
    """Declare an option whose default, if it has one, is shown in the help."""
    return click.option(*names, show_default="default" in how, **how)


FILE_PATH = click.Path(path_type=Path)
_FOLDER = click.Path(path_type=Path, file_okay=False)

_COMMON: tuple[Callable[[F], F], ...] = (
    option(
        "-m", "--model", metavar="NAME", help="resnet18, timm:NAME, net.py:factory, … (see: probe models)."
    ),
    option(
        "--weights",
        metavar="WHICH",
        default="default",
        help="default, none, digits, IMAGENET1K_V2, or a file.",
    ),
    option(
        "-d",
        "--data",
        metavar="WHICH",
        help="digits, imagenet-samples, fashion-mnist, cifar10, a folder, a file (an image, .npz, .npy), or my_data.py:function.",
    ),
    option(
        "-n",
        "--num-samples",
        type=CountOrAll(),
        metavar="N|all",
        help="Use at most N images, a seeded sample, or all [default: 1000, dossier 40].",
    ),
    option("-b", "--batch-size", type=click.IntRange(min=1), default=32),
    option("--img-size", type=Size(), help="Input side length of the network, or height,width."),
    option(
        "--mean",
        type=Numbers(float),
        help="Mean of the normalisation, for pixels in [0, 1]: one number or one per channel.",
    ),
    option("--std", type=Numbers(float), help="Standard deviation of the normalisation, like --mean."),
    option(
        "--resize",
        type=Size(),
        metavar="SIDE",
        help="Resize images to this shorter side (or to exactly height,width), then crop the centre.",
    ),
    option(
        "--crop",
        metavar="SHARE",
        help="Share of the resized image that the centre crop keeps, such as 0.875; none: no crop.",
    ),
    option("--interpolation", type=click.Choice(["nearest", "bilinear", "bicubic"]), help="For resizing."),
    option(
        "--output",
        metavar="KEY",
        help="Key, field or position of the logits, where your own network returns several tensors.",
    ),
    option("--labels", type=FILE_PATH, metavar="FILE", help="Class names: one per line, or JSON."),
    option(
        "--class-map",
        type=FILE_PATH,
        metavar="FILE",
        help="The network's class of each class folder: lines FOLDER,CLASS, or JSON.",
    ),
    option(
        "--labels-csv",
        metavar="FILE",
        help="Labels of a folder's images: a table, as FILE.csv or FILE.csv:FILE_COLUMN,LABEL_COLUMN.",
    ),
    option("--allow-partial", is_flag=True, help="Load a checkpoint even if not all of its keys match."),
    option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps."),
    option("--seed", type=click.IntRange(min=0), default=0),
    option(
        "--out", type=_FOLDER, metavar="DIR", help="Folder of the report [default: a new one in reports/]."
    ),
    option("--offline", is_flag=True, help="Never use the internet."),
    option("-q", "--quiet", is_flag=True, help="Print the report's path only."),
    option("--debug", is_flag=True, help="Show the traceback of an error."),
)


def common(function: F) -> F:
    """Add the shared options to a command."""
    for add in reversed(_COMMON):
        function = add(function)
    return function


def one_or_per_channel(values: tuple[float, ...] | None, name: str) -> tuple[float, ...] | None:
    """Check a normalisation option: finite numbers, and a positive std; raises UsageError."""
    import math

    if values is None:
        return None
    if not all(math.isfinite(value) for value in values):
        raise UsageError(f"--{name} takes finite numbers; got {', '.join(map(str, values))}.")
    if name == "std" and min(values) <= 0:
        raise UsageError(f"--std must be positive; got {', '.join(map(str, values))}.")
    if max(abs(value) for value in values) > 20:
        raise UsageError(f"--{name} is for pixels in [0, 1]; divide {values[0]:g} by 255.")
    return values


DEFAULT_EPSILONS = {"Linf": "0.03", "L2": "1", "L1": "12", "L0": "16"}
"""The epsilon for each norm when none is given."""

CLUSTER = option(
    "--cluster",
    metavar="ADDRESS",
    help="Work on a dask cluster: tcp://HOST:PORT, the path of a scheduler file, or local:N.",
)

RESUME = option("--resume", is_flag=True, help="Continue the same run where it was interrupted.")

SPREAD: tuple[Callable[[F], F], ...] = (
    option(
        "--jobs",
        type=click.IntRange(min=0),
        default=1,
        help="Processes that share the work, with the same results; 0: one per core.",
    ),
    CLUSTER,
    RESUME,
)


def spreading(function: F) -> F:
    """Add the options that share the work of a study among processes, and resume it, to a command."""
    for add in reversed(SPREAD):
        function = add(function)
    return function


AGAINST = option("--against", metavar="MODEL", help="Compare with another network.")
AGAINST_WEIGHTS = option(
    "--against-weights", metavar="WHICH", help="Weights of that network, as for --weights."
)

_ATTACKING: tuple[Callable[[F], F], ...] = (
    option(
        "--eps",
        metavar="EPS",
        help="0.03, 8/255, 1/255,4/255 or 0:8/255:9; attacked in full at each [default for Linf: 0.03].",
    ),
    option("--norm", default="Linf", metavar="NORM", help="Linf, L2, L1 or L0 (pixels)."),
    option(
        "--attack",
        type=NameList(),
        metavar="A,B",
        help="Attacks, with options: pgd?steps=100 [default: apgd-ce,apgd-dlr].",
    ),
    option("--target", metavar="CLASS", help="Targeted attack: the target class, least-likely or random."),
    option("--restarts", type=click.IntRange(min=1), help="Restarts, for attacks that support them."),
    option("--steps", type=click.IntRange(min=1), help="Steps, for attacks that support them."),
    option(
        "--transfer-to",
        type=NameList(),
        metavar="M,M",
        help="Test the adversarial images on these networks too.",
    ),
    AGAINST,
    AGAINST_WEIGHTS,
    option("--views", type=NameList(), metavar="A,B", help="Only these views [default: all]."),
    option("--checks", type=NameList(), metavar="A,B", help="Only these checks [default: all]."),
    option(
        "--corruptions",
        type=NameList(),
        metavar="A,B",
        help="Kinds of corruption, all (the 15 of ImageNet-C), or a folder laid out as ImageNet-C or CIFAR-10-C [default: 6 kinds].",
    ),
    option(
        "--certify",
        type=NameList(),
        is_flag=False,
        flag_value="bounds,smoothing",
        metavar="[A,B]",
        help="Prove robustness: bounds (small networks), smoothing?sigma=0.25&n=1000 (L2); alone: both.",
    ),
    option(
        "--threats",
        type=NameList(),
        metavar="A,B",
        help="Try other threats than the norm: spatial, colour, universal, patch, or all; with options: spatial?degrees=10.",
    ),
    option(
        "--adapt",
        is_flag=True,
        help="Where checks fail, attack as they ask for: averaged gradients, around what masks them, logits, a search.",
    ),
    option("--no-checks", is_flag=True, help="Do not check whether the evaluation can be trusted."),
    option(
        "--images", type=Numbers(int), default="4", help="Number of images to show, or their indices: 0,5,7."
    ),
    option(
        "--full-precision", is_flag=True, help="Compute gradients in float32 even where bfloat16 is faster."
    ),
    *SPREAD,
)


def attacking(function: F) -> F:
    """Add the options of the adversarial study to a command."""
    for add in reversed(_ATTACKING):
        function = add(function)
    return function


OPTIMIZER = option(
    "--optimizer", "--optimiser", "optimiser", type=click.Choice(["sgd", "adamw"]), help="[default: adamw]"
)

RECIPE: tuple[Callable[[F], F], ...] = (
    option("--epochs", type=click.IntRange(min=1), help="[default: depends on network and data]"),
    option("--lr", type=float, help="Peak learning rate [default: depends on the network]."),
    OPTIMIZER,
    option("--schedule", type=click.Choice(["one-cycle", "cosine", "constant"]), help="[default: one-cycle]"),
    option("--weight-decay", type=float, help="[default: 0.05]"),
    option("--label-smoothing", type=float, help="[default: 0.05, adversarial 0]"),
    option(
        "--augment",
        type=NameList(),
        metavar="A,B",
        help="shift, flip, cutout or none [default: shift, and flip if mirroring keeps the class].",
    ),
    option("--held-out", type=float, metavar="SHARE", help="Share of a folder to hold out [default: 0.2]."),
)
"""The training options of every command that trains."""

_ABLATING: tuple[Callable[[F], F], ...] = (
    option(
        "--remove",
        type=NameList(),
        metavar="A,B",
        help="Structures to remove, with options: pool?to=max (see: probe structures) [default: shortcut].",
    ),
    option(
        "--swap",
        type=NameList(),
        metavar="A,B",
        help="Structures to replace and retrain: kernel?to=stacked, activation?to=gelu, …",
    ),
    option(
        "--mode",
        type=click.Choice(["auto", "lesion", "retrain", "both"]),
        default="auto",
        help="Ablate without retraining (lesion), retrain without it, or both; auto: both if cheap enough.",
    ),
    option("--sites", type=NameList(), metavar="A,B", help="Only these sites (see: probe structures)."),
    option(
        "--max-sites",
        type=click.IntRange(min=1),
        default=64,
        help="Maximum number of sites ablated individually.",
    ),
    option(
        "--draws",
        type=click.IntRange(min=1),
        default=5,
        help="Random choices of sites for each number of ablated sites.",
    ),
    option(
        "--calibration-samples",
        type=click.IntRange(min=2),
        metavar="N",
        default=256,
        help="Images for re-estimating batch-norm statistics.",
    ),
    option(
        "--seeds", type=click.IntRange(min=1), default=3, help="Number of trainings (seeds) for every arm."
    ),
    option("--depths", type=Numbers(int), metavar="N,N", help="Sweep the depth of the network: 8,20,56."),
    option(
        "--match-parameters",
        is_flag=True,
        help="Widen the ablated network to match the intact network's parameter count.",
    ),
    option(
        "--also",
        type=NameList(),
        metavar="A,B",
        help="robustness (PGD at --eps), calibration (ECE), landscape (the loss nearby).",
    ),
    option("--eps", "epsilon", metavar="EPS", help="For --also robustness [default for Linf: 0.03]."),
    option("--norm", default="Linf", metavar="NORM", help="Linf, L2, L1 or L0, for --also robustness."),
    option("--train-samples", type=click.IntRange(min=2), metavar="N", help="Train on N images, a sample."),
    *RECIPE,
    option("--train-batch", type=click.IntRange(min=2), help="Batch size in training [default: 64]."),
    option(
        "--jobs",
        type=click.IntRange(min=0),
        default=0,
        help="Processes that train and measure lesions; 0: one per core for the trainings.",
    ),
    CLUSTER,
    RESUME,
)


def ablating(function: F) -> F:
    """Add the options of the ablation study to a command."""
    for add in reversed(_ABLATING):
        function = add(function)
    return function
