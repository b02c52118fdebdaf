"""Co-adaptation: correlation of the units at a dropout, and the effect of removing a single one.

Hinton et al. 2012 and Srivastava et al. 2014: a unit that cannot rely on the presence of others must be useful by
itself. Then units should be less correlated, and the network should depend less on any single unit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F

from probe.graph.edit.edits import get_node, value_of
from probe.graph.structures.dropout import Dropout
from probe.graph.trace.ablatable import copied
from probe.graph.trace.trace import no_side_effects
from studies.ablation.dropout.mc_dropout import thin_out
from studies.ablation.dropout.tail import Tail
from studies.ablation.plan import evenly_spaced

UNITS = 64
"""Units of a site that are removed, one at a time, at most: evenly spread."""

SITES = 8
"""Sites that are measured, at most: evenly spread."""

BINS = 20
"""Bins of the distribution of |r| between 0 and 1."""

_CORRELATED = 512
"""Live units whose correlations are taken, at most: evenly spread."""

_AFFORDABLE = 1e12
"""Multiply-accumulates that removals may cost; images are thinned out evenly down to ``_LEAST``, then units."""

_LEAST = 100


@dataclass(frozen=True)
class Units:
    """Measurements of the units at s dropout sites.

    ``names`` (s,); ``count`` (s,) units; ``dead`` (s,): the part that gives one value for all images;
    ``correlation`` (s,): mean |Pearson's r| over pairs of live ones, NaN without a pair; ``histogram`` (s, ``BINS``):
    these pairs by |r|. ``removed_loss`` and ``removed_accuracy`` (s, u): rise of the mean negative log-likelihood
    (nats) and fall of the accuracy on ``images`` (s,) images when one unit is 0; rows are filled up with NaN.
    """

    names: NDArray[np.str_]
    count: NDArray[np.int64]
    dead: NDArray[np.float64]
    correlation: NDArray[np.float64]
    histogram: NDArray[np.int64]
    removed_loss: NDArray[np.float64]
    removed_accuracy: NDArray[np.float64]
    images: NDArray[np.int64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Units:
        """Return the object that ``arrays`` wrote; other names are ignored."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def dropout_inputs(graph: fx.GraphModule, sites: Collection[str] | None = None) -> dict[str, str]:
    """Return the node whose value each dropout of an ``ablatable`` graph acts on, by the name of the site.

    ``sites`` are names to keep to. Dropout right behind dropout acts on the same value and is left out, as are values
    without units: those that are neither features (N, C), maps (N, C, H, W) nor tokens (N, T, C). A copy of the graph
    without the dropout has a node of the same name. At most ``SITES`` are returned, evenly spread.
    """
    inputs: dict[str, str] = {}
    drops = {site.node: site for site in Dropout().find(graph)}
    for site in drops.values():
        value = value_of(get_node(graph, site))
        while value is not None and value.name in drops:
            value = value_of(value)
        if value is None or value.name in inputs.values() or len(value.meta["shape"]) not in (2, 3, 4):
            continue
        if sites is None or site.name in sites:
            inputs[site.name] = value.name
    names = list(inputs)
    return {names[place]: inputs[names[place]] for place in evenly_spaced(len(names), SITES)}


def activity(value: Tensor) -> Tensor:
    """Return (N, units) in float64: features, the spatial means of a map's channels, or the means over tokens."""
    value = value.double()
    return value if value.dim() == 2 else value.mean(1 if value.dim() == 3 else (2, 3))


def observe(
    network: fx.GraphModule, nodes: Sequence[str], batches: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, NDArray[np.float64]]:
    """Return the activity (images, units) at some nodes, by name."""
    reader = _Reader(network, nodes)
    with no_side_effects(network):
        for images, _ in batches:
            reader.run(images.clone())
    return {node: torch.cat(reader.activities[node]).cpu().numpy() for node in nodes}


def correlations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |Pearson's r| (pairs,) between the live columns of (images, units) activity.

    Of more than 512 live units that many, evenly spread, are paired. A unit is live when it differs between images.
    """
    live = values[:, np.ptp(values, axis=0) > 0]
    live = live[:, list(evenly_spaced(live.shape[1], _CORRELATED))]
    if live.shape[1] < 2:
        return np.empty(0)
    rows, columns = np.triu_indices(live.shape[1], 1)
    table: NDArray[np.float64] = np.asarray(np.corrcoef(live.T))
    return np.abs(table[rows, columns]).clip(0.0, 1.0)


class Removal:
    """A copy of a network in which one unit of a node's value can be set to 0; the rest is run from there only.

    ``network`` takes normalised images and is not changed.
    """

    def __init__(self, network: fx.GraphModule, node: str) -> None:
        graph = copied(network)
        value = next(candidate for candidate in graph.graph.nodes if candidate.name == node)
        shape = value.meta["shape"]
        self.axis = 2 if len(shape) == 3 else 1
        self.units = int(shape[self.axis])
        self.removed = _Removed(self.axis)
        graph.add_submodule("removed_unit", self.removed)
        with graph.graph.inserting_after(value):
            behind = graph.graph.call_module("removed_unit", (value,))
        value.replace_all_uses_with(behind, delete_user_cb=lambda user: user is not behind)
        behind.meta = dict(value.meta)
        behind.meta["mutates"] = frozenset()
        graph.graph.lint()
        graph.recompile()
        self.network = graph.eval()
        self.tail = Tail(graph, [behind])

    def harm(
        self, batches: Sequence[tuple[Tensor, Tensor]], units: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return by how much the loss rises and the accuracy falls without each of the units, (u,) each."""
        loss, n_correct, n = np.zeros(len(units) + 1), np.zeros(len(units) + 1), 0
        try:
            with no_side_effects(self.network):
                for images, labels in batches:
                    values = self.tail.head(images)
                    n += len(labels)
                    for place, unit in enumerate((None, *units)):
                        self.removed.unit = unit
                        logits = self.tail.finish(values).double()
                        loss[place] += float(F.cross_entropy(logits, labels, reduction="sum"))
                        n_correct[place] += int(
                            ((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum()
                        )
        finally:
            self.removed.unit = None
        return (loss[1:] - loss[0]) / n, (n_correct[0] - n_correct[1:]) / n


def measure_units(
    network: fx.GraphModule, nodes: Mapping[str, str], batches: Sequence[tuple[Tensor, Tensor]]
) -> Units | None:
    """Measure the units at some nodes (by site) on batches of normalised images and labels; None without nodes."""
    if not nodes or not batches:
        return None
    activities = observe(network, list(nodes.values()), batches)
    pairs = [correlations(activities[node]) for node in nodes.values()]
    lost, used = np.full((2, len(nodes), UNITS), np.nan), []
    for row, node in enumerate(nodes.values()):
        removal = Removal(network, node)
        images, units = _affordable(removal, batches, len(nodes))
        harm = removal.harm(images, units)
        lost[:, row, : len(units)] = harm
        used.append(sum(len(labels) for _, labels in images))
    return Units(
        names=np.array(list(nodes)),
        count=np.array([activities[node].shape[1] for node in nodes.values()]),
        dead=np.array([(np.ptp(activities[node], axis=0) == 0).mean() for node in nodes.values()]),
        correlation=np.array([pair.mean() if len(pair) else np.nan for pair in pairs]),
        histogram=np.array([np.histogram(pair, BINS, (0.0, 1.0))[0] for pair in pairs]),
        removed_loss=lost[0],
        removed_accuracy=lost[1],
        images=np.array(used),
    )


def _affordable(
    removal: Removal, batches: Sequence[tuple[Tensor, Tensor]], sites: int
) -> tuple[list[tuple[Tensor, Tensor]], tuple[int, ...]]:
    """Return the images and units that the removals of one of ``sites`` sites are measured on."""
    runs = _AFFORDABLE / (sites * max(1, removal.tail.macs(batches[0][0][:1])))
    units = min(UNITS, removal.units)
    images = max(_LEAST, int(runs / (units + 1)))
    total = min(images, sum(len(labels) for _, labels in batches))
    units = max(min(8, units), min(units, int(runs / total) - 1))
    return list(thin_out(batches, images)), evenly_spaced(removal.units, units)


class _Reader(fx.Interpreter):
    """Run a graph and keep the activity at some nodes."""

    def __init__(self, graph: fx.GraphModule, nodes: Sequence[str]) -> None:
        super().__init__(graph)
        self.activities: dict[str, list[Tensor]] = {name: [] for name in nodes}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        result = super().run_node(n)
        if n.name in self.activities:
            self.activities[n.name].append(activity(result))
        return result


class _Removed(nn.Module):
    """Set one unit, an index along ``axis``, to 0."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.unit: int | None = None

    def forward(self, value: Tensor) -> Tensor:
        if self.unit is None:
            return value
        without_unit = value.clone()
        without_unit.select(self.axis, self.unit).zero_()
        return without_unit
