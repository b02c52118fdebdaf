"""Factories that always give random weights, even if the user's own factory loads trained weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from probe.core.errors import CannotRunError
from probe.core.seeds import scoped
from probe.models.source import Architecture, Build

_DETECTION_SEEDS = (1, 2)
ADD_RESET = "Add that method to the module."


def always_same(build: Callable[[], nn.Module]) -> bool:
    """Return whether a factory gives the same weights with two seeds, because it loads or sets them."""
    states: list[dict[str, Tensor]] = []
    for seed in _DETECTION_SEEDS:
        with scoped(seed, "are the weights random"):
            states.append(build().state_dict())
    first, second = states
    return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)


def _same(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors are equal, where NaN equals NaN."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    equal = first == second
    if first.is_floating_point():
        equal |= first.isnan() & second.isnan()
    return bool(equal.all())


def refuse_nan(network: nn.Module, name: str) -> None:
    """Raise CannotRunError, with the name of the first such tensor, if a weight or a buffer of a network is NaN."""
    broken = [
        (key, int(value.isnan().sum()), value.numel())
        for key, value in network.state_dict().items()
        if isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any())
    ]
    if not broken:
        return
    key, count, total = broken[0]
    more = f", and {len(broken) - 1} more tensors have NaN" if len(broken) > 1 else ""
    raise CannotRunError(
        f"{name} returns weights with NaN in {key} ({count:,} of {total:,} values{more}): the training that gave these "
        "weights has probably diverged. Return other weights, or draw random ones with --weights none."
    )


def reinitialise(network: nn.Module, name: str) -> nn.Module:
    """Draw new weights, in place, by calling ``reset_parameters`` on every module that has it.

    Raises CannotRunError, with the name of a parameter that did not change, unless it is constant (a bias of zeros).
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise CannotRunError(
            f"{name} is TorchScript, whose weights cannot be drawn again: give the network as it was before "
            "torch.jit.script or torch.jit.trace."
        )
    before = {key: value.detach().clone() for key, value in network.named_parameters()}
    with torch.no_grad():
        for sub in network.modules():
            # In nn.MultiheadAttention the method is private.
            reset = getattr(sub, "reset_parameters", None) or getattr(sub, "_reset_parameters", None)
            if callable(reset):
                reset()
    unchanged = [
        key
        for key, value in network.named_parameters()
        if torch.equal(value, before[key]) and value.numel() and not torch.all(value == value.flatten()[0])
    ]
    if unchanged:
        raise CannotRunError(
            f"Could not draw random weights for {name}: it loads its weights itself, and {unchanged[0]} "
            f"({len(unchanged)} in all) is in a module without reset_parameters. {ADD_RESET}"
        )
    return network


def random_builder(architecture: Architecture, same: bool | None = None) -> Callable[[Build], nn.Module]:
    """Return a function that builds the architecture with weights drawn from the global generator.

    ``same``: whether a user's function always gives the same weights; None determines this when it is needed.
    """
    if not architecture.user_code or same is False:
        return architecture.build
    return _RandomBuilder(architecture, same)


@dataclass
class _RandomBuilder:
    """Build with a user's function, and draw the weights again if it always gives the same; can be pickled."""

    architecture: Architecture
    same: bool | None
    _known: dict[Build, bool] = field(default_factory=dict)

    def __call__(self, options: Build) -> nn.Module:
        """Build the network with random weights."""
        network = self.architecture.build(options)
        return reinitialise(network, self.architecture.source) if self._is_same(options) else network

    def _is_same(self, options: Build) -> bool:
        if self.same is not None:
            return self.same
        if options not in self._known:
            self._known[options] = always_same(partial(self.architecture.build, options))
        return self._known[options]
