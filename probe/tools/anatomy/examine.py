"""The examination of a network: its operations, and its paths if it can be traced."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from probe.core.subject import ModelInfo
from probe.graph.cost.operations import OperationRow, OperationTable, operation_table
from probe.graph.cost.paths import Paths, paths
from probe.graph.cost.summary import count_macs
from probe.graph.trace.trace import TraceError
from probe.models.loaded import LoadedModel


@dataclass(frozen=True)
class AnatomyConfig:
    """The options of ``probe anatomy``: ``seed`` is for the noise image; no number depends on it."""

    seed: int = 0


@dataclass(frozen=True)
class Examined:
    """The numbers of a network.

    ``reason`` is why its paths are not known, ``counted`` are the MACs according to torch, ``label`` replaces the
    model's name, ``seconds`` is the wall time.
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
        """The name of the network."""
        return self.label or self.model.name

    @property
    def last(self) -> OperationRow | None:
        """The layer with the last output map of more than one unit."""
        reach = self.operations.reach
        return next((row for row in reversed(self.operations.layers) if reach and row.reach is reach), None)

    @property
    def gated(self) -> bool:
        """Whether units also depend on the whole image through global operations that the fields ignore."""
        return any(row.reach is not None and row.reach.note for row in self.operations.rows)


def examine(model: LoadedModel, config: AnatomyConfig, label: str = "") -> Examined:
    """Run a network on one noise image, and trace it to count its paths.

    The numbers depend neither on the weights nor on the noise.
    """
    started = time.perf_counter()
    with torch.no_grad():
        example = model.module.normalise(model.example(seed=config.seed, stream="anatomy"))
    counted_paths: Paths | None = None
    reason = ""
    try:
        counted_paths = paths(model.network, example)
    except TraceError as error:
        reason = str(error)
    return Examined(
        model=model.info(),
        operations=operation_table(model.network, example),
        paths=counted_paths,
        reason=reason,
        counted=count_macs(model.network, example),
        label=label,
        seconds=time.perf_counter() - started,
    )
