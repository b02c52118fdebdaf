"""The request for a network with weights, and the network that was built for it."""

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
    """The user's request, apart from the architecture.

    ``weights`` is what the user typed; ``num_classes`` is that of the data; ``img_size`` (H, W) the requested input.
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
    """A network with its weights, their preprocessing, provenance and classes.

    ``draw`` builds the same network with random weights. ``bound`` is True if probe itself trained the weights with
    this normalisation, so that no other makes sense.
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
    """Return the preprocessing for the network's input, and notes on what was assumed about it."""
    if architecture.framing is not None:
        return architecture.framing.resized(order.img_size), ()
    framing, notes = framing_of(network)
    return framing.resized(order.img_size), notes
