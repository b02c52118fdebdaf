"""Properties of a tensor operation as a layer: its kind, its window, its multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from torch import Tensor

Kind = Literal[
    "conv", "transposed conv", "linear", "matmul", "attention", "max pool", "average pool", "global pool", "pad",
    "resample", "LRN", "norm", "elementwise", "join", "other",
]  # fmt: skip
Numbers = tuple[int, ...]

WEIGHTED: frozenset[Kind] = frozenset({"conv", "transposed conv", "linear", "matmul", "attention"})
WINDOWED: frozenset[Kind] = frozenset({"conv", "transposed conv", "max pool", "average pool"})
LAYERS = WEIGHTED | WINDOWED | {"global pool", "pad", "resample", "LRN"}
"""The kinds that a table of layers lists; all others are only summed up."""

_PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm"})
_NORMS = ("batch_norm", "group_norm", "layer_norm", "instance_norm", "rms_norm")


@dataclass(frozen=True)
class KernelWindow:
    """A sliding window, one number per spatial dimension; ``ceil`` rounds the number of positions up, as some poolings do."""

    kernel: Numbers
    stride: Numbers
    padding: Numbers
    dilation: Numbers
    groups: int = 1
    transposed: bool = False
    output_padding: Numbers = ()
    ceil: bool = False

    def output_size(self, size: Sequence[int]) -> Numbers:
        """Return the size of the output for an input of ``size``.

        M' = floor((M − k' + 2p) / s) + 1 with k' = d(k − 1) + 1, and (M − 1)s − 2p + k' + output padding if transposed
        (Dumoulin and Visin 2016). With ``ceil``, a window may not start in the padding after the map.
        """
        more = self.output_padding or (0,) * len(self.kernel)
        rows = zip(size, self.kernel, self.stride, self.padding, self.dilation, more, strict=True)
        return tuple(self._along(*row) for row in rows)

    def _along(self, size: int, kernel: int, stride: int, padding: int, dilation: int, more: int) -> int:
        spread = dilation * (kernel - 1) + 1
        if self.transposed:
            return (size - 1) * stride - 2 * padding + spread + more
        free = size - spread + 2 * padding
        count = (-(-free // stride) if self.ceil else free // stride) + 1
        return count - 1 if self.ceil and (count - 1) * stride >= size + padding else count


def kind_of(name: str, values: Mapping[str, Any], weighted: bool, pointwise: bool) -> Kind:
    """Return the kind of an ATen operation; ``weighted``: whether one of its factors depends only on parameters."""
    if name == "convolution":
        return "transposed conv" if values["transposed"] else "conv"
    if name in _PRODUCTS:
        return "linear" if weighted else "matmul"
    if "scaled_dot_product" in name or name.endswith("attention_forward"):
        return "attention"
    if any(word in name for word in _NORMS):
        return "norm"
    if name in ("cat", "stack"):
        return "join"
    return _of_space(name, values, pointwise)


def _of_space(name: str, values: Mapping[str, Any], pointwise: bool) -> Kind:
    """Return the kind of an operation without weights."""
    if "adaptive" in name and "pool" in name and prod(values["output_size"]) == 1:
        return "global pool"
    if "pool" in name:
        return "max pool" if "max" in name else "average pool"
    if name in ("mean", "amax") and _over_space(values):
        return "global pool"
    if name.endswith(("_pad1d", "_pad2d", "_pad3d", "_pad_nd")):
        return "pad"
    if name.startswith(("upsample", "_upsample")):
        return "resample"
    return "elementwise" if pointwise else "other"


def _over_space(values: Mapping[str, Any]) -> bool:
    """Return whether a mean or maximum is over the whole map (N, C, H, W)."""
    ndim = next(iter(values.values())).dim()
    dims = values.get("dim") or ()
    return ndim == 4 and {dim % ndim for dim in dims} == {2, 3}


def window_of(kind: Kind, values: Mapping[str, Any]) -> KernelWindow | None:
    """Return the window of a convolution or a pooling, None for other operations."""
    if kind in ("conv", "transposed conv"):
        kernel = tuple(int(k) for k in values["weight"].shape[2:])
        stride, padding, dilation, more = (
            _each(values[name], len(kernel)) for name in ("stride", "padding", "dilation", "output_padding")
        )
        transposed = bool(values["transposed"])
        return KernelWindow(
            kernel, stride, padding, dilation, int(values["groups"]), transposed, more if transposed else ()
        )
    if kind in ("max pool", "average pool") and "kernel_size" in values:
        count = next(iter(values.values())).dim() - 2
        kernel = _each(values["kernel_size"], count)
        return KernelWindow(
            kernel,
            _each(values["stride"] or kernel, count),
            _each(values["padding"], count),
            _each(values.get("dilation", 1), count),
            ceil=bool(values.get("ceil_mode", False)),
        )
    return None


def macs_of(kind: Kind, values: Mapping[str, Any], output: Tensor) -> int:
    """Return the multiply-accumulates of one call; biases, norms and poolings count as none.

    A convolution has k · k · C_in · C_out / groups of them at each of the M' · N' positions of its output; a transposed
    convolution at each position of its input. For attention, the two matrix products are counted.
    """
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    if kind in ("conv", "transposed conv"):
        data, weight = values["input"], values["weight"]
        places = data.shape[2:] if kind == "transposed conv" else output.shape[2:]
        return int(data.shape[0]) * int(weight.numel()) * prod(places)
    if kind in ("linear", "matmul"):
        return output.numel() * int(tensors[-2].shape[-1])
    if kind == "attention":
        query, key, value = tensors[:3]
        pairs = prod(query.shape[:-1]) * int(key.shape[-2])
        return pairs * (int(query.shape[-1]) + int(value.shape[-1]))
    return 0


def _each(value: int | Sequence[int], count: int) -> Numbers:
    values = [value] if isinstance(value, int) else [int(number) for number in value]
    return tuple(values * count if len(values) == 1 else values)
