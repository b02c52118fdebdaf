"""Every layer that an image meets, counted from the operations of one forward pass; no tracing is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

from probe.core.errors import NotApplicableError
from probe.graph.census_ops import LAYERS, WEIGHTED, Kind, Numbers, kind_of, macs_of, window_of
from probe.graph.census_rows import Census, Reach, Row
from probe.graph.field import packed
from probe.graph.field_mode import FieldMode
from probe.graph.shell import isolated, shell
from probe.graph.spans import Field


def census(network: nn.Module, example: Tensor, *, field: bool = True) -> Census:
    """Run a network once on the first image of ``example`` (N, C, H, W), in eval mode, and list what it does.

    The network need not be traceable and is not changed. Functions count as layers like modules do; a module that is
    called twice has two rows. Without ``field``, and on the meta device, receptive fields are left out.
    """
    copy, image = shell(network), example[:1].clone()
    mode = _Counting(copy, image, field and not image.is_meta)
    with isolated(copy), without_fused_attention():
        mode.watch(copy)
        with mode:
            copy(image)
    used = sum(mode.sizes[one] for one in mode.claimed)
    total = sum(mode.sizes.values())
    return Census(tuple(mode.rows), total, total - used, mode.peak, mode.image)


@contextmanager
def without_fused_attention() -> Iterator[None]:
    """Let ``nn.MultiheadAttention`` run as its single products, which can be counted, inside the block."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Counting(FieldMode):  # type: ignore[no-untyped-call]
    """Write a row for every operation on what comes from the image."""

    def __init__(self, network: nn.Module, image: Tensor, follow: bool) -> None:
        super().__init__(image)
        self.follow = follow
        if not follow:
            self.fields.clear()
        self.rows: list[Row] = []
        self.sizes = {id(one): one.numel() for one in network.parameters()}
        self.claimed: set[int] = set()
        self.calls: Counter[str] = Counter()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        # Parameters that a tensor is computed from, where it is computed from nothing else; empty for constants.
        self.sources: MutableMapping[Tensor, frozenset[int]] = WeakTensorKeyDictionary()
        for parameter in network.parameters():
            self.sources[parameter] = frozenset({id(parameter)})
        for buffer in network.buffers():
            self.sources[buffer] = frozenset()
        self._store(image)

    def watch(self, copy: nn.Module) -> None:
        """Hook the private copy, to know at every moment which module runs and how often it has been run."""

        def enter(name: str) -> Any:
            def hook(_module: nn.Module, _args: Any) -> None:
                self.calls[name] += 1
                self.inside.append(name)
                starts.append(len(self.rows))

            return hook

        def leave(module: nn.Module, _args: Any, output: Any) -> None:
            self.inside.pop()
            start = starts.pop()
            if isinstance(module, nn.Linear) and isinstance(output, Tensor):
                self.rows[start:] = _as_one(self.rows[start:], tuple(output.shape[1:]))

        starts: list[int] = []
        for name, sub in copy.named_modules():
            sub.register_forward_pre_hook(enter(name))
            sub.register_forward_hook(leave, always_call=True)

    def rule(
        self, func: Any, values: dict[str, Any], outputs: tuple[Tensor, ...]
    ) -> tuple[Field | None, ...]:
        """Write the operation's row, and return what is known of the fields of its outputs."""
        fields = super().rule(func, values, outputs) if self.follow else (None,) * len(outputs)
        inputs = list(_tensors(list(values.values())))
        known = [self.sources.get(one) for one in inputs]
        parts = frozenset[int]().union(*(one for one in known if one is not None))
        if all(one is not None for one in known):
            for output in outputs:
                self.sources[output] = parts
            return fields
        fresh = [self._store(output) for output in outputs]
        self.peak = max(self.peak, self._living())
        weighted = any(one for one in known)
        kind = kind_of(str(func.overloadpacket.__name__), values, weighted, torch.Tag.pointwise in func.tags)
        if any(fresh) or kind in WEIGHTED or (func._schema.is_mutable and kind != "other"):
            data = [one for one, source in zip(inputs, known, strict=True) if source is None]
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
        row = Row(
            name=name,
            call=self.calls[name],
            kind=kind,
            operation=str(func.overloadpacket.__name__),
            input=_shape(data[0]) if len(data) == 1 else (),
            output=_shape(output),
            window=window_of(kind, values),
            parameters=sum(self.sizes[one] for one in parts - self.claimed),
            shared=sum(self.sizes[one] for one in parts & self.claimed),
            macs=macs_of(kind, values, output),
            activations=activations,
            reach=_reach(field, output, self.image) if kind in LAYERS else None,
        )
        self.claimed |= parts
        self.rows.append(row)

    def _store(self, tensor: Tensor) -> int:
        """Remember a tensor's memory; return its bytes, 0 where it shares memory that is known."""
        storage = tensor.untyped_storage()
        if storage._cdata in self.alive:
            return 0
        self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]
        return tensor.numel() * tensor.element_size()

    def _living(self) -> int:
        # A dead storage keeps its number until its weak reference goes, so that no new one can be taken for it.
        gone = [key for key, (storage, _) in self.alive.items() if storage.expired()]  # type: ignore[no-untyped-call]
        for key in gone:
            del self.alive[key]
        return sum(size for _, size in self.alive.values())


def _reach(field: Field | None, output: Tensor, image: tuple[int, int]) -> Reach | None:
    if field is None or (output.dim() != 4 and field.rows.walk is field.cols.walk is None):
        return None
    try:
        found = packed("", field, tuple(output.shape), image)
    except NotApplicableError:
        return None
    units = len(found.open_rows), len(found.open_cols)
    first = found.open_rows[0], found.open_cols[0]
    return Reach(
        size=found.size,
        jump=found.jump if max(units) > 1 and max(found.jump) > 0 else None,
        start=((first[0][0] + first[0][1]) / 2, (first[1][0] + first[1][1]) / 2),
        units=units,
        note=found.note,
    )


def _as_one(rows: list[Row], shape: Numbers) -> list[Row]:
    """Return the rows of a linear layer as one with the layer's own output shape.

    Its product sees the input flattened, and where that is not contiguous the bias is an operation of its own.
    """
    products = [row for row in rows if row.kind == "linear"]
    if len(products) != 1:
        return rows
    whole = replace(
        products[0],
        input=(*shape[:-1], products[0].input[-1]),
        output=shape,
        parameters=sum(row.parameters for row in rows),
        shared=sum(row.shared for row in rows),
        activations=sum(row.activations for row in rows),
    )
    return [whole]


def _shape(tensor: Tensor) -> Numbers:
    """Return a tensor's shape without the batch; a matrix whose rows are not images keeps both numbers."""
    return tuple(tensor.shape[1:]) if tensor.dim() > 0 and tensor.shape[0] == 1 else tuple(tensor.shape)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
