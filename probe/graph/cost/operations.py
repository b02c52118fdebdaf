"""A table of all operations in one forward pass, with parameters, MACs and memory; no tracing is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from probe.core.errors import NotApplicableError
from probe.core.state import refuse_torchscript
from probe.graph.cost.operation_rules import (
    LAYERS,
    WEIGHTED,
    KernelWindow,
    Kind,
    Numbers,
    kind_of,
    macs_of,
    window_of,
)
from probe.graph.receptive_field.field import FieldMode, packed
from probe.graph.receptive_field.spans import Field
from probe.graph.trace.leaves import is_lrn
from probe.graph.trace.trace import no_side_effects, shared_copy


@dataclass(frozen=True)
class Reach:
    """The receptive fields of a map's units, height before width, in pixels.

    ``size`` of the largest field, including padding; ``jump`` between neighbouring units, None if there
    is only one unit or all have the same field; ``start``: the centre of the first unit's field, where 0.5 is the
    centre of the first pixel; ``units`` of the map. ``note`` says what is ignored (global gates) or not supported; it is
    empty if the field is exact.
    """

    size: tuple[int, int]
    jump: tuple[float, float] | None
    start: tuple[float, float]
    units: tuple[int, int]
    note: str = ""


@dataclass(frozen=True)
class OperationRow:
    """One call of a layer or of another operation.

    ``name``: the module that contains it, "" for the network's own code; ``call``: 2 if that module runs for
    the second time. Shapes are without the batch; ``input`` is () if the operation has several inputs. ``parameters``
    are those that no earlier row has counted, ``shared`` the others. ``macs`` for one image. ``activations``: bytes of
    the output if it needs its own memory, and of all steps of an LRN. ``reach`` is known for layers whose output is a map.
    """

    name: str
    call: int
    kind: Kind
    operation: str
    input: Numbers
    output: Numbers
    window: KernelWindow | None = None
    parameters: int = 0
    shared: int = 0
    macs: int = 0
    activations: int = 0
    reach: Reach | None = None

    @property
    def is_layer(self) -> bool:
        """Whether the row is a layer with a window or a matrix of weights, or LRN; not another norm or elementwise."""
        return self.kind in LAYERS

    @property
    def depthwise(self) -> bool:
        """Whether the row is a convolution with one group per input channel."""
        return self.window is not None and self.input[:1] == (self.window.groups,) != (1,)


@dataclass(frozen=True)
class OperationTable:
    """All rows in execution order.

    ``parameters`` of the network, shared ones counted once; ``unused`` of them are in no row, because they are not used
    in eval mode. ``peak``: maximum number of bytes that are needed at once, including the image.
    """

    rows: tuple[OperationRow, ...]
    parameters: int
    unused: int
    peak: int
    image: tuple[int, int]

    @property
    def layers(self) -> tuple[OperationRow, ...]:
        """The rows that are layers: convolutions, products, poolings, padding, resampling, LRN."""
        return tuple(row for row in self.rows if row.is_layer)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def activations(self) -> int:
        """Bytes of all values that one image's forward pass computes, as kept in training."""
        return sum(row.activations for row in self.rows)

    @property
    def reach(self) -> Reach | None:
        """The receptive field of the last map with more than one unit; None if later layers mix all positions."""
        for row in reversed(self.layers):
            if row.kind in ("attention", "matmul") and row.reach is None:
                return None
            if row.reach is not None and max(row.reach.units) > 1:
                return row.reach
        return None


def operation_table(network: nn.Module, example: Tensor, *, field: bool = True) -> OperationTable:
    """Run a network once on the first image of ``example`` (N, C, H, W), in eval mode, and list its operations.

    The network need not be traceable and is not changed. Functions count as layers just like modules; a module that is
    called twice has two rows. A local response normalisation, which torch computes by padding and pooling over the
    channels, is one row. Without ``field``, and on the meta device, there are no receptive fields.
    """
    refuse_torchscript(network)
    copy, image = shared_copy(network), example[:1].clone()
    mode = _Counting(copy, image, field and not image.is_meta)
    with no_side_effects(copy), without_fused_attention():
        mode.watch(copy)
        with _WholeNorms(mode), mode:
            copy(image)
    used = sum(mode.sizes[parameter] for parameter in mode.claimed)
    total = sum(mode.sizes.values())
    return OperationTable(tuple(mode.rows), total, total - used, mode.peak, mode.image)


@contextmanager
def without_fused_attention() -> Iterator[None]:
    """Make ``nn.MultiheadAttention`` use separate products, which can be counted, inside the block."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Counting(FieldMode):  # type: ignore[no-untyped-call]
    """Record a row for every operation on values that depend on the image."""

    def __init__(self, network: nn.Module, image: Tensor, follow: bool) -> None:
        super().__init__(image)
        self.follow = follow
        if not follow:
            self.fields.clear()
        self.rows: list[OperationRow] = []
        self.sizes = {id(parameter): parameter.numel() for parameter in network.parameters()}
        self.claimed: set[int] = set()
        self.calls: Counter[str] = Counter()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        self.norms = 0
        """How many local response normalisations are running, one inside the other."""
        # Parameters that a tensor is computed from, where it is computed from nothing else; empty for constants.
        self.sources: MutableMapping[Tensor, frozenset[int]] = WeakTensorKeyDictionary()
        for parameter in network.parameters():
            self.sources[parameter] = frozenset({id(parameter)})
        for buffer in network.buffers():
            self.sources[buffer] = frozenset()
        self._store(image)

    def watch(self, copy: nn.Module) -> None:
        """Add hooks to the private copy that track which module is running and how often it has been called."""

        def enter(name: str) -> Any:
            def hook(module: nn.Module, _args: Any) -> None:
                self.calls[name] += 1
                self.inside.append(name)
                starts.append(len(self.rows))
                self.norms += is_lrn(module)

            return hook

        def leave(module: nn.Module, _args: Any, output: Any) -> None:
            self.inside.pop()
            start = starts.pop()
            if isinstance(module, nn.Linear) and isinstance(output, Tensor):
                self.rows[start:] = _as_one(self.rows[start:], tuple(output.shape[1:]))
            if is_lrn(module):
                self.norms -= 1
                self.rows[start:] = _as_one_norm(self.rows[start:])

        starts: list[int] = []
        for name, sub in copy.named_modules():
            sub.register_forward_pre_hook(enter(name))
            sub.register_forward_hook(leave, always_call=True)

    def rule(
        self, func: Any, values: dict[str, Any], outputs: tuple[Tensor, ...]
    ) -> tuple[Field | None, ...]:
        """Record the operation's row, and return the fields of its outputs as far as known."""
        fields = super().rule(func, values, outputs) if self.follow else (None,) * len(outputs)
        inputs = list(_tensors(list(values.values())))
        known = [self.sources.get(value) for value in inputs]
        parts = frozenset[int]().union(*(source for source in known if source is not None))
        if all(source is not None for source in known):
            for output in outputs:
                self.sources[output] = parts
            return fields
        fresh = [self._store(output) for output in outputs]
        self.peak = max(self.peak, self._living())
        weighted = any(source for source in known)
        kind = kind_of(str(func.overloadpacket.__name__), values, weighted, torch.Tag.pointwise in func.tags)
        if any(fresh) or kind in WEIGHTED or (func._schema.is_mutable and kind != "other"):
            data = [value for value, source in zip(inputs, known, strict=True) if source is None]
            self._write_row(kind, func, values, data, outputs, parts, fresh[0], fields[0])
        return fields

    def _write_row(
        self,
        kind: Kind,
        func: Any,
        values: dict[str, Any],
        data: list[Tensor],
        outputs: tuple[Tensor, ...],
        parts: frozenset[int],
        activations: int,
        field: Field | None,
    ) -> None:
        name = self.inside[-1] if self.inside else ""
        output = outputs[0]
        shown: Kind = "LRN" if self.norms else kind
        row = OperationRow(
            name=name,
            call=self.calls[name],
            kind=shown,
            operation=str(func.overloadpacket.__name__),
            input=_shape(data[0]) if len(data) == 1 else (),
            output=_shape(output),
            window=window_of(kind, values),
            parameters=sum(self.sizes[parameter] for parameter in parts - self.claimed),
            shared=sum(self.sizes[parameter] for parameter in parts & self.claimed),
            macs=macs_of(kind, values, output),
            activations=activations,
            reach=_reach(field, output, self.image) if shown in LAYERS else None,
        )
        self.claimed |= parts
        self.rows.append(row)

    def _store(self, tensor: Tensor) -> int:
        """Register a tensor's memory and return its bytes, 0 if it shares known memory."""
        storage = tensor.untyped_storage()
        if storage._cdata in self.alive:
            return 0
        self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]
        return tensor.numel() * tensor.element_size()

    def _living(self) -> int:
        # A freed storage keeps its number until its weak reference goes, so that a new one is not mistaken for it.
        gone = [key for key, (storage, _) in self.alive.items() if storage.expired()]  # type: ignore[no-untyped-call]
        for key in gone:
            del self.alive[key]
        return sum(size for _, size in self.alive.values())


class _WholeNorms(TorchFunctionMode):
    """Record a call of ``F.local_response_norm``, from whatever module, as one row."""

    def __init__(self, counting: _Counting) -> None:
        super().__init__()
        self.counting = counting

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, and merge the rows of a local response normalisation."""
        if func is not F.local_response_norm:
            return func(*args, **(kwargs or {}))
        start = len(self.counting.rows)
        self.counting.norms += 1
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.counting.norms -= 1
            self.counting.rows[start:] = _as_one_norm(self.counting.rows[start:])


def _reach(field: Field | None, output: Tensor, image: tuple[int, int]) -> Reach | None:
    if field is None or (output.dim() != 4 and field.rows.walk is field.cols.walk is None):
        return None
    try:
        packed_field = packed("", field, tuple(output.shape), image)
    except NotApplicableError:
        return None
    units = len(packed_field.open_rows), len(packed_field.open_cols)
    first = packed_field.open_rows[0], packed_field.open_cols[0]
    return Reach(
        size=packed_field.size,
        jump=packed_field.jump if max(units) > 1 and max(packed_field.jump) > 0 else None,
        start=((first[0][0] + first[0][1]) / 2, (first[1][0] + first[1][1]) / 2),
        units=units,
        note=packed_field.note,
    )


def _as_one(rows: list[OperationRow], shape: Numbers) -> list[OperationRow]:
    """Merge the rows of a linear layer to one row with the layer's output shape.

    The matrix product has a flattened input, and if that is not contiguous, the bias is a separate operation.
    """
    products = [row for row in rows if row.kind == "linear"]
    if len(products) != 1:
        return rows
    return [_sum(rows, replace(products[0], input=(*shape[:-1], products[0].input[-1]), output=shape))]


def _as_one_norm(rows: list[OperationRow]) -> list[OperationRow]:
    """Merge the rows of a local response normalisation; its input has the shape of its output, which the last has."""
    if not rows:
        return rows
    return [
        _sum(rows, replace(rows[-1], operation="local_response_norm", input=rows[-1].output, window=None))
    ]


def _sum(rows: list[OperationRow], whole: OperationRow) -> OperationRow:
    """Return the row of a layer with the cost of all its operations."""
    return replace(
        whole,
        parameters=sum(row.parameters for row in rows),
        shared=sum(row.shared for row in rows),
        macs=sum(row.macs for row in rows),
        activations=sum(row.activations for row in rows),
    )


def _shape(tensor: Tensor) -> Numbers:
    """Return a tensor's shape without the batch; a matrix whose rows are not images keeps both numbers."""
    return tuple(tensor.shape[1:]) if tensor.dim() > 0 and tensor.shape[0] == 1 else tuple(tensor.shape)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
