"""Robust accuracy from both sides: what linear bounds prove, and what attacks break."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from probe.attacks.norms import shown
from probe.certify.bounds import BoundedNetwork
from probe.certify.options import Bounds
from probe.core.blocks import Axis, Cell, Column, Figure, Table
from probe.core.document import Result, Section, percent
from probe.core.errors import NotApplicableError
from probe.core.seeds import generator
from probe.core.stats import wilson
from studies.adversarial.registries import VIEWS
from studies.adversarial.views._shares import accuracy_word, shares
from studies.adversarial.workspace import AdversarialWorkspace

MOST = 4e10
"""Neurons times multiply-accumulates, about what is computed for an image and epsilon, above which bounds would take minutes."""


@VIEWS.register("bounds", order=3)
def bounds(space: AdversarialWorkspace) -> Section:
    """Prove images robust by linear bounds: robust accuracy lies between what is certified and what is attacked."""
    if space.config.target is not None:
        raise NotApplicableError("Bounds are about every other class, and this run has a target class.")
    options = space.config.certificates.get("bounds", Bounds())
    assert isinstance(options, Bounds)
    order = torch.randperm(space.results.n, generator=generator(space.config.seed, "bounds")).tolist()
    places = list(space.readable(sorted(order[: options.images])))
    if not places:
        raise NotApplicableError("None of the images can be read any more.")
    network = BoundedNetwork(space.model.module, space.model.example())
    work = network.neurons * (space.model.macs or 0)
    if work > MOST:
        raise NotApplicableError(
            f"Bounds are for small networks: this one has {network.neurons:,} neurons and {space.model.macs:,} "
            "multiply-accumulates an image; use --certify smoothing."
        )
    epsilons = [epsilon for epsilon in space.results.epsilons if epsilon > 0]
    return _section(space, places, epsilons, _certified(space, network, places, epsilons))


def _certified(
    space: AdversarialWorkspace, network: BoundedNetwork, places: list[int], epsilons: list[float]
) -> NDArray[np.bool_]:
    """Return (epsilons, images): which are proved correct.

    What is proved at one epsilon is proved at all smaller ones, so the largest is looked for by bisection below the first
    epsilon at which an attack succeeds.
    """
    found = np.zeros((len(epsilons), len(places)), dtype=bool)
    robust = np.stack([space.results.robust(space.results.worst, epsilon)[places] for epsilon in epsilons])
    with space.progress.task("Bounding", len(places)) as advance:
        for column, place in enumerate(places):
            proved, refuted = 0, int(robust[:, column].sum())
            while proved < refuted:
                tried = (proved + refuted + 1) // 2
                images, labels = space.pixels([place]), space.labels([place])
                if network.certified(images, labels, epsilons[tried - 1], space.norm)[0]:
                    proved = tried
                else:
                    refuted = tried - 1
            found[:proved, column] = True
            advance(1)
    return found


def _section(
    space: AdversarialWorkspace, places: list[int], epsilons: list[float], certified: NDArray[np.bool_]
) -> Section:
    results, n = space.results, len(places)
    robust = np.stack([results.robust(results.worst, epsilon)[places] for epsilon in epsilons])
    proved, survived = certified.sum(1), robust.sum(1)
    if (certified & ~robust).any():
        raise RuntimeError("an attack broke an image that the bounds prove robust")
    rows: list[tuple[Cell, ...]] = []
    found = []
    for epsilon, low, high in zip(epsilons, proved.tolist(), survived.tolist(), strict=True):
        interval = (wilson(low, n)[0], wilson(high, n)[1])
        rows.append((shown(epsilon, space.norm), low, high, high - low, n, low / n, high / n, *interval))
        found.append(
            Result.proportion(
                f"certified_{accuracy_word(space)}@{epsilon:.6g}", low, n, higher_is_better=True
            )
        )
    at = min(range(len(epsilons)), key=lambda i: abs(epsilons[i] - space.epsilon))
    low, high = int(proved[at]), int(survived[at])
    are = "is" if high - low == 1 else "are"
    finding = (
        f"At {space.words(epsilons[at])}, {space.phrases.measure} lies between {percent(low / n, wilson(low, n))}, which is "
        f"proved, and {percent(high / n, wilson(high, n))}, which no attack broke; {high - low} of {n} images {are} undecided."
    )
    figure = Figure(
        "Robustness from both sides",
        "line",
        Axis(f"epsilon ({space.norm.name}, {space.norm.unit or 'pixel units, 1 is black to white'})"),
        Axis(space.phrases.measure),
        "Between the lines lie images that no attack breaks and no bound proves. Bands are 95% Wilson intervals.",
        (shares("attacked", epsilons, survived, n), shares("certified", epsilons, proved, n)),
    )
    table = Table(
        "Certified and attacked",
        (
            Column("epsilon", help="The requested radius."),
            Column(
                "Certified", help="Images for which the bounds prove that no perturbation changes the answer."
            ),
            Column(space.phrases.robust, help=space.phrases.robust_help),
            Column("Undecided", help="Neither proved nor broken."),
            Column("of", help="The number of images."),
            Column("Certified, share", proportion=True, help="A lower bound for these images."),
            Column("Attacked, share", proportion=True, help="An upper bound for these images."),
            *Column.interval(
                "from the lower end of the first share's 95% Wilson interval to the upper end of the second's",
                proportion=True,
            ),
        ),
        tuple(rows),
        "The bounds are sound for exact arithmetic and computed in float64, with a small margin for the network's rounding; they "
        "are not tight: an undecided image may be robust. Bounds by linear relaxation after Zhang et al. 2018 (CROWN).",
    )
    return Section(
        "bounds", "Certified bounds", blocks=(figure, table), results=tuple(found), findings=(finding,)
    )
