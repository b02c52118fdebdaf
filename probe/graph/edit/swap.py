"""Replacing a structure by another one with the same purpose; the new structure has to be trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import ClassVar, get_args, get_type_hints

import torch
from torch import Tensor, fx, nn

from probe.graph.edit.edits import put_module, value_of
from probe.graph.edit.local import MapConv2d, zero_padding
from probe.graph.edit.structure import Structure
from probe.graph.trace.ops import called, operation


class Swap(Structure):
    """A structure that is replaced instead of removed; ``name`` begins with ``swap:``."""

    no_effect_reason: ClassVar[str] = (
        "What is put in has to be trained: a swap is measured by the retrained arms."
    )

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid value of ``to``."""
        *most, last = get_args(get_type_hints(type(self))["to"])
        to = getattr(self, "to", last)
        if to not in (*most, last):
            raise ValueError(f"to must be {', '.join(most)} or {last}, not {to}")


def plain_conv(graph: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """Return the convolution that a node calls, None if it is not one or has unsupported padding or dilation."""
    if node.op != "call_module" or value_of(node) is None:
        return None
    conv = called(graph, node)
    # Subclasses may compute something else (standardised weights, padding of their own).
    if not isinstance(conv, nn.Conv2d) or type(conv) not in (nn.Conv2d, MapConv2d):
        return None
    if tuple(conv.dilation) != (1, 1):
        return None
    try:
        zero_padding(conv)
    except ValueError:
        return None
    return conv


def before(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return the convolution that reaches ``node`` only through norms, activations and dropout.

    None if there is none, or if a value in between is also used elsewhere.
    """
    value = value_of(node)
    while value is not None and len(value.users) == 1:
        kind = operation(graph, value)
        if kind == "conv":
            return value
        if kind not in ("norm", "activation", "dropout", "lrn"):
            return None
        value = value_of(value)
    return None


def followers(graph: fx.GraphModule, node: fx.Node, out_channels: int) -> Callable[[], list[nn.Module]]:
    """Return a function that builds the layers between two convolutions in the network's style: norm and activation.

    There is a norm only if one directly follows the convolution at ``node``; the default activation is ReLU.
    """
    normed, activation = False, None
    users = list(node.users)
    while len(users) == 1 and activation is None:
        kind = operation(graph, users[0])
        if users[0].op != "call_module":
            break
        if kind == "norm" and isinstance(called(graph, users[0]), nn.BatchNorm2d):
            normed = True
        elif kind == "activation":
            activation = called(graph, users[0])
        else:
            break
        users = list(users[0].users)

    def make() -> list[nn.Module]:
        norm = [nn.BatchNorm2d(out_channels)] if normed else []
        return [*norm, nn.ReLU() if activation is None else copy.deepcopy(activation)]

    return make


def expand(graph: fx.GraphModule, node: fx.Node, layers: Sequence[nn.Module], word: str) -> None:
    """Replace the module that a node calls by a chain of layers."""
    value = value_of(node)
    if value is None:
        return
    with graph.graph.inserting_before(node):
        for number, layer in enumerate(layers[:-1]):
            name = f"{word}_{number}_of_{node.name}"
            graph.add_submodule(name, layer.train(graph.training))
            call = graph.graph.call_module(name, (value,))
            call.meta = {**node.meta, "shape": _shape_after(layer, value)}
            value = call
    node.args, node.kwargs = (value,), {}
    put_module(graph, node, layers[-1], word)


def collapse(graph: fx.GraphModule, first: fx.Node, last: fx.Node, layer: nn.Module, word: str) -> None:
    """Replace all layers from ``first`` to ``last`` by one layer; the nodes in between become unused."""
    last.args, last.kwargs = (value_of(first),), {}
    put_module(graph, last, layer, word)


def like(old: nn.Conv2d, in_channels: int, out_channels: int, **geometry: object) -> nn.Conv2d:
    """Return a convolution with new random weights, with the spread of the old one's.

    Weights are normal with the old standard deviation, scaled by the square root of the change in the number of inputs,
    and drawn from the global generator; the bias has the old bias's spread. Groups are kept if they divide the channels.
    """
    groups = old.groups if in_channels % old.groups == 0 and out_channels % old.groups == 0 else 1
    conv = nn.Conv2d(in_channels, out_channels, groups=groups, bias=old.bias is not None, **geometry)  # type: ignore[arg-type]
    draw_like(conv, old)
    return conv.to(device=old.weight.device, dtype=old.weight.dtype)


def draw_like(new: nn.Module, old: nn.Module) -> None:
    """Draw a layer's parameters from the global generator, with the spread of another layer of the same kind.

    Weights are normal with the old standard deviation, scaled by the square root of the change in the number of inputs.
    """
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            reference = old.get_parameter(name)
            if reference.dim() < 2:
                spread = reference.std() if reference.numel() > 1 else torch.zeros(())
                parameter.normal_(0, float(spread)).add_(reference.mean().to(parameter.device))
                continue
            fan = reference[0].numel() / parameter[0].numel()
            parameter.normal_(0, float(reference.std()) * fan**0.5)


def _shape_after(layer: nn.Module, value: fx.Node) -> tuple[int, ...]:
    """Return the shape of a layer's output for the value at a node, computed on the meta device."""
    shape = value.meta["shape"]
    output: Tensor = copy.deepcopy(layer).to("meta").eval()(torch.empty(tuple(shape), device="meta"))
    return tuple(output.shape)
