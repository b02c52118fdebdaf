"""One network looked at: its census, and its paths where it can be written as a graph."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from probe.core.document import ModelInfo
from probe.graph.cost.operations import OperationRow, OperationTable, operation_table
from probe.graph.cost.paths import Paths, paths
from probe.graph.cost.summary import count_macs
from probe.graph.trace.trace import TraceError
from probe.models.loaded import LoadedModel


@dataclass(frozen=True)
class AnatomyConfig:
    """The options of ``probe anatomy``: ``seed`` draws the noise on which the network runs; no number depends on it."""

    seed: int = 0


@dataclass(frozen=True)
class Examined:
    """A network's numbers.

    ``reason`` says why its paths are not known, ``counted`` are torch's MACs, ``label`` is a name in place of the
    model's own, ``seconds`` is how long it took.
    """

    model: ModelInfo
    operations: OperationTable
    paths: Paths | None
    reason: str
    counted: int
    label: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """What the network is called."""
        return self.label or self.model.name

    @property
    def last(self) -> OperationRow | None:
        """The layer that gives the last map with more than one unit."""
        reach = self.operations.reach
        return next((row for row in reversed(self.operations.layers) if reach and row.reach is reach), None)

    @property
    def gated(self) -> bool:
        """Whether units also see the whole image through global operations that the fields leave out."""
        return any(row.reach is not None and row.reach.note for row in self.operations.rows)


def examine(model: LoadedModel, config: AnatomyConfig, label: str = "") -> Examined:
    """Run a network on one image of noise, and write it as a graph to count its paths.

    Neither the weights nor the noise change any number.
    """
    started = time.perf_counter()
    with torch.no_grad():
        example = model.module.normalise(model.example(seed=config.seed, stream="anatomy"))
    found: Paths | None = None
    reason = ""
    try:
        found = paths(model.network, example)
    except TraceError as error:
        reason = str(error)
    return Examined(
        model=model.info(),
        operations=operation_table(model.network, example),
        paths=found,
        reason=reason,
        counted=count_macs(model.network, example),
        label=label,
        seconds=time.perf_counter() - started,
    )
