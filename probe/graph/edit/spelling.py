"""Layers that are spelled as functions (convolutions, dense layers, norms), made modules."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from probe.graph.edit.edits import drop_unused, free_name, replace

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_INSTANCE_NORM = (*_BATCH_NORM[:5], "use_input_stats", "momentum", "eps")

ARGUMENTS = MappingProxyType(
    {
        **{f"conv{n}d": _CONV for n in (1, 2, 3)},
        **{f"conv_transpose{n}d": _TRANSPOSED for n in (1, 2, 3)},
        "linear": ("input", "weight", "bias"),
        "batch_norm": _BATCH_NORM,
        "instance_norm": _INSTANCE_NORM,
        "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
        "rms_norm": ("input", "normalized_shape", "weight", "eps"),
        "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
        "local_response_norm": ("input", "size", "alpha", "beta", "k"),
        "prelu": ("input", "weight"),
    }
)
"""Function of torch.nn.functional → the names of its arguments, in order."""

LAYER_FUNCTIONS: dict[Any, str] = {
    getattr(place, name): name for place in (torch, F) for name in ARGUMENTS if hasattr(place, name)
}
"""Every function that is a layer with weights or a norm → its plain name."""

_TORCH_NORM = (
    "input",
    "weight",
    "bias",
    "running_mean",
    "running_var",
    "training",
    "momentum",
    "eps",
    "cudnn_enabled",
)
_ORDERS: dict[Any, tuple[str, ...]] = {
    torch.batch_norm: _TORCH_NORM,
    torch.instance_norm: (*_TORCH_NORM[:5], "use_input_stats", *_TORCH_NORM[6:]),
}
"""Functions of torch whose arguments have another order than those of torch.nn.functional."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORMS = (None, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_STATE = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def layers_to_modules(graph: fx.GraphModule, only: Collection[str] = ()) -> None:
    """Replace functions with weights and norms by the modules that do the same.

    A function whose weights are computed, or are no parameters of the network, stays what it is. A
    batch normalisation, which the trace has frozen in eval mode, becomes one that knows the training mode.
    ``only`` names the functions of ``ARGUMENTS`` that are replaced, none: all.
    """
    for node in list(graph.graph.nodes):
        wanted = node.op == "call_function" and node.meta.get("shape") is not None
        if wanted and (not only or _name(node) in only):
            module = _module_for(graph, node)
            if module is not None:
                replace(graph, node, module, _place(graph, node, module), _input(node))
    drop_unused(graph)


def _name(node: fx.Node) -> str:
    """Return the name of the function of ``ARGUMENTS`` that a node calls, or an empty string."""
    if isinstance(node.target, torch._ops.OpOverload):
        name = str(node.target._schema.name).rpartition("::")[2]
        return name if name in ARGUMENTS else ""
    return LAYER_FUNCTIONS.get(node.target, "")


def arguments_of(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of a call by name; those of an ATen operator have the names of its schema."""
    if isinstance(node.target, torch._ops.OpOverload):
        names = tuple(argument.name for argument in node.target._schema.arguments)
        names = tuple("input" if name == "self" else name for name in names)
    names = _ORDERS.get(node.target, names)
    return dict(zip(names, node.args, strict=False)) | node.kwargs


def _input(node: fx.Node) -> Any:
    return arguments_of(node, ARGUMENTS[_name(node)])["input"]


def _module_for(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that a function with weights, or a norm, stands for, None if there is none."""
    name = _name(node)
    if not name:
        return None
    arguments = arguments_of(node, ARGUMENTS[name])
    arguments |= {key: _attribute(graph, arguments[key]) for key in _STATE if key in arguments}
    value = arguments.get("input")
    if not isinstance(value, fx.Node):
        return None
    arguments["input"] = tuple(value.meta.get("shape") or ())
    return layer_module(name, arguments, _owner_norm(graph, node))


def called_layer(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module | None:
    """Return the module that a call of a function with weights, or a norm, stands for, None if there is none."""
    name = LAYER_FUNCTIONS.get(function, "")
    arguments = dict(zip(_ORDERS.get(function, ARGUMENTS.get(name, ())), args, strict=False)) | kwargs
    value = arguments.get("input")
    if not name or not isinstance(value, Tensor):
        return None
    arguments["input"] = tuple(value.shape)
    return layer_module(name, arguments)


def layer_module(name: str, arguments: dict[str, Any], owner: _BatchNorm | None = None) -> nn.Module | None:
    """Return the module for a function of ``ARGUMENTS`` with these arguments, the shape in the place of the input.

    ``owner`` is a batch norm whose momentum and counter are kept.
    """
    arguments = dict(arguments)
    state = {key: arguments.pop(key, None) for key in _STATE}
    if "normalized_shape" in arguments and isinstance(state["weight"], Tensor):
        arguments["normalized_shape"] = tuple(state["weight"].shape)
    known = all(value is None or isinstance(value, Tensor) for value in state.values())
    weights = [state[key] for key in ("weight", "bias") if state[key] is not None]
    trainable = all(isinstance(value, nn.Parameter) for value in weights)
    if not (known and trainable) or any(has_nodes(value) for value in arguments.values()):
        return None
    arguments["shape"] = arguments.pop("input")
    module = _MAKERS[name](state, arguments)
    if module is None:
        return None
    for key in ("weight", "bias"):
        if state[key] is not None or key in module._parameters:
            module.register_parameter(key, state[key])
    if isinstance(module, _BatchNorm):
        _keep_statistics(module, state, owner)
    return module.eval()


def _conv(kind: type[nn.Module]) -> Callable[..., nn.Module | None]:
    def make(state: dict[str, Any], arguments: dict[str, Any]) -> nn.Module | None:
        weight = state["weight"]
        if weight is None:
            return None
        names = ("stride", "padding", "dilation", "groups", "output_padding")
        options = {name: _tidy(arguments[name]) for name in names if name in arguments}
        groups = options.get("groups", 1)
        transposed = issubclass(kind, nn.modules.conv._ConvTransposeNd)
        inputs = weight.shape[0] if transposed else weight.shape[1] * groups
        outputs = weight.shape[1] * groups if transposed else weight.shape[0]
        # On the meta device, because weights that are thrown away must not draw from the generator.
        return kind(
            inputs, outputs, tuple(weight.shape[2:]), bias=state["bias"] is not None, device="meta", **options
        )

    return make


def _tidy(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _linear(state: dict[str, Any], arguments: dict[str, Any]) -> nn.Module | None:
    weight = state["weight"]
    if weight is None or weight.dim() != 2:
        return None
    return nn.Linear(weight.shape[1], weight.shape[0], bias=state["bias"] is not None, device="meta")


def _batch_norm(state: dict[str, Any], arguments: dict[str, Any]) -> nn.Module | None:
    mean, dims = state["running_mean"], len(arguments["shape"])
    if mean is None or state["running_var"] is None or arguments.get("training", False) is not False:
        return None
    if not 2 <= dims <= 5:
        return None
    affine = state["weight"] is not None
    return _NORMS[dims - 2](len(mean), arguments.get("eps", 1e-5), arguments.get("momentum", 0.1), affine)


def _instance_norm(state: dict[str, Any], arguments: dict[str, Any]) -> nn.Module | None:
    shape = arguments["shape"]
    kind = _INSTANCE_NORMS[len(shape) - 2] if 3 <= len(shape) <= 5 else None
    if (
        kind is None
        or state["running_mean"] is not None
        or arguments.get("use_input_stats", True) is not True
    ):
        return None
    return kind(shape[1], arguments.get("eps", 1e-5), affine=state["weight"] is not None)


def _layer_norm(state: dict[str, Any], arguments: dict[str, Any]) -> nn.Module:
    affine, bias = state["weight"] is not None, state["bias"] is not None
    shape = tuple(arguments["normalized_shape"])
    return nn.LayerNorm(shape, arguments.get("eps", 1e-5), affine, bias)


def _rms_norm(state: dict[str, Any], arguments: dict[str, Any]) -> nn.Module:
    shape = tuple(arguments["normalized_shape"])
    return nn.RMSNorm(shape, arguments.get("eps"), state["weight"] is not None)


def _group_norm(state: dict[str, Any], arguments: dict[str, Any]) -> nn.Module:
    affine = state["weight"] is not None
    return nn.GroupNorm(arguments["num_groups"], arguments["shape"][1], arguments.get("eps", 1e-5), affine)


def _local_response_norm(state: dict[str, Any], arguments: dict[str, Any]) -> nn.Module:
    options = {name: arguments[name] for name in ("size", "alpha", "beta", "k") if name in arguments}
    return nn.LocalResponseNorm(**options)


def _prelu(state: dict[str, Any], arguments: dict[str, Any]) -> nn.Module | None:
    return None if state["weight"] is None else nn.PReLU(state["weight"].numel())


_MAKERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], nn.Module | None]] = {
    "conv1d": _conv(nn.Conv1d),
    "conv2d": _conv(nn.Conv2d),
    "conv3d": _conv(nn.Conv3d),
    "conv_transpose1d": _conv(nn.ConvTranspose1d),
    "conv_transpose2d": _conv(nn.ConvTranspose2d),
    "conv_transpose3d": _conv(nn.ConvTranspose3d),
    "linear": _linear,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "local_response_norm": _local_response_norm,
    "prelu": _prelu,
}


def _keep_statistics(norm: _BatchNorm, state: dict[str, Any], owner: _BatchNorm | None) -> None:
    """Make a norm use, and in training change, the network's own statistics."""
    norm.running_mean, norm.running_var = state["running_mean"], state["running_var"]
    if owner is not None:
        norm.momentum = owner.momentum
        norm.num_batches_tracked = owner.num_batches_tracked


def _owner_norm(graph: fx.GraphModule, node: fx.Node) -> _BatchNorm | None:
    for name in reversed(node.meta.get("path", ())):
        try:
            norm = graph.get_submodule(name)
        except AttributeError:
            continue
        if isinstance(norm, _BatchNorm):
            return norm
    return None


def _place(graph: fx.GraphModule, node: fx.Node, module: nn.Module) -> str:
    """Return the name of the module: that of the module whose weights it uses, if that is nothing else."""
    name = _name(node)
    weight = arguments_of(node, ARGUMENTS[name]).get("weight")
    holder = str(weight.target).rpartition(".")[0] if isinstance(weight, fx.Node) else ""
    if holder and _only_holds(graph.get_submodule(holder), module):
        return holder
    own = holder or str((node.meta.get("path") or ("",))[-1])
    word = "norm" if "norm" in name and "local" not in name else name
    return free_name(graph, f"{own}.{word}" if own else word)


def _only_holds(holder: nn.Module, module: nn.Module) -> bool:
    """Return whether ``holder`` was left in the graph for the tensors of ``module`` only."""
    tensors = {**holder._parameters, **holder._buffers}
    return (
        type(holder) is nn.Module
        and not holder._modules
        and all(getattr(module, name, None) is tensor for name, tensor in tensors.items())
    )


def _attribute(graph: fx.GraphModule, value: object) -> Any:
    """Return the tensor that an argument names, None for None, and the argument itself if it is neither."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return value
    result: Any = graph
    for part in str(value.target).split("."):
        result = getattr(result, part)
    return result


def has_nodes(value: Any) -> bool:
    """Return whether an argument is, or contains, the value of another node."""
    found: list[fx.Node] = []
    fx.node.map_arg(value, lambda node: found.append(node) or node)  # type: ignore[func-returns-value]
    return bool(found)
