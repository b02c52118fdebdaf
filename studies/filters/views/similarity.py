"""Similarity: how alike the layers are in what they say about the images, in this network and in an untrained one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from probe.core import seeds
from probe.core.document import Axis, Block, Column, Figure, Note, Result, Section, Table
from probe.core.errors import NotApplicableError, ProbeError
from probe.core.progress import Advance
from probe.models.loaded import LoadedModel
from studies.filters.registries import VIEWS
from studies.filters.representations import LEAST_IMAGES, Cka, Similarities, cka, represent
from studies.filters.workspace import FiltersWorkspace

_LAYERS = 16
"""How many layers are compared at most, evenly over the depth."""

_READING = (
    "Debiased linear centred kernel alignment (CKA) of every pair of layers: 1 where two layers place the images alike up to "
    "rotation and scale, about 0 where they are unrelated; by chance it can be below. Blocks along the diagonal are layers that "
    "change little. CKA tells how alike the main directions are, not whether two layers compute the same, nor which of them is used."
)


@VIEWS.register("similarity", order=6, optional=True)
def similarity(space: FiltersWorkspace) -> Section:
    """Compare the layers with one another, and with those of an untrained network (CKA)."""
    if space.observed.n < LEAST_IMAGES:
        raise NotApplicableError(f"CKA needs at least {LEAST_IMAGES} images; there are {space.observed.n}.")
    layers = evenly([layer.name for layer in space.maps], _LAYERS)
    if len(layers) < 2:
        raise NotApplicableError("The network has only one layer whose output is a map.")
    untrained, reason = untrained_model(space)
    with space.progress.task("Similarity", space.observed.n * (1 if untrained is None else 2)) as advance:
        tables = {
            name: _all_pairs(model, space, layers, advance)
            for name, model in (("this network", space.model), ("untrained", untrained))
            if model is not None
        }
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
    results = [
        Result(f"similarity.{a}|{b}", own[a, b].value, space.observed.n, own[a, b].ci) for a, b in neighbours
    ]
    return Section(
        "similarity",
        "Similarity of layers",
        f"{len(layers)} layers on {space.observed.n} images, each map averaged over a grid of at most 4×4 cells.",
        tuple(blocks),
        results=tuple(results),
        findings=_findings(neighbours, own),
    )


def evenly(names: Sequence[str], most: int) -> list[str]:
    """Return at most ``most`` of the names, the first and the last among them."""
    if len(names) <= most:
        return list(names)
    return [names[round(place * (len(names) - 1) / (most - 1))] for place in range(most)]


def untrained_model(space: FiltersWorkspace) -> tuple[LoadedModel | None, str]:
    """Return the same network with new random weights, or None and the reason why there is none."""
    if space.model.provenance.weights.startswith("random"):
        return None, "The weights of this one are random already."
    try:
        return space.model.fresh(seeds.derive(space.config.seed, "untrained")), ""
    except ProbeError as error:
        return None, str(error)


def _all_pairs(
    model: LoadedModel, space: FiltersWorkspace, layers: Sequence[str], advance: Advance
) -> dict[tuple[str, str], Cka]:
    found = represent(model, space.images, layers, space.config.batch_size, advance)
    kernels = {layer: Similarities.of(features) for layer, features in found.layers.items()}
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


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
