"""Receptive-field rules of elementwise operations, normalisation, reductions and products."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor

from probe.graph.receptive_field.spans import Call, Field, Rule, SpatialDim, joined, whole


def pointwise(call: Call) -> Field | None:
    """Combine the operands element by element."""
    ndim = call.outputs[0].dim()
    return _joined(call, _tensors(call.values.values()), ndim)


def mixed(field: Field, sizes: Iterable[int], dims: Iterable[int], where: str) -> Field:
    """Make every element depend on all others along ``dims``; along the image's own dimensions this is a gate."""
    lengths, wanted = list(sizes), set(dims)
    met = False

    def along(axis: SpatialDim) -> SpatialDim:
        nonlocal met
        walk = axis.walk
        if walk is not None and walk in wanted and lengths[walk] > 1:
            met |= bool((axis.hull([walk]).bounds[:2] < axis.bounds[:2]).any())
        return replace(axis.hull(wanted - {walk}), walk=walk)

    result = field.map_axes(along)
    return result.noting([where]) if met else result


def softmax(call: Call) -> Field | None:
    """Normalise along one dimension."""
    field = call.field(call.main)
    if field is None:
        return None
    return mixed(field, call.main.shape, [call.values["dim"] % call.main.dim()], call.where)


def layer_norm(call: Call) -> Field | None:
    """Normalise over the last dimensions."""
    field = call.field(call.main)
    if field is None:
        return None
    ndim = call.main.dim()
    dims = range(ndim - len(call.values["normalized_shape"]), ndim)
    return mixed(field, call.main.shape, dims, call.where)


def group_norm(call: Call) -> Field | None:
    """Normalise over groups of channels and all positions."""
    field = call.field(call.main)
    return None if field is None else mixed(field, call.main.shape, range(1, call.main.dim()), call.where)


def batch_norm(call: Call) -> Field | None:
    """Normalise by stored statistics, or by those of the batch."""
    field = call.field(call.main)
    if field is None or not call.values.get("training", call.values.get("train", False)):
        return field
    dims = [0, *range(2, call.main.dim())]
    return mixed(field, call.main.shape, dims, call.where)


def reduction(call: Call) -> Field | None:
    """Reduce some dimensions, or all."""
    field = call.field(call.main)
    if field is None:
        return None
    ndim = call.main.dim()
    axes = call.values.get("dim")
    dims = [axes] if isinstance(axes, int) else list(axes or range(ndim))
    wanted = {dim % ndim for dim in dims}
    field = field.map_axes(lambda axis: axis.hull(wanted))
    if call.outputs[0].dim() == ndim:
        return field
    left = [dim for dim in range(ndim) if dim not in wanted]

    def dropped(axis: SpatialDim) -> SpatialDim:
        bounds = axis.bounds.reshape(4, *(axis.bounds.shape[dim + 1] for dim in left))
        return SpatialDim(bounds, None if axis.walk is None else left.index(axis.walk), axis.jump)

    return field.map_axes(dropped)


def along(call: Call) -> Field | None:
    """Make every element depend on all others along one dimension."""
    field = call.field(call.main)
    dim = call.values["dim"] % call.main.dim()
    return None if field is None else field.map_axes(lambda axis: axis.hull([dim]))


def product(call: Call) -> Field | None:
    """Multiply matrices, and add the first argument if there are three."""
    left, right, *_ = [call.values[name] for name in call.values if name in _FACTORS[call.name]]
    ndim = call.outputs[0].dim()
    fields = []
    for tensor, contracted in ((left, left.dim() - 1), (right, max(right.dim() - 2, 0))):
        field = call.field(tensor)
        if field is not None:
            fields.append(field.map_axes(lambda axis, dim=contracted: axis.hull([dim])).aligned(ndim))  # type: ignore[misc]
    result = _union(fields, call)
    added = call.values.get("self") if "self" not in _FACTORS[call.name] else None
    extra = call.field(added) if isinstance(added, Tensor) else None
    if extra is None or result is None:
        return result if extra is None else extra.aligned(ndim)
    return _union([result, extra.aligned(ndim)], call)


def linear(call: Call) -> Field | None:
    """Mix the last dimension."""
    if call.field(call.values["weight"]) is not None:
        raise NotImplementedError("weights that come from the image")
    field = call.field(call.main)
    return None if field is None else field.map_axes(lambda axis: axis.hull([call.main.dim() - 1]))


def attention(call: Call) -> Field | None:
    """Make every query depend on all keys and values."""
    fields = []
    for name in ("query", "key", "value"):
        field, ndim = call.field(call.values[name]), call.values[name].dim()
        if field is not None:
            dims = [ndim - 1] if name == "query" else [ndim - 2, ndim - 1]
            fields.append(field.map_axes(lambda axis, dims=dims: axis.hull(dims)))  # type: ignore[misc]
    return _union(fields, call)


def unknown(call: Call) -> tuple[Field | None, ...]:
    """Treat the outputs as depending on the whole image, and record the operation."""
    notes = [field for field in map(call.field, _tensors(call.values.values())) if field is not None]
    if not notes:
        return (None,) * len(call.outputs)
    name = f"{call.name} in {call.where}" if call.where else call.name
    results = []
    for output in call.outputs:
        field = whole(*call.image, output.dim())
        for note in notes:
            field = field.noting(note.gates, note.unknown)
        results.append(field.noting(unknown=[name]))
    return tuple(results)


def _union(fields: list[Field], call: Call) -> Field | None:
    if not fields:
        return None
    result = fields[0]
    for field in fields[1:]:
        shape = [2] * (result.rows.bounds.dim() - 1)
        result = joined(result, field, (shape, shape), call.where, gates=False)
    return replace(result, flat=frozenset())


def _joined(call: Call, tensors: list[Tensor], ndim: int) -> Field | None:
    result: Field | None = None
    shape: list[int] = []
    for tensor in tensors:
        field = call.field(tensor)
        own = [1] * (ndim - tensor.dim()) + list(tensor.shape)
        if field is None:
            continue
        field = field.aligned(ndim)
        if result is None:
            result, shape = field, own
        else:
            result = joined(result, field, (shape, own), call.where)
            shape = [max(pair) for pair in zip(shape, own, strict=True)]
    if result is None:
        return None
    out = call.outputs[0].shape
    return replace(result, flat=result.flat | {d for d in range(ndim) if shape[d] == 1 and out[d] > 1})


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    result: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            result.append(value)
        elif isinstance(value, list | tuple):
            result += _tensors(value)
    return result


_FACTORS: dict[str, tuple[str, ...]] = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}

RULES: dict[str, Rule] = {
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax"), softmax),
    **dict.fromkeys(("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm"), layer_norm),
    **dict.fromkeys(("native_group_norm", "group_norm"), group_norm),
    **dict.fromkeys(
        (
            "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
            "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update",
        ),
        batch_norm,
    ),
    **dict.fromkeys(
        (
            "mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean", "linalg_vector_norm",
            "logsumexp", "prod", "norm", "argmax", "argmin", "any", "all", "median", "nanmedian", "aminmax",
        ),
        reduction,
    ),
    **dict.fromkeys(("cumsum", "cumprod", "glu", "logcumsumexp", "sort"), along),
    **dict.fromkeys(_FACTORS, product),
    **dict.fromkeys(
        (
            "_prelu_kernel", "floor_divide", "hardswish", "log_sigmoid_forward", "masked_fill", "prelu",
            "rrelu_with_noise", "rsub",
            # Before torch 2.12 these, or their forms that work in place, are not tagged as pointwise.
            "celu", "elu", "hardsigmoid", "hardtanh", "leaky_relu", "selu",
        ),
        pointwise,
    ),
    "linear": linear,
    **dict.fromkeys(
        (
            "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
            "_scaled_dot_product_attention_math",
        ),
        attention,
    ),
}  # fmt: skip
