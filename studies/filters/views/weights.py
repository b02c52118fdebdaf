"""Filters as pictures, similar ones together, with near-duplicates and filters that never fire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core.blocks import Axis, Block, Column, Figure, Gallery, Picture, Series, Strip, Table
from probe.core.document import Result, Section
from probe.core.errors import NotApplicableError
from probe.graph.trace.layers import ConvolutionInfo, convolutions
from probe.report.raster import signed_tile
from studies.filters.registries import VIEWS
from studies.filters.workspace import FiltersWorkspace

ALIKE = 0.95
MOST_SHOWN = 256
MOST_LAYERS = 4
TILE = 52
UNEVEN = 3.0


@dataclass(frozen=True)
class FilterBank:
    """The C filters of one convolution: flat weights (C, D), and for each its norm and its most similar other.

    ``order`` lists the filters so that similar ones are neighbours. ``cosine`` is the signed cosine to ``nearest``
    (NaN for a single filter); a filter of zeros has cosine 0 to all.
    """

    flat: NDArray[np.float64]
    norms: NDArray[np.float64]
    nearest: NDArray[np.int64]
    cosine: NDArray[np.float64]
    order: NDArray[np.int64]

    @property
    def duplicates(self) -> int:
        """The number of filters whose nearest other has a cosine above 0.95."""
        return int((self.cosine > ALIKE).sum())


def analyse(weight: Tensor) -> FilterBank:
    """Measure the filters of a convolution weight (C, C_in / groups, k, k)."""
    flat = weight.detach().cpu().double().flatten(1).numpy()
    norms = np.linalg.norm(flat, axis=1)
    unit = flat / np.where(norms > 0, norms, 1)[:, None]
    cosines = np.clip(unit @ unit.T, -1, 1)
    np.fill_diagonal(cosines, -np.inf)
    nearest = cosines.argmax(axis=1)
    best = cosines.max(axis=1)
    return FilterBank(
        flat, norms, nearest, np.where(np.isfinite(best), best, np.nan), order_by_similarity(unit)
    )


def order_by_similarity(unit: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order unit vectors by similarity: average-linkage tree, optimal leaf order (Bar-Joseph 2001)."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    if len(unit) < 3:
        return np.arange(len(unit))
    distance = np.clip(1 - unit @ unit.T, 0, 2)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    tree = linkage(condensed, "average")
    if len(unit) <= MOST_SHOWN:  # the optimal order costs O(n³)
        tree = optimal_leaf_ordering(tree, condensed)
    return leaves_list(tree).astype(np.int64)


@VIEWS.register("weights", order=1, passes=(80, 0))
def weights(space: FiltersWorkspace) -> Section:
    """Show the filters of the first convolution and of the requested layers, and their anomalies."""
    every = convolutions(space.model.network, _network_example(space))
    if not every:
        raise NotApplicableError("The network has no two-dimensional convolution.")
    chosen = _chosen(every, space)
    blocks: list[Block] = []
    results: list[Result] = []
    findings: list[str] = []
    with space.progress.task("Filters", len(chosen)) as advance:
        for convolution in chosen:
            bank = analyse(convolution.module.weight)
            blocks += _blocks(convolution, bank, space)
            results += _results(convolution, bank, space)
            findings.append(_finding(convolution, bank, space))
            advance(1)
    summary = (
        f"{len(chosen)} of the network's {len(every)} convolutions. The first is always shown; others by "
        "--layers. Filters are ordered so that similar ones are neighbours."
    )
    return Section(
        "weights", "Filters", summary, tuple(blocks), results=tuple(results), findings=tuple(findings[:1])
    )


def fires_at(space: FiltersWorkspace, convolution: str) -> str | None:
    """Return the observed layer at which the convolution's filters fire, after norm and activation."""
    return space.firing.get(convolution)


def _network_example(space: FiltersWorkspace) -> Tensor:
    normalised: Tensor = space.model.module.normalise(space.example)
    return normalised


def _chosen(every: tuple[ConvolutionInfo, ...], space: FiltersWorkspace) -> list[ConvolutionInfo]:
    """The first convolution, and the first one inside every layer that the user named."""
    chosen = {every[0].name: every[0]}
    for layer in space.config.layers or ():
        inside = [c for c in every if c.name == layer or c.name.startswith(f"{layer}.")]
        if inside:
            chosen.setdefault(inside[0].name, inside[0])
    return list(chosen.values())[:MOST_LAYERS]


def _blocks(convolution: ConvolutionInfo, bank: FilterBank, space: FiltersWorkspace) -> list[Block]:
    blocks: list[Block] = [*_galleries(convolution, bank)] or [_matrix(convolution, bank)]
    if len(bank.flat) > 2:
        blocks.append(_spectrum(convolution, bank))
    blocks.append(_table(convolution, bank, space))
    return blocks


def _galleries(convolution: ConvolutionInfo, bank: FilterBank) -> list[Gallery]:
    """Draw the kernels; nothing for 1×1 kernels, which have no spatial shape.

    One scale for all shows which filters are strong; where they differ much in strength, a second gallery
    with a scale for each shows the shape of the weak ones.
    """
    weight = convolution.module.weight.detach().float().cpu()
    if max(weight.shape[2:]) == 1:
        return []
    slices, sources = (weight, None) if weight.shape[1] in (1, 3) else _strongest_slice(weight)
    peaks = slices.abs().flatten(1).amax(1)
    top = float(peaks.max())
    scale_text = f"Kernels {'×'.join(map(str, weight.shape[2:]))}: mid-grey is 0"
    colours = (
        "; red, green and blue are the weights on the three colour channels" if weight.shape[1] == 3 else ""
    )
    if sources is not None:
        colours = "; of each filter only the slice with the largest norm is drawn (← its input channel)"
    count = f"{len(weight)} filters" + (f", the first {MOST_SHOWN}" if len(weight) > MOST_SHOWN else "")
    common = Gallery(
        f"{convolution.name}: {count}, on one scale",
        (_tiles(convolution, bank, slices, sources, torch.full_like(peaks, top)),),
        f"{scale_text}, white +{top:.2g}, black −{top:.2g} on all of them{colours}. Smooth edges, bars and colour blobs "
        "are what a trained first layer looks like; salt-and-pepper noise is what an untrained one looks like; flat "
        "grey tiles are filters with small weights.",
        size=TILE,
    )
    if float(peaks.median()) > top / UNEVEN:
        return [common]
    own = Gallery(
        f"{convolution.name}: each filter on its own scale",
        (_tiles(convolution, bank, slices, sources, peaks, anchors=False),),
        f"{scale_text}, white and black are plus and minus the filter's own largest weight{colours}. Shapes can be "
        "compared here, strengths above.",
        size=TILE,
    )
    return [common, own]


def _tiles(
    convolution: ConvolutionInfo,
    bank: FilterBank,
    slices: Tensor,
    sources: Tensor | None,
    scales: Tensor,
    anchors: bool = True,
) -> Strip:
    return Strip(
        tuple(
            Picture(
                signed_tile(slices[i], float(scales[i])),
                f"Filter {i} of {convolution.name}, norm {bank.norms[i]:.3g}",
                f"{i}" if sources is None else f"{i} ← {int(sources[i])}",
                anchor=f"{convolution.name}/filter{i}" if anchors else "",
                pixelated=True,
            )
            for i in map(int, bank.order[:MOST_SHOWN])
        )
    )


def _strongest_slice(weight: Tensor) -> tuple[Tensor, Tensor]:
    sources = weight.flatten(2).norm(dim=2).argmax(dim=1)
    return weight[torch.arange(len(weight)), sources][:, None], sources


def _matrix(convolution: ConvolutionInfo, bank: FilterBank) -> Figure:
    block = bank.flat[bank.order[:64]][:, :64]
    return Figure(
        f"{convolution.name}: 1×1 weights",
        "heatmap",
        Axis("input channel"),
        Axis("filter, similar ones together"),
        "Each row is a filter, each column an input channel; a row of one colour selects no particular channel. "
        "At most 64 rows and columns are drawn.",
        matrix=tuple(tuple(float(v) for v in row) for row in block),
        value_label="weight",
    )


def _spectrum(convolution: ConvolutionInfo, bank: FilterBank) -> Figure:
    from sklearn.decomposition import PCA

    ratios = np.cumsum(PCA(svd_solver="full").fit(bank.flat).explained_variance_ratio_)
    ratios = np.nan_to_num(ratios, nan=1.0)
    count = len(ratios)
    return Figure(
        f"{convolution.name}: how many filters differ",
        "line",
        Axis("principal components"),
        Axis("variance of the filters explained (%)"),
        f"{int(np.searchsorted(ratios, 0.95) + 1)} of {count} components explain 95% of the variance of the "
        "filters. A curve that rises at once: the filters are close to combinations of a few; near the diagonal they "
        "are not, as with random weights.",
        series=(
            Series(
                "explained", tuple(float(i + 1) for i in range(count)), tuple(float(100 * r) for r in ratios)
            ),
        ),
    )


def _table(convolution: ConvolutionInfo, bank: FilterBank, space: FiltersWorkspace) -> Table:
    fired = _images_fired(convolution, space)
    n = space.observed.n
    columns = (
        Column("filter", help="number of the output channel"),
        Column("norm", help="Euclidean norm of the filter's weights"),
        Column("most like", help="the filter with the largest cosine"),
        Column("cosine", help="cosine to that filter; above 0.95 the two are near-duplicates"),
        Column(
            "images fired on",
            "%",
            "images in which the filter is positive somewhere, after norm and activation",
        ),
    )
    rows = tuple(
        (
            int(i),
            float(bank.norms[i]),
            int(bank.nearest[i]) if np.isfinite(bank.cosine[i]) else None,
            float(bank.cosine[i]) if np.isfinite(bank.cosine[i]) else None,
            None if fired is None else 100 * int(fired[i]) / n,
        )
        for i in bank.order[:MOST_SHOWN]
    )
    title = f"{convolution.name}: norms, near-duplicates and filters that never fire"
    return Table(title, columns, rows, f"{len(bank.flat)} filters, {n} images.")


def _images_fired(convolution: ConvolutionInfo, space: FiltersWorkspace) -> Tensor | None:
    layer = fires_at(space, convolution.name)
    return None if layer is None else space.observed.layers[layer].fired


def _results(convolution: ConvolutionInfo, bank: FilterBank, space: FiltersWorkspace) -> list[Result]:
    count = len(bank.flat)
    name = f"weights.{convolution.name}"
    results = [Result(f"{name}.near_duplicates", bank.duplicates, count, unit="filters")]
    fired = _images_fired(convolution, space)
    if fired is not None:
        results.append(
            Result(
                f"{name}.never_fire", int((fired == 0).sum()), count, unit="filters", higher_is_better=False
            )
        )
    return results


def _finding(convolution: ConvolutionInfo, bank: FilterBank, space: FiltersWorkspace) -> str:
    count, alike = len(bank.flat), bank.duplicates
    have = "has" if alike == 1 else "have"
    text = f"Of the {count} filters of {convolution.name}, {alike or 'none'} {have} a near-duplicate"
    fired = _images_fired(convolution, space)
    if fired is None:
        return f"{text} (cosine above {ALIKE})."
    never = int((fired == 0).sum())
    fire = "fires" if never == 1 else "fire"
    return f"{text} (cosine above {ALIKE}) and {never or 'none'} never {fire} on any of the {space.observed.n} images."
