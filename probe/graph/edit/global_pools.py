"""Poolings of whole maps, in all their spellings, made adaptive poolings."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from probe.graph.edit.activations import function_name
from probe.graph.edit.edits import drop_unused, free_name
from probe.graph.edit.spelling import arguments_of, has_nodes
from probe.graph.trace.ops import plain_name

_GLOBAL = ("input", "dim", "keepdim")
_REDUCTIONS = {"mean": nn.AdaptiveAvgPool2d, "amax": nn.AdaptiveMaxPool2d}
_USUAL = {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False, "divisor_override": None}
_WINDOWS = {"avg_pool2d": nn.AdaptiveAvgPool2d, "max_pool2d": nn.AdaptiveMaxPool2d}


def pools_to_modules(graph: fx.GraphModule) -> None:
    """Replace every function that pools a map as a whole, such as ``x.mean((2, 3))``, by an adaptive pooling."""
    for node in list(graph.graph.nodes):
        pool = _global_pool(node)
        if pool is not None:
            _put_global_pool(graph, node, *pool)
    drop_unused(graph)


def _global_pool(node: fx.Node) -> tuple[fx.Node, type[nn.Module], bool] | None:
    """Return the map that a node pools as a whole, the module that does so, and whether its sides of 1 stay."""
    if (
        node.op not in ("call_function", "call_method")
        or not node.meta.get("shape")
        or node.meta.get("mutates")
    ):
        return None
    name = function_name(node)
    if name in _WINDOWS:
        return _window_pool(node, _WINDOWS[name])
    reduced = _reduction(node)
    if reduced is None:
        return None
    word, value, dims, keep = reduced
    if len(_shape(value)) == 4 and dims == {2, 3}:
        return value, _REDUCTIONS[word], keep
    inner = _reduction(value)
    if inner is not None:
        same = inner[0] == word and inner[3] == keep and len(_shape(inner[1])) == 4
        both = ({3}, {2}), ({2}, {3}), ({2}, {2})
        pairs = both[:2] if keep else (both[0], both[2])
        return (inner[1], _REDUCTIONS[word], keep) if same and (inner[2], dims) in pairs else None
    flat = _flattened(value)
    return (flat, _REDUCTIONS[word], False) if flat is not None and dims == {2} and not keep else None


def _reduction(node: fx.Node) -> tuple[str, fx.Node, set[int], bool] | None:
    """Return what reduces (``mean`` or ``amax``), the reduced value, its dimensions, and whether sides of 1 stay."""
    values = _values_of_maximum(node)
    name = "amax" if values is not None else plain_name(node.target)
    call = node if values is None else values
    if name not in _REDUCTIONS or call.op not in ("call_function", "call_method"):
        return None
    arguments = arguments_of(call, _GLOBAL)
    dim = arguments.pop("dim", arguments.pop("axis", None))
    value, keep = arguments.pop("input", None), arguments.pop("keepdim", False)
    extra = [key for key, other in arguments.items() if other is not None]
    if extra or not isinstance(value, fx.Node) or not isinstance(keep, bool):
        return None
    return name, value, _dims(dim, value), keep


def _values_of_maximum(node: fx.Node) -> fx.Node | None:
    """Return the ``max`` along a dimension whose values (not their places) a node reads."""
    reads = (
        node.target in (operator.getitem, getattr) and len(node.args) == 2 and node.args[1] in (0, "values")
    )
    source = node.args[0] if reads else None
    return source if isinstance(source, fx.Node) and plain_name(source.target) == "max" else None


def _flattened(value: fx.Node) -> fx.Node | None:
    """Return the map of which ``value`` (N, C, places) is the flattened form."""
    source = next(iter(value.all_input_nodes), None)
    if source is None or len(_shape(source)) != 4 or len(_shape(value)) != 3:
        return None
    n, channels, height, width = _shape(source)
    known = plain_name(value.target) in ("flatten", "view", "reshape", "_unsafe_view")
    return source if known and _shape(value) == (n, channels, height * width) else None


def _window_pool(node: fx.Node, kind: type[nn.Module]) -> tuple[fx.Node, type[nn.Module], bool] | None:
    """Return the map of a pooling whose window was read from the map's own size, and is all of it."""
    options = dict(zip(("input", "kernel_size"), node.args, strict=False)) | node.kwargs
    value, window = options.pop("input", None), options.pop("kernel_size", None)
    options.pop("stride", None)
    plain = len(node.args) <= 3 and all(options.get(key, usual) == usual for key, usual in _USUAL.items())
    if not isinstance(value, fx.Node) or not has_nodes(window) or not plain or len(_shape(value)) != 4:
        return None
    sides = fx.node.map_arg(window, lambda other: other.meta.get("sizes"))
    sides = (sides, sides) if isinstance(sides, int) else tuple(sides or ())  # type: ignore[arg-type]
    whole = sides == _shape(value)[2:] and node.meta["shape"][2:] == (1, 1)
    return (value, kind, True) if whole else None


def _dims(dim: object, value: fx.Node) -> set[int]:
    count = len(_shape(value))
    dims = list(dim) if isinstance(dim, list | tuple) else [dim]
    return {d % count for d in dims if isinstance(d, int)} if count else set()


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta.get("shape") or ())


def _put_global_pool(
    graph: fx.GraphModule, node: fx.Node, value: fx.Node, kind: type[nn.Module], keep: bool
) -> None:
    """Replace a reduction of whole maps by an adaptive pooling to one value, and a flattening where that is gone."""
    word = "amax" if _values_of_maximum(node) is not None else function_name(node) or plain_name(node.target)
    own = str((node.meta.get("path") or ("",))[-1])
    name = free_name(graph, f"{own}.{word}" if own else word)
    graph.add_submodule(name, kind(1).eval())
    with graph.graph.inserting_before(node):
        pooled = graph.graph.call_module(name, (value,))
        pooled.meta = {**node.meta, "shape": (*_shape(value)[:2], 1, 1)}
        result = pooled
        if not keep:
            result = graph.graph.call_function(torch.flatten, (pooled, 1))
            result.meta = dict(node.meta)
    node.replace_all_uses_with(result)
    graph.graph.erase_node(node)
