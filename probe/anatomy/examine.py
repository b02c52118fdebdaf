"""One network looked at: its census, and its paths where it can be written as a graph."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from probe.anatomy.config import AnatomyConfig
from probe.core.report import ModelInfo
from probe.core.seeds import generator
from probe.graph.anatomy import count_macs
from probe.graph.census import census
from probe.graph.census_rows import Census, Row
from probe.graph.paths import Paths, paths
from probe.graph.trace import TraceError
from probe.models.loaded import LoadedModel


@dataclass(frozen=True)
class Examined:
    """A network's numbers.

    ``reason`` says why its paths are not known, ``counted`` are torch's MACs, ``label`` is a name in place of the
    model's own, ``seconds`` is how long it took.
    """

    model: ModelInfo
    census: Census
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
    def last(self) -> Row | None:
        """The layer that gives the last map with more than one unit."""
        reach = self.census.reach
        return next((row for row in reversed(self.census.layers) if reach and row.reach is reach), None)

    @property
    def gated(self) -> bool:
        """Whether units also see the whole image through global operations that the fields leave out."""
        return any(row.reach is not None and row.reach.note for row in self.census.rows)


def examine(model: LoadedModel, config: AnatomyConfig, label: str = "") -> Examined:
    """Run a network on one image of noise, and write it as a graph to count its paths.

    Neither the weights nor the noise change any number.
    """
    started = time.perf_counter()
    noise = torch.rand((1, *model.input.size), generator=generator(config.seed, "anatomy"))
    with torch.no_grad():
        example = model.module.normalise(noise.to(model.device))
    found: Paths | None = None
    reason = ""
    try:
        found = paths(model.network, example)
    except TraceError as error:
        reason = str(error)
    return Examined(
        model=model.info(),
        census=census(model.network, example),
        paths=found,
        reason=reason,
        counted=count_macs(model.network, example),
        label=label,
        seconds=time.perf_counter() - started,
    )
