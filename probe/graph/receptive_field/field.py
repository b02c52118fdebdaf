"""Exact receptive fields, computed through every operation of the network."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from probe.core.errors import NotApplicableError, UsageError
from probe.core.state import refuse_torchscript
from probe.graph.receptive_field import mixing as field_mixing
from probe.graph.receptive_field import moves as field_moves
from probe.graph.receptive_field import windows as field_windows
from probe.graph.receptive_field.spans import NOTHING, Call, Field, Rule, SpatialDim, compress, pixels
from probe.graph.trace.trace import check_layer, layer_names, no_side_effects, shared_copy

RULES: dict[str, Rule] = field_windows.RULES | field_moves.RULES | field_mixing.RULES


class FieldMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Track a Field for every tensor that an image's forward pass computes.

    ``inside`` is the stack of running modules; the caller keeps it up to date.
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
        """Run the operation and compute the fields of its outputs."""
        result = func(*args, **(kwargs or {}))
        outputs = tuple(_tensors(result))
        if outputs:
            values = _bind(func, args, kwargs or {})
            for tensor, field in zip(outputs, self.rule(func, values, outputs), strict=True):
                if func._schema.is_mutable:
                    self._write(tensor, field)
                else:
                    self.fields[tensor] = field
        return result

    def rule(
        self, func: Any, values: dict[str, Any], outputs: tuple[Tensor, ...]
    ) -> tuple[Field | None, ...]:
        """Return the field of every output of an operation after running it; ``values`` are its arguments by name."""
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
            fields = self._which(func, name)(call)
        except NotImplementedError:
            fields = field_mixing.unknown(call)
        return fields if isinstance(fields, tuple) else (fields,) * len(outputs)

    def _which(self, func: Any, name: str) -> Rule:
        rule = RULES.get(name)
        if rule is None:
            rule = field_mixing.pointwise if torch.Tag.pointwise in func.tags else field_mixing.unknown
        return rule

    def _write(self, tensor: Tensor, field: Field | None) -> None:
        """Store the field of a tensor that was changed in place, and update those that share its memory."""
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


def _scattered(base: Tensor, old: SpatialDim | None, part: Tensor, new: SpatialDim | None) -> SpatialDim:
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
        return SpatialDim(bounds, known.walk, known.jump)
    return known.with_bounds(bounds, None)


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.stride(), tensor.storage_offset()


def _bind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
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


Box = tuple[int, int, int, int]
Interval = tuple[int, int]


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the image that each unit of a layer's map sees, in pixels.

    Intervals are half-open. ``rows[i]`` are the image rows that the units of row i depend on, over all channels,
    clipped to the image; ``open_rows[i]`` includes the padding. ``size`` is the unclipped height and
    width of the largest field, and of every unit if all fields are equal; ``jump`` is the distance between the
    fields of neighbouring units. ``note`` says what the field ignores or why it is too large; it is empty if
    the field is exact.
    """

    image: tuple[int, int]
    rows: tuple[Interval, ...]
    cols: tuple[Interval, ...]
    open_rows: tuple[Interval, ...]
    open_cols: tuple[Interval, ...]
    size: tuple[int, int]
    jump: tuple[float, float]
    note: str = ""

    def box(self, row: int, col: int) -> Box:
        """Return (top, left, bottom, right) of a unit's field inside the image.

        A unit that depends only on padding has the box (0, 0, 0, 0). Raises IndexError outside the map.
        """
        return _box(self.rows, self.cols, row, col)

    def open_box(self, row: int, col: int) -> Box:
        """Return a unit's field including padding: it may begin below 0 and end outside the image."""
        return _box(self.open_rows, self.open_cols, row, col)

    @property
    def whole_image(self) -> bool:
        """Whether every unit sees the whole image."""
        height, width = self.image
        return set(self.rows) == {(0, height)} and set(self.cols) == {(0, width)}


def receptive_field(module: nn.Module, layer: str, example: Tensor) -> ReceptiveField:
    """Return the receptive field of every unit in the output of ``layer``.

    The intervals are exact for the size of ``example`` (N, C, H, W): strides, padding, dilation, poolings,
    resampling and moved elements are tracked with integers through one forward pass in eval mode; the network need
    not be traceable. Global gates (squeeze-and-excitation, normalisation over the map) are ignored and listed in
    ``note``; an operation that is not supported counts as seeing the whole image and is listed too. For a
    reused layer, the last call counts. The module is not changed.

    Raises UsageError for an unknown layer, NotApplicableError if it is not called or does not return a map.
    """
    return receptive_fields(module, [layer], example)[layer]


def receptive_fields(module: nn.Module, layers: Sequence[str], example: Tensor) -> dict[str, ReceptiveField]:
    """Return the receptive fields of several layers from one forward pass; see ``receptive_field``."""
    for layer in layers:
        check_layer(layer_names(module), layer)
    if example.dim() != 4:
        raise UsageError(f"A receptive field needs an input (N, C, H, W), not {tuple(example.shape)}.")
    refuse_torchscript(module)
    copy, image = shared_copy(module), example[:1].clone()
    mode = FieldMode(image)
    outputs: dict[str, tuple[Field | None, tuple[int, ...]]] = {}
    with no_side_effects(copy):
        _watch(copy, mode, layers, outputs)
        with mode:
            copy(image)
    for layer in layers:
        if layer not in outputs:
            raise NotApplicableError(
                f"Layer '{layer}' is not called in eval mode, or gives no single tensor."
            )
    return {layer: packed(layer, *outputs[layer], mode.image) for layer in layers}


def _watch(
    copy: nn.Module,
    mode: FieldMode,
    layers: Iterable[str],
    outputs: dict[str, tuple[Field | None, tuple[int, ...]]],
) -> None:
    """Add hooks to the private copy that track the running module and keep the fields of the layers' outputs."""

    def enter(name: str) -> Any:
        return lambda _module, _args: mode.inside.append(name)

    def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
        mode.inside.pop()

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs[name] = mode.field(output), tuple(output.shape)

        return hook

    for name, sub in copy.named_modules():
        sub.register_forward_pre_hook(enter(name))
        sub.register_forward_hook(leave, always_call=True)
    for layer in layers:
        copy.get_submodule(layer).register_forward_hook(keep(layer))


def packed(layer: str, field: Field | None, shape: tuple[int, ...], image: tuple[int, int]) -> ReceptiveField:
    """Return the receptive field of the units of a tensor of ``shape``, from its field in a ``FieldMode``.

    Raises NotApplicableError if the tensor does not depend on the image or is not a map.
    """
    if field is None:
        raise NotApplicableError(f"The output of layer '{layer}' does not depend on the image.")
    if field.rows.walk is not None and field.rows.walk == field.cols.walk:
        raise NotApplicableError(f"The output of layer '{layer}' is not a map with rows and columns.")
    rows, open_rows = _intervals(field.rows, shape, 2)
    cols, open_cols = _intervals(field.cols, shape, 3)
    return ReceptiveField(
        image=image,
        rows=rows,
        cols=cols,
        open_rows=open_rows,
        open_cols=open_cols,
        size=(max(end - start for start, end in open_rows), max(end - start for start, end in open_cols)),
        jump=(float(abs(field.rows.jump)), float(abs(field.cols.jump))),
        note=_note(field),
    )


def _intervals(
    axis: SpatialDim, shape: Sequence[int], usual: int
) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
    """Return the clipped and the open intervals along the map, combined over all other dimensions."""
    walk = axis.walk if axis.walk is not None else usual if len(shape) == 4 else None
    joined = axis.hull(dim for dim in range(len(shape)) if dim != walk).bounds.reshape(4, -1)
    first, last, low, high = joined.expand(4, 1 if walk is None else shape[walk]).tolist()
    return _half_open(first, last), _half_open(low, high)


def _half_open(first: Sequence[int], last: Sequence[int]) -> tuple[Interval, ...]:
    """Return intervals from first and −last; an empty one is (0, 0)."""
    return tuple((f, 1 - e) if f + e <= 0 else (0, 0) for f, e in zip(first, last, strict=True))


def _note(field: Field) -> str:
    """Return a sentence each on what the field ignores and on unsupported operations."""
    parts = []
    if field.gates:
        parts.append(
            f"Through global operations ({_listed(field.gates)}) every unit also depends on the whole image; "
            "this is the field along the spatial path, without them."
        )
    if field.unknown:
        parts.append(
            f"Operations of unknown reach ({_listed(field.unknown)}) count as seeing the whole image."
        )
    return " ".join(parts)


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _box(rows: Sequence[Interval], cols: Sequence[Interval], row: int, col: int) -> Box:
    if not (0 <= row < len(rows) and 0 <= col < len(cols)):
        raise IndexError(f"unit ({row}, {col}) is outside the map of {len(rows)} × {len(cols)}")
    (top, bottom), (left, right) = rows[row], cols[col]
    return (top, left, bottom, right) if top < bottom and left < right else (0, 0, 0, 0)
