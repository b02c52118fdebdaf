"""Loading a state dict into a network, with the names of the keys that do not fit."""

from __future__ import annotations

import copy
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.models.source import State
from probe.models.weights.checkpoint import CheckpointError

_NAMED = 3
_ASIDE = re.compile(
    r"(?:^|\.)(?:criterion|loss\w*|\w*_loss|metrics?|\w*_metrics?|\w*acc(?:uracy)?\w*|auroc|confmat|n_averaged|total_ops"
    r"|total_params)(?:\.|$)"
)
"""Keys of losses, metrics and counters that training frameworks keep beside the network."""

_COUNTER = "num_batches_tracked"
_LOOKED_AT = 8


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


@dataclass(frozen=True)
class Fitted:
    """A state dict under the network's own names; ``aside`` are the file's keys that belong to something else.

    ``inside`` is the part of the network that the file is of, such as the network inside a defence; empty for all of it.
    """

    state: State
    aside: tuple[str, ...] = ()
    n_fitting: int = 0
    inside: str = ""


def fit_names(state: State, network: nn.Module) -> Fitted:
    """Find the network inside a state dict: under any prefix, beside a loss, metrics, or another network.

    The prefix is the one under which most tensors have the network's names and shapes. Keys elsewhere are left aside
    only if no tensor of the network is missing. Where nothing fits, the file may be of the network that this one wraps:
    of a part that has all parameters. Buffers outside of it, such as a mean of pixels, then keep their values.
    """
    values = network.state_dict()
    best = _fitted(state, {key: value.shape for key, value in values.items()})
    for part in () if best.n_fitting else _wrapped_parts(network):
        own = {key.removeprefix(part): value.shape for key, value in values.items() if key.startswith(part)}
        found = _fitted(state, own)
        if found.n_fitting > best.n_fitting:
            outside = {key: value for key, value in values.items() if not key.startswith(part)}
            named = outside | {part + key: value for key, value in found.state.items()}
            best = Fitted(named, found.aside, found.n_fitting, part.removesuffix("."))
    return best


def _wrapped_parts(network: nn.Module) -> list[str]:
    """Return the prefixes of the parts that have all of the network's parameters, the largest part first.

    A single layer is none of them: that a file has a weight and a bias says nothing.
    """
    parts, prefix = [], ""
    while not any(True for _ in network.parameters(recurse=False)):
        children = [
            (name, child) for name, child in network.named_children() if any(True for _ in child.parameters())
        ]
        if len(children) != 1:
            break
        name, network = children[0]
        if not any(True for _ in network.children()):
            break
        prefix += f"{name}."
        parts.append(prefix)
    return parts


def _fitted(state: State, own: Mapping[str, torch.Size]) -> Fitted:
    """Return the state dict under the names of ``own``, as far as they fit."""
    plain = {_without_compile_prefix(key): value for key, value in state.items()}
    best = Fitted(state, n_fitting=_count(state, own))
    for named in (state, plain) if len(plain) == len(state) else (state,):
        for prefix in _prefixes(named, own):
            inside = {key[len(prefix) :]: value for key, value in named.items() if key.startswith(prefix)}
            n_fitting = _count(inside, own)
            if n_fitting > best.n_fitting:
                aside = tuple(key for key in named if not key.startswith(prefix))
                best = Fitted(inside, aside, n_fitting)
    missing = [key for key in own if key not in best.state and not key.endswith(_COUNTER)]
    if missing and best.aside:
        return Fitted(
            {**best.state, **{key: state[key] for key in best.aside if key in state}}, (), best.n_fitting
        )
    extra = tuple(key for key in best.state if key not in own and _ASIDE.search(key))
    kept = {key: value for key, value in best.state.items() if key not in extra}
    return Fitted(kept, (*best.aside, *extra), best.n_fitting)


def _prefixes(state: State, own: Mapping[str, torch.Size]) -> list[str]:
    """Return the prefixes under which some of the network's keys stand, shortest first."""
    prefixes: set[str] = set()
    for key in list(own)[:_LOOKED_AT]:
        prefixes |= {other[: -len(key)] for other in state if other == key or other.endswith(f".{key}")}
    return sorted(prefixes, key=lambda prefix: (len(prefix), prefix))


def _count(state: State, own: Mapping[str, torch.Size]) -> int:
    return sum(key in state and state[key].shape == shape for key, shape in own.items())


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
    fitted = fit_names(state, network)
    state = fitted.state
    misfit = compare(network, state)
    if misfit and _accepted_by_hooks(network, state):
        _check_types(state, {key: state[key] for key in state}, label)
        network.load_state_dict(dict(state))
        return (
            *_type_notes(state),
            "The network renamed keys of the file while loading it (its own load hooks).",
        )
    if misfit and not allow_partial:
        raise CheckpointError(
            f"{label}: {misfit}. Use --allow-partial to load what fits and keep the initial values of the rest."
        )
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise CheckpointError(f"{label}: no tensor fits ({misfit}).")
    _check_types(own, fitting, label)
    _copy(network, fitting, own, label)
    notes = _type_notes(fitting)
    if fitted.aside:
        n = len(fitted.aside)
        notes = (
            *notes,
            f"{n} tensor{'s' if n > 1 else ''} of the file {'are' if n > 1 else 'is'} not the network's and "
            f"{'were' if n > 1 else 'was'} left aside: {_few(fitted.aside)}.",
        )
    if fitted.inside:
        notes = (
            *notes,
            f"The weights of the file are those of '{fitted.inside}', which has all of the network's parameters.",
        )
    if not misfit:
        return notes
    n_initial = sum(not key.endswith(_COUNTER) for key in own if key not in fitting)
    return (
        *notes,
        f"Loaded partially: {misfit}. {n_initial} of {len(own)} tensors have their initial values.",
    )


def _accepted_by_hooks(network: nn.Module, state: State) -> bool:
    """Return whether a copy of the network loads the state dict as it is, because its own hooks rename keys."""
    hooked = any(
        getattr(sub, "_load_state_dict_pre_hooks", None)
        or type(sub)._load_from_state_dict is not nn.Module._load_from_state_dict
        for sub in network.modules()
    )
    if not hooked:
        return False
    try:
        copy.deepcopy(network).load_state_dict(dict(state))
    except Exception:
        return False
    return True


def _check_types(own: State, fitting: State, label: str) -> None:
    """Raise CheckpointError for tensors that cannot be copied without changing what they say."""
    for key, value in fitting.items():
        kind = _kind(value)
        if kind:
            raise CheckpointError(
                f"{label}: {key} is a {kind} tensor, which cannot be used as weights: convert it first."
            )
        target = own[key]
        if target.is_floating_point() and not value.is_floating_point():
            raise CheckpointError(
                f"{label}: {key} is {_dtype(value)}, but the network has {_dtype(target)} there: a quantised or damaged file."
            )


def _kind(value: Tensor) -> str:
    if value.is_meta:
        return "meta (empty)"
    if value.is_quantized:
        return "quantised"
    if value.layout is not torch.strided:
        return "sparse"
    if value.is_complex():
        return "complex"
    return _dtype(value) if value.is_floating_point() and value.element_size() < 2 else ""


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _type_notes(fitting: State) -> tuple[str, ...]:
    other = Counter(
        _dtype(value)
        for value in fitting.values()
        if value.is_floating_point() and value.dtype != torch.float32
    )
    return tuple(
        f"{count} of the file's {len(fitting)} tensors are {name}; they are used in float32."
        for name, count in sorted(other.items())
    )


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
    misfit = compare(network, fit_names(state, network).state)
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
    return (other, count) if not compare(other, fit_names(state, other).state).misshapen else None


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


def _without_compile_prefix(key: str) -> str:
    """Return the key without the component that torch.compile adds, wherever it is."""
    return ".".join(part for part in key.split(".") if part != "_orig_mod")


def _by(shape: tuple[int, ...] | torch.Size) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
