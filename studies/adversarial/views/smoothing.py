"""Randomised smoothing: a voting classifier whose answer is proved within an L2 radius, and attacked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.certify.options import Smoothing
from probe.certify.smoothing import ABSTAINED, attacked, certificate, predict
from probe.core.blocks import Axis, Cell, Column, Figure, Table
from probe.core.document import Result, Section, percent
from probe.core.errors import NotApplicableError
from probe.core.seeds import generator
from probe.core.stats import wilson
from studies.adversarial.registries import VIEWS
from studies.adversarial.views._shares import accuracy_word, shares
from studies.adversarial.workspace import AdversarialWorkspace

RADII = (0.5, 1.0, 1.5, 2.0)
"""L2 radii of the attack and the table, in sigmas."""

STEPS, SAMPLES = 20, 8
"""Steps of the attack, and draws of noise in each."""

_POINTS = 41


@VIEWS.register("smoothing", order=3)
def smoothing(space: AdversarialWorkspace) -> Section:
    """Certify the network smoothed by Gaussian noise, and attack it with expectation over the noise."""
    if space.config.target is not None:
        raise NotApplicableError("Smoothing is about every other class, and this run has a target class.")
    options = space.config.certificates.get("smoothing", Smoothing())
    assert isinstance(options, Smoothing)
    order = torch.randperm(space.results.n, generator=generator(space.config.seed, "smoothing")).tolist()
    places = list(space.readable(sorted(order[: options.images])))
    if not places:
        raise NotApplicableError("None of the images can be read any more.")
    with space.progress.task("Smoothing", len(places)) as advance:
        found = []
        for place in places:
            found.append(_one(space, place, options))
            advance(1)
    return _section(space, options, found)


@dataclass(frozen=True)
class _SmoothedImage:
    """One image: whether the smoothed answer is right or abstained, its radius, and whether the attack changes it at each of RADII."""

    right: bool
    abstained: bool
    radius: float
    broken: tuple[bool, ...]


def _one(space: AdversarialWorkspace, place: int, options: Smoothing) -> _SmoothedImage:
    image, label = space.pixels([place])[0], int(space.labels([place])[0])

    def draws(*key: str) -> torch.Generator:
        return generator(space.config.seed, "smoothing", str(int(space.results.clean.index[place])), *key)

    def logits(images: Tensor) -> Tensor:
        return space.model.logits(images, options.batch)

    made = certificate(logits, image, options, draws("certificate"))
    broken: list[bool] = []
    for radius in RADII:
        if broken and broken[-1]:  # a larger ball contains the smaller one
            broken.append(True)
            continue
        epsilon = radius * options.sigma
        moved = attacked(
            space.attacked,
            image,
            label,
            epsilon,
            options,
            draws("attack", str(radius)),
            steps=STEPS,
            samples=SAMPLES,
        )
        answer = predict(logits, moved, options, draws("predict", str(radius)))
        broken.append(answer not in (label, ABSTAINED))
    return _SmoothedImage(made.answer == label, made.answer == ABSTAINED, made.radius, tuple(broken))


def _section(space: AdversarialWorkspace, options: Smoothing, found: list[_SmoothedImage]) -> Section:
    n, measure = len(found), accuracy_word(space)
    radii = np.array([each.radius if each.right else -1.0 for each in found])
    abstained = sum(each.abstained for each in found)
    grid = np.linspace(0, RADII[-1] * options.sigma, _POINTS)
    certified = _counts(radii, grid)
    steps = np.array(RADII) * options.sigma
    survived = np.array([n - sum(each.broken[i] for each in found) for i in range(len(RADII))])
    figure = Figure(
        f"The smoothed network: certified and attacked {measure}",
        "line",
        Axis("L2 radius (pixel units, 1 is black to white)"),
        Axis(measure),
        f"Votes over Gaussian noise of sigma {options.sigma:g}. Certified: {options.n:,} votes, each certificate wrong with a "
        f"probability of at most {options.alpha:g}. Attacked: {STEPS} steps of gradient ascent over {SAMPLES} draws of noise. "
        "Bands are 95% Wilson intervals over images.",
        (shares("attacked", steps, survived, n), shares("certified", grid, certified, n)),
    )
    rows: list[tuple[Cell, ...]] = []
    results = []
    for radius, high in zip((0.0, *steps), (None, *survived.tolist()), strict=True):
        low = int((radii >= radius).sum())
        rows.append((float(radius), low, high, n, low / n, *wilson(low, n)))
        name = f"smoothed_{measure}" if radius == 0 else f"smoothed_certified_{measure}@{radius:.6g}"
        results.append(Result.proportion(name, low, n, higher_is_better=True))
    table = Table(
        "Certified and attacked, smoothed",
        (
            Column("L2 radius", digits=4, help="In pixel units; 0 is the smoothed network's own accuracy."),
            Column("Certified", help="Images whose right answer is proved within this radius."),
            Column("Not broken", help="Images whose answer the attack does not change to another class."),
            Column("of", help="The number of images."),
            Column("Certified, share", proportion=True, help="With its 95% Wilson interval beside it."),
            *Column.interval(proportion=True),
        ),
        tuple(rows),
        f"For {abstained} of {n} images the votes do not settle an answer; they count as not certified. A radius is at most "
        f"{options.sigma * _largest(options):.3g} with {options.n:,} votes. This is about the network that votes over noise, not about "
        "the network itself. Cohen et al. 2019; attack after Salman et al. 2019.",
    )
    own = int((radii >= 0).sum())
    half = int((radii >= options.sigma).sum())
    finding = (
        f"Smoothed with noise of sigma {options.sigma:g}, {percent(own / n, wilson(own, n))} of {n} images are right, and "
        f"{percent(half / n, wilson(half, n))} are proved so within L2 {options.sigma:g}; {abstained} abstained."
    )
    return Section(
        "smoothing",
        "Randomised smoothing",
        blocks=(figure, table),
        results=tuple(results),
        findings=(finding,),
    )


def _largest(options: Smoothing) -> float:
    """Return the largest radius that the votes can prove, in sigmas: all votes agree."""
    from scipy.stats import norm

    return float(norm.ppf(options.alpha ** (1 / options.n)))


def _counts(radii: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.array([int((radii >= radius).sum()) for radius in grid])
