"""How close a piece of work comes to what this machine can do.

``work_of`` runs it once more while every convolution and matrix product is counted. Two ceilings follow: the time that the
same operations would take at the best rate of their data type, and the time that PyTorch needs for
the same convolutions and products, shape by shape, when nothing else runs.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from device import DEVICE, wait
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import flop_registry

SIDE, CHANNELS, EDGE = 2048, 256, 30
COVERED = 0.98
"""Share of the operations whose shapes are timed; the others are taken to run at their mean rate."""


def best(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the least seconds of several runs, after one to warm up."""
    work()
    wait()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@cache
def ceiling(dtype: torch.dtype) -> float:
    """Return the floating-point operations per second of a large matrix product or convolution, whichever has more."""
    # A GPU needs more at once to be filled.
    side, count = (SIDE, 8) if DEVICE.type == "cpu" else (4 * SIDE, 256)
    a, b = (torch.rand(side, side, device=DEVICE).to(dtype) for _ in range(2))
    last = torch.channels_last
    maps = torch.rand(count, CHANNELS, EDGE, EDGE, device=DEVICE).to(dtype).contiguous(memory_format=last)
    weight = torch.rand(CHANNELS, CHANNELS, 3, 3, device=DEVICE).to(dtype).contiguous(memory_format=last)
    product = 2.0 * side**3 / best(lambda: a @ b)
    convolution = 2.0 * count * (EDGE - 2) ** 2 * CHANNELS**2 * 9 / best(lambda: F.conv2d(maps, weight))
    return max(product, convolution)


@dataclass
class _Kind:
    """Calls of one operation on arguments of the same shapes and layouts."""

    call: Callable[[], object]
    dtype: torch.dtype
    flops: int
    calls: int = 0


@dataclass
class Work(TorchDispatchMode):
    """The counted operations of what runs inside it."""

    kinds: dict[Any, _Kind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        count = flop_registry.get(func._overloadpacket)
        if count is None:
            # Without gradients an operation arrives whole that is made of others.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if count is not None:
            key = (func, *map(_shape, tree_flatten((args, kwargs))[0]))
            if key not in self.kinds:
                given = tree_map(_blank, (args, kwargs))
                dtype = next(t.dtype for t in tree_flatten(args)[0] if isinstance(t, Tensor))
                flops = int(count(*args, **kwargs, out_val=out))
                self.kinds[key] = _Kind(lambda: func(*tree_map(_filled, given[0]), **given[1]), dtype, flops)
            self.kinds[key].calls += 1
        return out

    def __hash__(self) -> int:
        return id(self)

    @property
    def flops(self) -> Counter[torch.dtype]:
        """Floating-point operations by data type."""
        found = Counter[torch.dtype]()
        for kind in self.kinds.values():
            found[kind.dtype] += kind.calls * kind.flops
        return found

    def at_best(self) -> float:
        """Return the seconds of all operations at the ceilings of their data types."""
        return sum(flops / ceiling(dtype) for dtype, flops in self.flops.items())

    def at_own_shapes(self) -> float:
        """Return the seconds of all operations, each timed alone on arguments of its own shapes."""
        total, seen, seconds = sum(self.flops.values()), 0, 0.0
        for kind in sorted(self.kinds.values(), key=lambda kind: -kind.calls * kind.flops):
            if seen >= COVERED * total:
                break
            with torch.no_grad():
                seconds += kind.calls * best(kind.call, 3)
            seen += kind.calls * kind.flops
        return seconds * total / seen if seen else math.nan


@dataclass(frozen=True)
class _Blank:
    """The shape of a tensor, without its values."""

    like: Tensor
    strides: tuple[int, ...]


def _shape(leaf: object) -> object:
    if isinstance(leaf, Tensor):
        return (*leaf.shape, *leaf.stride(), leaf.dtype)
    return leaf if isinstance(leaf, int | float | bool | str | torch.dtype | None) else str(leaf)


def _blank(leaf: object) -> object:
    if not isinstance(leaf, Tensor):
        return leaf
    return _Blank(torch.empty(leaf.shape, dtype=leaf.dtype, device="meta"), tuple(leaf.stride()))


def _filled(leaf: object) -> object:
    if not isinstance(leaf, _Blank):
        return leaf
    return _zeros(tuple(leaf.like.shape), leaf.strides, leaf.like.dtype)


@cache
def _zeros(shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Ones, for a product of tiny numbers would be slower."""
    made = torch.empty_strided(shape, strides, dtype=dtype, device=DEVICE)
    return made.fill_(1) if made.numel() else made


def work_of(work: Callable[[], object]) -> Work:
    """Run the work and return its operations."""
    with Work() as counted:
        work()
    return counted


def told(work: Callable[[], object], seconds: float) -> str:
    """Return in words which part of the measured ``seconds`` the counted operations need at least."""
    counted = work_of(work)
    tera = {str(d).removeprefix("torch."): f / 1e12 for d, f in counted.flops.most_common()}
    amounts = " + ".join(f"{value:.2f} in {name}" for name, value in tera.items())
    return (
        f"{amounts} TFLOP: {counted.at_best() / seconds:.0%} of this machine's ceiling, "
        f"{counted.at_own_shapes() / seconds:.0%} of that of its own convolutions and products"
    )
