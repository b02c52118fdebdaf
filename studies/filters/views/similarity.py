"""Similarity: how alike layers are in what they say about the images, in this network, an untrained and another one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from probe.core import seeds
from probe.core.blocks import Axis, Block, Cell, Column, Figure, Note, Table
from probe.core.document import Result, Section
from probe.core.errors import NotApplicableError, ProbeError
from probe.core.progress import Advance
from probe.graph.edit.spelled import spelled
from probe.graph.trace.layers import feature_layers
from probe.models.loaded import LoadedModel
from studies.filters.registries import VIEWS
from studies.filters.representations import LEAST_IMAGES, Cka, Similarities, cka, represent
from studies.filters.workspace import FiltersWorkspace

T = TypeVar("T")

_LAYERS = 16
"""How many layers are compared at most, evenly over the depth."""

Kernels = dict[str, Similarities]
"""The inner products of the images in each layer."""

_READING = (
    "Debiased linear centred kernel alignment (CKA) of every pair of layers: 1 where two layers place the images alike up to "
    "rotation and scale, about 0 where they are unrelated; by chance it can be below. Blocks along the diagonal are layers that "
    "change little. CKA tells how alike the main directions are, not whether two layers compute the same, nor which of them is used."
)


@VIEWS.register("similarity", order=8, optional=True, passes=(0, 3))
def similarity(space: FiltersWorkspace) -> Section:
    """Compare the layers with one another, in an untrained network, and with another network's (CKA)."""
    if space.observed.n < LEAST_IMAGES:
        raise NotApplicableError(f"CKA needs at least {LEAST_IMAGES} images; there are {space.observed.n}.")
    layers = evenly([layer.name for layer in space.maps], _LAYERS)
    if len(layers) < 2:
        raise NotApplicableError("The network has only one layer whose output is a map.")
    untrained, reason = untrained_model(space)
    networks = {"this network": (space.model, layers)}
    if untrained is not None:
        networks["untrained"] = (untrained, layers)
    if space.against is not None:
        networks["other"] = (space.against, _layers_of(space.against))
    with space.progress.task("Similarity", space.observed.n * len(networks)) as advance:
        kernels = {
            name: _kernels(model, space, chosen, advance) for name, (model, chosen) in networks.items()
        }
    tables = {name: _all_pairs(found) for name, found in kernels.items() if name != "other"}
    blocks: list[Block] = (
        [] if untrained is not None else [Note(f"No untrained network beside it. {reason}", "warning")]
    )
    axis = Axis("layer", categories=tuple(layers))
    for name, pairs in tables.items():
        title = "Similarity of layers" + ("" if name == "this network" else " in an untrained network")
        matrix = tuple(tuple(_or_nan(pairs[a, b].value) for a in layers) for b in layers)
        blocks.append(Figure(title, "heatmap", axis, axis, _READING, matrix=matrix, value_label="CKA"))
    neighbours = list(itertools.pairwise(layers))
    own = tables["this network"]
    blocks.append(_table(neighbours, own, tables.get("untrained")))
    findings = _findings(neighbours, own)
    results = [
        Result(f"similarity.{a}|{b}", own[a, b].value, space.observed.n, own[a, b].ci) for a, b in neighbours
    ]
    if space.against is not None:
        matched = Matched.of(space.against.name, kernels)
        blocks += matched.blocks()
        results += matched.results(space.observed.n)
        findings += matched.findings()
    return Section(
        "similarity",
        "Similarity of layers",
        f"{len(layers)} layers on {space.observed.n} images, each map averaged over a grid of at most 4×4 cells.",
        tuple(blocks),
        results=tuple(results),
        findings=findings,
    )


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most ``most`` of the items, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def untrained_model(space: FiltersWorkspace) -> tuple[LoadedModel | None, str]:
    """Return the same network with new random weights, or None and the reason why there is none."""
    if space.model.provenance.weights.startswith("random"):
        return None, "The weights of this one are random already."
    try:
        fresh = space.model.fresh(seeds.derive(space.config.seed, "untrained"))
        return replace(fresh, module=spelled(fresh.module, fresh.example())), ""
    except ProbeError as error:
        return None, str(error)


def _layers_of(model: LoadedModel) -> list[str]:
    """Return the layers of another network that are compared; raises NotApplicableError without any."""
    found = evenly([layer.name for layer in feature_layers(model.network, model.example())], _LAYERS)
    if not found:
        raise NotApplicableError(f"{model.name} has no layer whose output is a map.")
    return found


def _kernels(model: LoadedModel, space: FiltersWorkspace, layers: Sequence[str], advance: Advance) -> Kernels:
    found = represent(model, space.images, layers, space.config.batch_size, advance)
    return {layer: Similarities.of(features) for layer, features in found.layers.items()}


def _all_pairs(kernels: Kernels) -> dict[tuple[str, str], Cka]:
    layers = list(kernels)
    pairs: dict[tuple[str, str], Cka] = {}
    for row, first in enumerate(layers):
        for second in layers[row:]:
            pairs[first, second] = pairs[second, first] = cka(kernels[first], kernels[second])
    return pairs


def _table(
    neighbours: Sequence[tuple[str, str]],
    own: dict[tuple[str, str], Cka],
    untrained: dict[tuple[str, str], Cka] | None,
) -> Table:
    columns = (
        Column("layer"),
        Column("next layer"),
        Column("CKA"),
        *Column.interval("the 95% jackknife interval over images"),
        Column("untrained", help="CKA of the same two layers with random weights."),
    )
    rows = []
    for pair in neighbours:
        low, high = own[pair].ci or (None, None)
        rows.append((*pair, own[pair].value, low, high, None if untrained is None else untrained[pair].value))
    return Table("Neighbouring layers", columns, tuple(rows))


def _findings(neighbours: Sequence[tuple[str, str]], own: dict[tuple[str, str], Cka]) -> tuple[str, ...]:
    known = [(value, pair) for pair in neighbours if (value := own[pair].value) is not None]
    if not known:
        return ()
    value, (first, second) = min(known)
    interval = own[first, second].ci
    text = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    return (
        f"What layers say about the images changes most between {first} and {second}: CKA {value:.2f}{text}.",
    )


@dataclass(frozen=True)
class Matched:
    """Every layer of this network against every layer of another one, and against those of the untrained network."""

    other: str
    layers: tuple[str, ...]
    theirs: tuple[str, ...]
    pairs: dict[tuple[str, str], Cka]
    untrained: dict[tuple[str, str], Cka]

    @classmethod
    def of(cls, other: str, kernels: dict[str, Kernels]) -> Matched:
        """Compare the kernels of ``this network`` and of ``untrained``, if there is one, with those of ``other``."""

        def against(name: str) -> dict[tuple[str, str], Cka]:
            return {
                (mine, their): cka(kernel, theirs)
                for mine, kernel in kernels.get(name, {}).items()
                for their, theirs in kernels["other"].items()
            }

        return cls(
            other,
            tuple(kernels["this network"]),
            tuple(kernels["other"]),
            against("this network"),
            against("untrained"),
        )

    def best(self, layer: str) -> str | None:
        """Return the layer of the other network that is most like ``layer``, None where CKA is not defined."""
        known = [
            (value, their) for their in self.theirs if (value := self.pairs[layer, their].value) is not None
        ]
        return max(known)[1] if known else None

    def blocks(self) -> list[Block]:
        """Return the heat map and the table of the most similar layers."""
        matrix = tuple(tuple(_or_nan(self.pairs[a, b].value) for a in self.layers) for b in self.theirs)
        figure = Figure(
            f"Similarity to the layers of {self.other}",
            "heatmap",
            Axis("layer of this network", categories=self.layers),
            Axis(f"layer of {self.other}", categories=self.theirs),
            _READING,
            matrix=matrix,
            value_label="CKA",
        )
        columns = (
            Column("layer"),
            Column(
                f"most alike in {self.other}", help=f"Of {len(self.theirs)} layers, evenly over the depth."
            ),
            Column("CKA", help=f"The largest of {len(self.theirs)} estimates, and therefore a little high."),
            *Column.interval("the 95% jackknife interval over images"),
            Column("untrained", help="CKA of the same two layers where this network has random weights."),
        )
        rows: list[tuple[Cell, ...]] = []
        for layer in self.layers:
            their = self.best(layer)
            if their is None:
                rows.append((layer, None, None, None, None, None))
                continue
            found, control = self.pairs[layer, their], self.untrained.get((layer, their))
            low, high = found.ci or (None, None)
            rows.append((layer, their, found.value, low, high, None if control is None else control.value))
        return [figure, Table(f"Most alike layers of {self.other}", columns, tuple(rows))]

    def results(self, n: int) -> list[Result]:
        """Return the CKA of every layer with the most similar one."""
        found = []
        for layer in self.layers:
            their = self.best(layer)
            if their is not None:
                pair = self.pairs[layer, their]
                found.append(Result(f"similarity.against.{layer}", pair.value, n, pair.ci))
        return found

    def findings(self) -> tuple[str, ...]:
        """Return which layer is least like any of the other network."""
        known = [
            (value, layer, their)
            for layer in self.layers
            if (their := self.best(layer)) and (value := self.pairs[layer, their].value) is not None
        ]
        if not known:
            return ()
        value, layer, their = min(known)
        interval = self.pairs[layer, their].ci
        text = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
        return (
            f"Least alike any layer of {self.other} is {layer}: CKA {value:.2f}{text} with {their}, the most similar one.",
        )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
