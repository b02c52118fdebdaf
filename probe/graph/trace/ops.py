"""The operations of the nodes of a traced network, with common names for modules, functions, methods and ATen."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from probe.graph.edit.activations import function_name, node_activation
from probe.graph.trace.leaves import is_dropout_like, is_lrn

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_NORM_NAMES = ("BatchNorm", "GroupNorm", "LayerNorm", "InstanceNorm", "RmsNorm", "RMSNorm")
_ADDS = frozenset({operator.add, operator.iadd, torch.add})
_MULTIPLIES = frozenset({operator.mul, operator.imul, torch.mul, torch.multiply})
_JOINS = frozenset({torch.cat, torch.concat, torch.concatenate})
_ALIASES = {
    "conv1d": "conv", "conv2d": "conv", "conv3d": "conv", "convolution": "conv", "addmm": "linear",
    "scaled_dot_product_attention": "matmul", "bmm": "matmul", "einsum": "matmul", "baddbmm": "matmul",
    "batch_norm": "norm", "group_norm": "norm", "layer_norm": "norm", "instance_norm": "norm", "rms_norm": "norm",
    "native_layer_norm": "norm", "native_group_norm": "norm", "local_response_norm": "lrn",
    "_native_batch_norm_legit_no_training": "norm", "concat": "cat", "concatenate": "cat",
    "mean": "pool", "__add__": "add", "__radd__": "add", "__iadd__": "add", "add_": "add", "mul_": "mul",
    "__mul__": "mul", "__rmul__": "mul", "multiply": "mul",
}  # fmt: skip
_WEIGHTED = frozenset({"conv", "linear", "matmul"})


def operation(graph: fx.GraphModule, node: fx.Node) -> str:
    """Return what a node computes: ``add``, ``mul``, ``cat``, ``conv``, ``linear``, ``matmul``, ``norm``, ``lrn``,
    ``activation``, ``pool``, ``dropout``, ``input``, ``output``, ``constant``; else the function's own name.
    """  # fmt: skip
    if node.op in ("placeholder", "output", "get_attr"):
        return {"placeholder": "input", "output": "output", "get_attr": "constant"}[node.op]
    if node.op == "call_module":
        return _of_module(called(graph, node), node_activation(graph, node) is not None)
    if node.target in _ADDS:
        return "add"
    if node.target in _MULTIPLIES:
        return "mul"
    if node.target in _JOINS:
        return "cat"
    known = function_name(node)
    if known is not None:
        kinds = (("dropout", "dropout"), ("pool", "pool"))
        return next((kind for word, kind in kinds if word in known), "activation")
    name = plain_name(node.target)
    return _ALIASES.get(name, name)


def called(graph: fx.GraphModule, node: fx.Node) -> nn.Module:
    """Return the module that a ``call_module`` node calls."""
    return graph.get_submodule(str(node.target))


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a normalisation: batch, group, layer, instance or RMS."""
    return isinstance(module, _NORMS) or any(name in type(module).__name__ for name in _NORM_NAMES)


def is_weighted(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node counts for depth, because it multiplies its input by a weight matrix."""
    if operation(graph, node) in _WEIGHTED:
        return True
    if node.op != "call_module" or is_norm(called(graph, node)):
        return False
    return any(parameter.dim() >= 2 for parameter in called(graph, node).parameters())


def tensor_inputs(node: fx.Node) -> Iterator[fx.Node]:
    """Yield the nodes whose tensors are inputs of ``node``; a shape is not a tensor."""
    for value in node.all_input_nodes:
        if value.op != "get_attr" and value.meta.get("shape") is not None:
            yield value


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of one image's value at ``node``, without the batch; () if it is not a tensor."""
    return tuple((node.meta.get("shape") or (1,))[1:])


def owner(node: fx.Node) -> str:
    """Return the name of the innermost module that a node belongs to, "" for the network itself."""
    if node.op == "call_module":
        return str(node.target)
    return str(node.meta.get("path", ("",))[-1]) if node.meta.get("path") else ""


def _of_module(module: nn.Module, activation: bool) -> str:
    if isinstance(module, _ConvNd):
        return "conv"
    if isinstance(module, nn.Linear):
        return "linear"
    if is_dropout_like(module):
        return "dropout"
    if is_lrn(module):
        return "lrn"
    if is_norm(module):
        return "norm"
    if activation:
        return "activation"
    name = type(module).__name__
    return "pool" if "Pool" in name or "pool" in name else name


def plain_name(target: Any) -> str:
    """Return the name of a function, method or ATen operator: ``mean`` for ``aten.mean.dim``."""
    if isinstance(target, str):
        return target
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name).rpartition("::")[2]
    return str(getattr(target, "__name__", target))
