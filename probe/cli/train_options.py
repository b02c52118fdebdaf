"""The options of ``probe train``."""

from __future__ import annotations

from collections.abc import Callable

import click

from probe.cli.options import CLUSTER, FILE_PATH, RECIPE, F, option
from probe.cli.values import Numbers, Size

_TRAINING: tuple[Callable[[F], F], ...] = (
    option(
        "-d",
        "--data",
        metavar="WHICH",
        required=True,
        help="digits, fashion-mnist, cifar10, or a folder with a subfolder for each class.",
    ),
    option(
        "--adversarial",
        type=click.Choice(["pgd", "trades", "fast"]),
        is_flag=False,
        flag_value="pgd",
        help="Train against perturbations: pgd (Madry 2018), trades (Zhang 2019), fast (one step, Wong 2020) [alone: pgd].",
    ),
    option("--norm", metavar="Linf|L2", help="Norm of the perturbation [default: Linf]."),
    option(
        "--eps",
        "epsilon",
        metavar="SIZE",
        help="Size of the perturbation: 0.2 or 8/255 [default, Linf: digits 0.2, fashion-mnist 0.1, else 8/255].",
    ),
    option(
        "--steps",
        type=click.IntRange(min=1),
        help="Gradient steps for each perturbation [default: 7, trades 10].",
    ),
    option("--beta", type=float, help="Weight of the perturbed images, for trades [default: 6]."),
    option(
        "--noise",
        type=float,
        metavar="SIGMA",
        help="Add normal noise to every image, for --certify smoothing.",
    ),
    option("--batch-size", "-b", type=click.IntRange(min=2), help="[default: 64, adversarial 32]"),
    *RECIPE,
    option(
        "-n",
        "--num-samples",
        type=click.IntRange(min=2),
        metavar="N",
        help="Train on N images, a seeded sample; the held-out part is not sampled.",
    ),
    option(
        "--img-size", type=Size(), help="Input side length, or height,width [default: the network's, or 64]."
    ),
    option(
        "--mean",
        type=Numbers(float),
        help="Mean of the normalisation, for pixels in [0, 1] [default: 0.5 per channel].",
    ),
    option("--std", type=Numbers(float), help="Standard deviation, like --mean [default: 0.5]."),
    option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps."),
    option("--seed", type=click.IntRange(min=0), default=0),
    option(
        "--seeds",
        type=click.IntRange(min=1),
        default=1,
        help="Train this many networks, with seeds from --seed on; the file's name says which.",
    ),
    option(
        "--jobs",
        type=click.IntRange(min=0),
        default=0,
        help="Processes that train them; 0: one per core.",
    ),
    CLUSTER,
    option(
        "--out",
        type=FILE_PATH,
        metavar="FILE",
        help="File for the weights, .safetensors [default: ./MODEL-DATA.safetensors].",
    ),
    option("--force", is_flag=True, help="Overwrite the file if it exists."),
    option("--resume", is_flag=True, help="Continue the same training where it was interrupted or killed."),
    option("--offline", is_flag=True, help="Never use the internet."),
    option("-q", "--quiet", is_flag=True, help="Print the file's path only."),
    option("--debug", is_flag=True, help="Show the traceback of an error."),
)


def training(function: F) -> F:
    """Add the training options to a command."""
    for add in reversed(_TRAINING):
        function = add(function)
    return function
