"""Measurements at the dropout of one trained arm."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from probe.core.state import training_mode
from probe.models.loaded import PixelModel
from studies.ablation.dropout.coadaptation import Units, dropout_inputs, measure_units
from studies.ablation.dropout.mc_dropout import McDropoutVotes, mc_dropout

_BATCH = 128


def measure_dropout(
    module: PixelModel,
    graph: fx.GraphModule,
    images: Tensor,
    labels: Tensor,
    sites: Collection[str] | None,
    seed: int,
) -> dict[str, NDArray[Any]]:
    """Measure an arm on held-out images (N, C, H, W) in [0, 1] and labels (N,).

    ``graph`` is the graph of the network with its dropout; ``sites`` are the names of the sites that are removed,
    None for all. Returns ``probabilities`` (N, classes) and the arrays of ``McDropoutVotes`` (of an arm with dropout)
    and ``Units`` (of every arm), as far as there are any.
    """
    network = module.network
    with training_mode(module, False), torch.no_grad():
        batches = [
            (module.normalise(x), y)
            for x, y in zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True)
        ]
        answers = [network(x).double().softmax(1).cpu().numpy() for x, _ in batches]
        votes = mc_dropout(network, batches, seed)
        units = None
        if isinstance(network, fx.GraphModule):
            units = measure_units(network, dropout_inputs(graph, sites), batches)
    arrays: dict[str, NDArray[Any]] = {"probabilities": np.concatenate(answers)}
    for part in (votes, units):
        arrays |= {} if part is None else part.arrays()
    return arrays


def votes_of(arrays: Mapping[str, NDArray[Any]]) -> McDropoutVotes | None:
    """Return the votes among the arrays of an arm, None where there are none."""
    return McDropoutVotes.of(arrays) if "voted_loss" in arrays else None


def units_of(arrays: Mapping[str, NDArray[Any]]) -> Units | None:
    """Return the units among the arrays of an arm, None where there are none."""
    return Units.of(arrays) if "removed_loss" in arrays else None
