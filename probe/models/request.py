"""What is asked for when weights are put into a network, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from probe.models.loaded import Provenance
from probe.models.measure import framing_of
from probe.models.source import Access, Architecture, Preprocessing


@dataclass(frozen=True)
class LoadRequest:
    """What is asked for besides the architecture.

    ``weights`` is the user's word; ``num_classes`` what the data has; ``img_size`` (H, W) the input wanted.
    """

    weights: str
    num_classes: int | None
    img_size: tuple[int, int] | None
    seed: int
    allow_partial: bool
    device: torch.device
    access: Access


@dataclass(frozen=True)
class BuiltModel:
    """A network with its weights, and what these mean.

    ``draw`` builds the same with random weights. ``bound`` says that the weights were trained with this
    normalisation here, so that no other makes sense.
    """

    network: nn.Module
    framing: Preprocessing
    provenance: Provenance
    draw: Callable[[], nn.Module]
    class_names: tuple[str, ...] | None = None
    domain: str = "unknown"
    bound: bool = False


def framing_for(
    architecture: Architecture, network: nn.Module, order: LoadRequest
) -> tuple[Preprocessing, tuple[str, ...]]:
    """Return the input that the network is given, and notes on what was assumed about it."""
    if architecture.framing is not None:
        return architecture.framing.resized(order.img_size), ()
    framing, notes = framing_of(network)
    return framing.resized(order.img_size), notes
