"""What a user's network needs before it can be studied: wrappers off, float32, lazy modules made, logits picked out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from probe.core.errors import CannotRunError
from probe.core.outputs import choose_output, with_output
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
