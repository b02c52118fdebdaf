"""Exact receptive fields, followed through every operation of the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from probe.core.errors import NotApplicableError, UsageError
from probe.graph.field_mode import FieldMode
from probe.graph.names import check_layer, layer_names
from probe.graph.shell import isolated, shell
from probe.graph.spans import Axis, Field

Box = tuple[int, int, int, int]
Interval = tuple[int, int]


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the image that each unit of a layer's map sees, in pixels.

    Intervals are half-open. ``rows[i]`` is what the units of row i see of the image's rows, all channels taken
    together, cut at the image's edge; ``open_rows[i]`` goes on into the padding. ``size`` is the uncut height and
    width of the largest field, which is that of any unit where all are alike; ``jump`` is the distance between the
    fields of neighbouring units. ``note`` says what the field leaves out or why it is too large; it is empty when
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

        A unit that sees padding only has the box (0, 0, 0, 0). Raises IndexError outside the map.
        """
        return _box(self.rows, self.cols, row, col)

    def open_box(self, row: int, col: int) -> Box:
        """Return a unit's field as if the image went on: it may begin below 0 and end outside."""
        return _box(self.open_rows, self.open_cols, row, col)

    @property
    def whole_image(self) -> bool:
        """Whether every unit sees the whole image."""
        height, width = self.image
        return set(self.rows) == {(0, height)} and set(self.cols) == {(0, width)}


def receptive_field(module: nn.Module, layer: str, example: Tensor) -> ReceptiveField:
    """Return the receptive field of every unit in the output of ``layer``.

    The intervals are exact for the size of ``example`` (N, C, H, W): strides, padding, dilation, poolings,
    resampling and moved elements are followed with integers through one forward pass in eval mode; the network need
    not be traceable. Global gates (squeeze-and-excitation, normalisation over the map) are left out and named in
    ``note``; an operation that is not understood counts as seeing the whole image and is named there too. Of a
    reused layer the last call counts. The module is not changed.

    Raises UsageError for an unknown layer, NotApplicableError when it is not called or gives no map.
    """
    return receptive_fields(module, [layer], example)[layer]


def receptive_fields(module: nn.Module, layers: Sequence[str], example: Tensor) -> dict[str, ReceptiveField]:
    """Return the receptive fields of several layers from one forward pass; see ``receptive_field``."""
    for layer in layers:
        check_layer(layer_names(module), layer)
    if example.dim() != 4:
        raise UsageError(f"A receptive field needs an input (N, C, H, W), not {tuple(example.shape)}.")
    copy, image = shell(module), example[:1].clone()
    mode = FieldMode(image)
    outputs: dict[str, tuple[Field | None, tuple[int, ...]]] = {}
    with isolated(copy):
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
    """Hook the private copy: tell the mode which module is running, keep the fields of the layers' outputs."""

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
    """Return what the units of a tensor of ``shape`` see, from the field that a ``FieldMode`` keeps for it.

    Raises NotApplicableError when it does not depend on the image or is no map.
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
    axis: Axis, shape: Sequence[int], usual: int
) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
    """Return the true and the open intervals along the map, joined over everything else."""
    walk = axis.walk if axis.walk is not None else usual if len(shape) == 4 else None
    joined = axis.hull(dim for dim in range(len(shape)) if dim != walk).bounds.reshape(4, -1)
    first, last, low, high = joined.expand(4, 1 if walk is None else shape[walk]).tolist()
    return _half_open(first, last), _half_open(low, high)


def _half_open(first: Sequence[int], last: Sequence[int]) -> tuple[Interval, ...]:
    """Return intervals from first and −last; an empty one is (0, 0)."""
    return tuple((f, 1 - e) if f + e <= 0 else (0, 0) for f, e in zip(first, last, strict=True))


def _note(field: Field) -> str:
    """Say in a sentence each what the field leaves out and what was not understood."""
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
