"""What a network returns: where in a tuple, a dictionary or a dataclass its logits are, and a network that returns them alone."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.core.errors import CannotRunError, UsageError
from probe.core.seeds import scoped
from probe.core.state import kept_buffers, training_mode


def returning_logits(network: nn.Module, images: Tensor) -> nn.Module:
    """Return a module whose output for images like these (N, C, H, W) is logits (N, classes): the network itself where it is so.

    Else a copy that shares the network's layers and tensors; the network is left as it is. Raises CannotRunError for an
    output that is not a classifier's.
    """
    if not len(images):
        return network
    with training_mode(network, False), kept_buffers(network), torch.no_grad(), scoped(0, "output"):
        output = network(images[:1].repeat(2, *[1] * (images.ndim - 1)))
    pick, _ = choose_output(output, type(network).__name__)
    return network if pick is None else with_output(copy.copy(network), pick)


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
                f"--output {next(iter(logits))[-1]} (in Python, probe.wrap with output=)."
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
