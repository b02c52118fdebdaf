"""Follow the receptive field of every tensor through a forward pass."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from probe.graph import field_mixing, field_moves, field_windows
from probe.graph.calls import Call, Rule
from probe.graph.spans import NOTHING, Axis, Field, compress, pixels

RULES: dict[str, Rule] = field_windows.RULES | field_moves.RULES | field_mixing.RULES


class FieldMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keep a Field for every tensor that an image's forward pass computes.

    ``inside`` is the stack of the modules being run; whoever runs the network keeps it up to date.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.image = (int(image.shape[2]), int(image.shape[3]))
        self.fields: MutableMapping[Tensor, Field | None] = WeakTensorKeyDictionary()
        self.fields[image] = pixels(*self.image)
        self.inside: list[str] = []

    def field(self, tensor: Any) -> Field | None:
        """Return the field of ``tensor``, None when it does not depend on the image."""
        return self.fields.get(tensor) if isinstance(tensor, Tensor) else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and work out the fields of its outputs."""
        result = func(*args, **(kwargs or {}))
        outputs = tuple(_tensors(result))
        if outputs:
            values = _named(func, args, kwargs or {})
            for tensor, field in zip(outputs, self.rule(func, values, outputs), strict=True):
                if func._schema.is_mutable:
                    self._write(tensor, field)
                else:
                    self.fields[tensor] = field
        return result

    def rule(
        self, func: Any, values: dict[str, Any], outputs: tuple[Tensor, ...]
    ) -> tuple[Field | None, ...]:
        """Return the field of every output of an operation that was just run; ``values`` are its arguments by
        name."""
        name = str(func.overloadpacket.__name__)
        if func._schema.is_mutable:
            name = name.rstrip("_")
        call = Call(
            name,
            values,
            outputs,
            self.inside[-1] if self.inside else "",
            self.image,
            self.field,
            lambda changed: func(**(values | changed)),
        )
        try:
            found = self._which(func, name)(call)
        except NotImplementedError:
            found = field_mixing.unknown(call)
        return found if isinstance(found, tuple) else (found,) * len(outputs)

    def _which(self, func: Any, name: str) -> Rule:
        rule = RULES.get(name)
        if rule is None:
            rule = field_mixing.pointwise if torch.Tag.pointwise in func.tags else field_mixing.unknown
        return rule

    def _write(self, tensor: Tensor, field: Field | None) -> None:
        """Store the field of a tensor that was changed in place, and change those that share its memory."""
        place = tensor.untyped_storage().data_ptr()
        for other, old in list(self.fields.items()):
            if other is tensor or other.untyped_storage().data_ptr() != place:
                continue
            self.fields[other] = (
                field if _layout(other) == _layout(tensor) else _scatter(other, old, tensor, field)
            )
        self.fields[tensor] = field


def _scatter(base: Tensor, old: Field | None, part: Tensor, new: Field | None) -> Field | None:
    if old is None and new is None:
        return None
    axes = [
        _scattered(base, None if old is None else old.axes[i], part, None if new is None else new.axes[i])
        for i in (0, 1)
    ]
    result = Field(axes[0], axes[1])
    for field in (old, new):
        if field is not None:
            result = result.noting(field.gates, field.unknown)
    return result


def _scattered(base: Tensor, old: Axis | None, part: Tensor, new: Axis | None) -> Axis:
    count = base.untyped_storage().nbytes() // base.element_size()
    planes = []
    for index in range(4):
        memory = torch.full((count,), NOTHING)
        for tensor, axis in ((base, old), (part, new)):
            view = memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
            if axis is None:
                view.fill_(NOTHING)
            else:
                view.copy_(axis.bounds[index].expand(tensor.shape))
        planes.append(memory.as_strided(base.shape, base.stride(), base.storage_offset()))
    bounds = compress(torch.stack(planes))
    known = next(axis for axis in (new, old) if axis is not None)
    if base.dim() == part.dim() and known.walk is not None:
        return Axis(bounds, known.walk, known.jump)
    return known.found(bounds, None)


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.stride(), tensor.storage_offset()


def _named(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for index, argument in enumerate(func._schema.arguments):
        if index < len(args):
            values[argument.name] = args[index]
        else:
            values[argument.name] = kwargs.get(argument.name, argument.default_value)
    return values


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
