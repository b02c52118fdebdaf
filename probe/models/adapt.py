"""What a user's network needs before it can be studied: wrappers off, float32, lazy modules made, logits picked out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from probe.core.errors import CannotRunError, UsageError
from probe.core.state import training_mode
from probe.models.measure import SIDES, check_affordable, framing_of
from probe.models.source import SIZE, Build

_NOTES = "_probe_notes"
_CHANNELS = (3, 1)


def notes_on(network: nn.Module) -> tuple[str, ...]:
    """Return what ``adapt`` changed about a network, in sentences for the report."""
    return tuple(getattr(network, _NOTES, ()))


def adapt(
    network: nn.Module, name: str, img_size: tuple[int, int] | None = None, output: str | None = None
) -> nn.Module:
    """Return a user's network as a module from images (N, C, H, W) to logits (N, classes), in float32.

    Wrappers for several devices, for compilation and for averaging are taken off; lazy modules get their shapes from a
    first pass; a single logit becomes two; the logits of a tuple, a dictionary or a dataclass are picked out, those
    called ``output`` (a key, a field, or a position) where there are several. The layers keep their names. ``notes_on``
    says what was changed. Raises CannotRunError, with the way to mend it, for an output that is not a classifier's.
    """
    network, notes = unwrapped(network)
    if any(value.is_meta for value in (*network.parameters(), *network.buffers())):
        raise CannotRunError(
            f"{name} has tensors on the meta device, which have no values: build it with its weights, on the CPU."
        )
    _refuse_quantised(network, name)
    notes += _to_float32(network)
    if not isinstance(network, torch.jit.ScriptModule):
        found = _first_output(network, img_size)
        if found is not None:
            pick, note = choose_output(found, name, output)
            if pick is not None:
                network = with_output(network, pick)
                notes += (note,)
    if notes:
        setattr(network, _NOTES, (*notes_on(network), *notes))
    return network


def _refuse_quantised(network: nn.Module, name: str) -> None:
    """Raise CannotRunError for a network with integer weights, which has no gradients and no filters to look at."""
    for place, sub in network.named_modules():
        packed = type(sub).__module__.startswith("torch.ao.nn.") and ".quantized." in type(sub).__module__
        tensors = (*sub.parameters(recurse=False), *sub.buffers(recurse=False))
        if packed or any(value.is_quantized for value in tensors):
            raise CannotRunError(
                f"{name} is quantised ({place or 'the network'} is a {type(sub).__module__}.{type(sub).__name__}): integer weights "
                "have no gradients. Give the network as it was in float32, before convert or quantize_dynamic."
            )


def build_adapted(
    build: Callable[[Build], nn.Module], name: str, output: str | None, options: Build
) -> nn.Module:
    """Build a user's network and adapt it; as a partial function it can be sent to other processes."""
    return adapt(build(options), name, options.img_size, output)


def unwrapped(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network inside wrappers for devices, compilation and averaging, with notes."""
    notes: tuple[str, ...] = ()
    while True:
        inner: Any = None
        kind = type(network).__name__
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner, note = network.module, f"The network inside {kind} is studied, on one device."
        elif isinstance(network, torch.optim.swa_utils.AveragedModel):
            inner, note = network.module, f"The averaged network inside {kind} is studied."
        elif isinstance(getattr(network, "_orig_mod", None), nn.Module):
            inner, note = network._orig_mod, "The network is studied as it was before torch.compile."
        if not isinstance(inner, nn.Module):
            return network, notes
        for attribute in ("input_size", "default_cfg", "pretrained_cfg"):
            value = vars(network).get(attribute)
            if value is not None and getattr(inner, attribute, None) is None:
                setattr(inner, attribute, value)
        network, notes = inner, (*notes, note)


def _to_float32(network: nn.Module) -> tuple[str, ...]:
    """Convert a network of other floating-point types to float32, in place, with a note."""
    tensors = [value for value in (*network.parameters(), *network.buffers()) if value.is_floating_point()]
    other = sorted({str(value.dtype).removeprefix("torch.") for value in tensors} - {"float32"})
    if not other:
        return ()
    network.float()
    return (f"The network's {', '.join(other)} tensors are studied in float32.",)


def _first_output(network: nn.Module, img_size: tuple[int, int] | None) -> Any:
    """Return the output of a network for two images of the first size that it accepts, None if it accepts none.

    Lazy modules get their shapes in the first pass that succeeds.
    """
    device = next((p.device for p in network.parameters() if not is_lazy(p)), torch.device("cpu"))
    for size in _sizes(network, img_size):
        with suppress(Exception, SystemExit), training_mode(network, False), torch.no_grad():
            return network(torch.zeros(2, *size, device=device))
    return None


def _sizes(network: nn.Module, img_size: tuple[int, int] | None) -> Iterator[tuple[int, int, int]]:
    framing, _ = framing_of(network)
    channels, *own = framing.input.size
    known = SIZE not in framing.assumed
    firsts = _CHANNELS if channels == 0 else (channels,)
    sides = [img_size] if img_size else [(own[0], own[1])] if known else [(side, side) for side in SIDES]
    for height, width in sides:
        for first in firsts:
            check_affordable((first, height, width))
            yield first, height, width


@dataclass(frozen=True)
class OutputPick:
    """How logits are taken out of what a network returns: the way to the tensor, and whether it is one logit."""

    path: tuple[str | int, ...] = ()
    single: bool = False

    def __call__(self, output: Any) -> Tensor:
        """Return the logits (N, classes)."""
        for step in self.path:
            output = (
                output[step]
                if isinstance(step, int) or isinstance(output, Mapping)
                else getattr(output, step)
            )
        if self.single:
            logit = output.reshape(-1, 1)
            output = torch.cat([torch.zeros_like(logit), logit], 1)
        return output  # type: ignore[no-any-return]


def choose_output(output: Any, name: str, wanted: str | None = None) -> tuple[OutputPick | None, str]:
    """Return how to take the logits out of a network's output for two images, with a note; None if it is logits.

    Raises CannotRunError for outputs that are no classifier's, and UsageError for ``wanted`` that there is not.
    """
    parts = dict(_parts(output, ()))
    if wanted is not None:
        path = next((path for path in parts if path and str(path[-1]) == wanted), None)
        if path is None:
            raise UsageError(f"{name} has no output '{wanted}': it returns {_listing(parts)}.")
        parts = {path: parts[path]}
    logits = {path: value for path, value in parts.items() if _is_logits(value)}
    if not logits:
        return _single(parts, name)
    if len(logits) > 1:
        named = [
            path
            for path in logits
            if path and str(path[-1]) in ("logits", "logit", "pred", "preds", "scores")
        ]
        if len(named) != 1:
            raise CannotRunError(
                f"{name} returns {_listing(parts)}, and {len(logits)} of these could be logits (N, classes): choose one with "
                f"--output {next(iter(logits))[-1]}."
            )
        logits = {named[0]: logits[named[0]]}
    ((path, _),) = logits.items()
    if not path:
        return None, ""
    return OutputPick(
        path
    ), f"The network returns {_listing(parts)}; '{_spelled(path)}' is taken as the logits."


def _single(parts: Mapping[tuple[str | int, ...], Tensor], name: str) -> tuple[OutputPick | None, str]:
    """Handle outputs without (N, classes ≥ 2): one logit, maps, or nothing usable."""
    single = {
        path: value for path, value in parts.items() if value.is_floating_point() and value.numel() == 2
    }
    if len(single) == 1:
        (path,) = single
        where = f" ('{_spelled(path)}')" if path else ""
        return OutputPick(path, True), (
            f"The network returns one number for each image{where}: it is taken as the logit of class 1 against class 0 (its "
            "sigmoid is the probability of class 1)."
        )
    maps = [value for value in parts.values() if value.ndim == 4 and value.is_floating_point()]
    if maps:
        shape = "×".join(map(str, maps[0].shape[1:]))
        raise CannotRunError(
            f"{name} returns maps of {shape} for each image, as a segmentation network does: probe studies classifiers, whose "
            "output is logits (N, classes). To study it as one, return for example x.mean((2, 3))."
        )
    if not parts:
        raise CannotRunError(f"{name} returns no tensor: its forward must return logits (N, classes).")
    raise CannotRunError(
        f"{name} returns {_listing(parts)} for 2 images, not logits (N, classes): wrap it in a module whose forward returns the "
        "logits."
    )


def _parts(output: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Tensor]]:
    """Yield the tensors in an output with the way to each, two levels deep."""
    if isinstance(output, Tensor):
        yield path, output
        return
    if len(path) > 1:
        return
    entries: list[tuple[str | int, Any]] = []
    if isinstance(output, Mapping):
        entries = [(key, value) for key, value in output.items() if isinstance(key, str)]
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        entries = [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        entries = [(name, getattr(output, name)) for name in output._fields]
    elif isinstance(output, tuple | list):
        entries = list(enumerate(output))
    for key, value in entries:
        yield from _parts(value, (*path, key))


def _is_logits(value: Tensor) -> bool:
    return value.ndim == 2 and len(value) == 2 and value.shape[1] > 1 and value.is_floating_point()


def _listing(parts: Mapping[tuple[str | int, ...], Tensor]) -> str:
    shown = [f"{_spelled(path) or 'a tensor'} {_shape(value)}" for path, value in list(parts.items())[:6]]
    return ", ".join(shown) + (" …" if len(parts) > 6 else "")


def _shape(value: Tensor) -> str:
    sides = ["N" if place == 0 and side == 2 else str(side) for place, side in enumerate(value.shape)]
    kind = "" if value.is_floating_point() else f" of {str(value.dtype).removeprefix('torch.')}"
    return f"({', '.join(sides)}){kind}"


def _spelled(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


class _PicksOutput:
    """Mixed into a network's own class: its forward returns the logits alone. Layer names and weights stay."""

    _pick: OutputPick
    _base: type[nn.Module]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes); torch.fx traces no ``**options`` of a network that is traced by itself."""
        return self._pick(super().forward(images))  # type: ignore[misc]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle by the network's own class: this one is made when it is needed."""
        return _new, (self._base, self._pick), self.__dict__


def with_output(network: nn.Module, pick: OutputPick) -> nn.Module:
    """Make a network return the logits that ``pick`` takes out of its output, in place; return it."""
    network.__class__ = _picking(type(network), pick)
    return network


def _new(base: type[nn.Module], pick: OutputPick) -> nn.Module:
    kind = _picking(base, pick)
    return kind.__new__(kind)


_KINDS: dict[tuple[type[nn.Module], OutputPick], type[nn.Module]] = {}


def _picking(base: type[nn.Module], pick: OutputPick) -> type[nn.Module]:
    """Return the class of a network whose forward returns the picked logits, made once."""
    if (base, pick) not in _KINDS:
        names = {
            "_pick": pick,
            "_base": base,
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
        }
        _KINDS[base, pick] = type(base.__name__, (_PicksOutput, base), names)
    return _KINDS[base, pick]
