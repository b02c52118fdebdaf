"""Folding of batch normalisation into the preceding convolution, which computes the same function faster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from probe.graph.edit.edits import drop_unused
from probe.graph.trace.trace import shared_copy


def folded(module: nn.Module, known: dict[str, nn.Module] | None = None) -> nn.Module:
    """Return ``folded_graph`` of a graph; a module that is not a graph is returned unchanged."""
    return folded_graph(module, known) if isinstance(module, fx.GraphModule) else module


def folded_graph(module: fx.GraphModule, known: dict[str, nn.Module] | None = None) -> fx.GraphModule:
    """Return a copy of a graph with each batch normalisation folded into the preceding convolution.

    Only convolutions whose output has no other use, and normalisations with fixed statistics, are
    folded; unchanged weights are shared. ``known`` caches folded convolutions by name, for several edited copies of one
    network.
    """
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    copy = fx.GraphModule(module, graph, type(module).__name__)
    for node in list(copy.graph.nodes):
        norm = _norm(copy, node)
        if norm is not None and (source := _convolution_below(copy, node)) is not None:
            name = _folded_name(source, node)
            folded = (known or {}).get(name) or _fold(_called(copy, source), norm)
            if known is not None:
                known[name] = folded
            _replace(copy, source, name, folded)
            node.replace_all_uses_with(source)
            copy.graph.erase_node(node)
        elif _copies_back(copy, node):
            _replace(copy, node, f"{node.name}_aside", _not_in_place(_called(copy, node)))
    drop_unused(copy)
    copy.delete_all_unused_submodules()
    copy.recompile()
    return copy.eval()


def _folded_name(source: fx.Node, norm: fx.Node) -> str:
    """Return a name that is the same in two graphs only if the same modules were folded at the same position."""
    parts = (source.name, source.target, norm.name, norm.target if norm.op == "call_module" else "")
    return "folded_" + "_".join(str(part).replace(".", "_") for part in parts)


def _norm(module: fx.GraphModule, node: fx.Node) -> Mapping[str, Any] | None:
    """Return the statistics and weights of an evaluation-mode batch normalisation, or None."""
    if node.op == "call_module":
        sub = _called(module, node)
        if type(sub) is not nn.BatchNorm2d or sub.training or sub.running_mean is None:
            return None
        return {
            "mean": sub.running_mean,
            "var": sub.running_var,
            "eps": sub.eps,
            "weight": sub.weight,
            "bias": sub.bias,
        }
    if node.op != "call_function" or node.target is not F.batch_norm:
        return None
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    arguments = dict(zip(names, node.args, strict=False)) | node.kwargs
    if arguments.get("training", False) is not False:
        return None
    values = [_value(module, arguments.get(name)) for name in names[1:5]]
    if values[0] is None or values[1] is None:
        return None
    keys = ("mean", "var", "weight", "bias")
    return dict(zip(keys, values, strict=True)) | {"eps": arguments.get("eps", 1e-5)}


def _value(module: fx.GraphModule, argument: object) -> Tensor | None:
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    value: object = module
    for part in str(argument.target).split("."):
        value = getattr(value, part)
    return value if isinstance(value, Tensor) else None


def _convolution_below(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return the convolution whose output is used only by ``node``, or None."""
    source = node.args[0] if node.args else node.kwargs.get("input")
    if not isinstance(source, fx.Node) or source.op != "call_module" or not _only_reader(source):
        return None
    below = _called(module, source)
    # A computed weight (spectral_norm, weight_norm, a parametrisation) is no parameter, and would be computed again.
    plain = isinstance(below, nn.Conv2d) and {"weight", "bias"} <= set(below._parameters)
    return source if plain else None


def _only_reader(source: fx.Node) -> bool:
    """Return whether only one node reads the values of ``source``; others may read its shape."""
    return sum(not _asks_for_shape(user) for user in source.users) == 1


def _asks_for_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim", "ndimension")
    return node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim")


def _fold(below: Any, norm: Mapping[str, Any]) -> nn.Module:
    convolution: nn.Module = shared_copy(below)
    weight, bias = fuse_conv_bn_weights(
        below.weight, below.bias, norm["mean"], norm["var"], norm["eps"], norm["weight"], norm["bias"]
    )
    convolution.register_parameter("weight", weight)
    convolution.register_parameter("bias", bias)
    return convolution


def _copies_back(module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether ``node`` is an in-place ReLU6 or Hardtanh, which torch computes separately and copies back."""
    if node.op != "call_module" or not isinstance(node.args[0], fx.Node) or not _only_reader(node.args[0]):
        return False
    sub = _called(module, node)
    return isinstance(sub, nn.Hardtanh) and sub.inplace


def _not_in_place(sub: nn.Module) -> nn.Module:
    copy = shared_copy(sub)
    vars(copy)["inplace"] = False
    return copy


def _called(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    return module.get_submodule(str(node.target))


def _replace(module: fx.GraphModule, node: fx.Node, name: str, new: nn.Module) -> None:
    module.add_submodule(name, new)
    node.target = name
