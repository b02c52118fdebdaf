"""Loading a state dict into a network, with the names of the keys that do not fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.models.source import State
from probe.models.weights.checkpoint import CheckpointError

_NAMED = 3
# Prefixes that wrappers add to a network's own keys: DataParallel, torch.compile, classes that contain the network.
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "backbone.")
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Misfit:
    """The differences between a state dict and a network: keys, and both shapes where they differ."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        shapes = tuple(f"{key} {_by(has)}, expected {_by(wants)}" for key, has, wants in self.misshapen)
        parts = (("missing", self.missing), ("unexpected", self.unexpected), ("with another shape", shapes))
        return "; ".join(
            f"{len(keys)} {'key' if len(keys) == 1 else 'keys'} {problem} ({_few(keys)})"
            for problem, keys in parts
            if keys
        )


def clean(state: State, network: nn.Module) -> State:
    """Return the state dict without prefixes that wrappers added and that the network's keys do not have."""
    expected = set(network.state_dict())
    best = state
    for candidate in _candidates(state):
        if len(expected.intersection(candidate)) > len(expected.intersection(best)):
            best = candidate
    return best


def compare(network: nn.Module, state: State) -> Misfit:
    """Return the differences between the state dict and the network's; batch counters may be missing."""
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith(_COUNTER)]
    unexpected = [key for key in state if key not in own]
    misshapen = [
        (key, tuple(state[key].shape), tuple(value.shape))
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    return Misfit(tuple(missing), tuple(unexpected), tuple(misshapen))


def load_into(network: nn.Module, state: State, label: str, allow_partial: bool = False) -> tuple[str, ...]:
    """Copy the state dict into the network and return the notes that a report must show.

    ``label`` describes the file and the network in messages. Raises CheckpointError when keys are missing,
    unexpected or have other shapes; with ``allow_partial``, only when nothing fits.
    """
    state = clean(state, network)
    misfit = compare(network, state)
    if misfit and not allow_partial:
        raise CheckpointError(
            f"{label}: {misfit}. Use --allow-partial to load what fits and keep the initial values of the rest."
        )
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise CheckpointError(f"{label}: no tensor fits ({misfit}).")
    _copy(network, fitting, own, label)
    if not misfit:
        return ()
    n_initial = sum(not key.endswith(_COUNTER) for key in own if key not in fitting)
    return (f"Loaded partially: {misfit}. {n_initial} of {len(own)} tensors have their initial values.",)


def load_in_order(network: nn.Module, state: State, label: str) -> None:
    """Copy a state dict whose keys have other names but the same order, checking every shape."""
    own = network.state_dict()
    theirs = list(state.items())
    pairs = list(zip(own.items(), theirs, strict=False))
    wrong = [
        f"{key} {_by(old.shape)} but {other} {_by(new.shape)}"
        for (key, old), (other, new) in pairs
        if old.shape != new.shape
    ]
    if len(own) != len(theirs) or wrong:
        detail = wrong[0] if wrong else f"{len(theirs)} tensors for {len(own)}"
        raise CheckpointError(f"{label}: the tensors do not correspond ({detail}).")
    _copy(network, {key: new for (key, _), (_, new) in pairs}, own, label)


def rebuilt_for_classes(
    network: nn.Module, state: State, build: Callable[[int], nn.Module]
) -> tuple[nn.Module, int] | None:
    """Return a network built for the state dict's number of classes, and that number.

    None if the state dict already fits, or differs in more than the number of outputs.
    """
    misfit = compare(network, clean(state, network))
    if not misfit.misshapen:
        return None
    counts = {
        has[0]
        for _, has, wants in misfit.misshapen
        if len(has) == len(wants) and has and has[1:] == wants[1:]
    }
    if len(counts) != 1:
        return None
    count = counts.pop()
    other = build(count)
    return (other, count) if not compare(other, clean(state, other)).misshapen else None


def _copy(network: nn.Module, fitting: Mapping[str, Tensor], own: Mapping[str, Tensor], label: str) -> None:
    counters = {key: value for key, value in own.items() if key.endswith(_COUNTER) and key not in fitting}
    full: OrderedDict[str, Tensor] = OrderedDict({**counters, **fitting})
    # Without metadata, modules with several layouts (MNASNet) cannot tell which one this is.
    setattr(full, "_metadata", getattr(own, "_metadata", None))  # noqa: B010
    try:
        with torch.no_grad():
            network.load_state_dict(full, strict=False)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise CheckpointError(f"{label}: {str(error).strip().splitlines()[-1].strip()}") from error


def _candidates(state: State) -> list[State]:
    """Return the state dict with the prefixes of wrappers removed, one more in each entry."""
    candidates: list[State] = []
    current = {_without_compile_prefix(key): value for key, value in state.items()}
    if len(current) == len(state):
        candidates.append(current)
    else:
        current = dict(state)
    while True:
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in current)), None)
        if prefix is None or not current:
            return candidates
        current = {key[len(prefix) :]: value for key, value in current.items()}
        candidates.append(current)


def _without_compile_prefix(key: str) -> str:
    """Return the key without the component that torch.compile adds, wherever it is."""
    return ".".join(part for part in key.split(".") if part != "_orig_mod")


def _by(shape: tuple[int, ...] | torch.Size) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
