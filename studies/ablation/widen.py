"""The same network with more channels, so that a cut arm can have as many parameters as the intact one."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from probe.core.errors import NotApplicableError
from probe.graph.edit.cut import prepare
from probe.graph.edit.edits import ancestors
from probe.graph.edit.swap import draw_like
from probe.graph.trace.ops import is_weighted
from probe.graph.trace.trace import tensors

_MOST = 4.0
_CLOSE = 0.05
"""Parameters may differ by this part; single channels allow no better in small networks. A check warns above 1%."""


def widen_to(
    network: nn.Module, target: int, cutter: Callable[[nn.Module], nn.Module], example: Tensor
) -> tuple[nn.Module, float]:
    """Return the network with all inner channels multiplied by a factor, and the factor (≥ 1).

    The factor is the one with which ``cutter(network)`` has closest to ``target`` parameters. New weights are normal
    with the old ones' standard deviation, scaled by the root of the change in inputs, from the global generator.
    Raises NotApplicableError when the network cannot be widened, because it stores channel numbers elsewhere.
    """
    inner = _ends(network, example)
    low, high = 1.0, _MOST
    best, least = 1.0, abs(_count(cutter(network)) - target)
    for _ in range(12):
        factor = (low + high) / 2
        count = _count(cutter(_widen(network, factor, inner, example)))
        if abs(count - target) < least:
            best, least = factor, abs(count - target)
        if count < target:
            low = factor
        else:
            high = factor
    if least > _CLOSE * target:
        raise NotApplicableError(
            f"No width gives about {target:,} parameters; the closest differs by {least:,}."
        )
    return _widen(network, best, inner, example), best


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _ends(network: nn.Module, example: Tensor) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the layers that read the image and of those that give the logits."""
    graph = prepare(network, example).graph
    weighted = [node for node in graph.graph.nodes if node.op == "call_module" and is_weighted(graph, node)]
    above = {node: ancestors(node) for node in weighted}
    first = {str(node.target) for node in weighted if not any(other in above[node] for other in weighted)}
    last = {str(node.target) for node in weighted if not any(node in above[other] for other in weighted)}
    return frozenset(first), frozenset(last)


def _widen(
    network: nn.Module, factor: float, ends: tuple[frozenset[str], frozenset[str]], example: Tensor
) -> nn.Module:
    wide = copy.deepcopy(network)

    def scale(channels: int) -> int:
        return max(1, round(channels * factor))

    for name, module in list(wide.named_modules()):
        if next(module.parameters(recurse=False), None) is None:
            continue
        new = _wider(module, scale, name in ends[0], name in ends[1])
        if new is None:
            raise NotApplicableError(f"{name or 'The network'} ({type(module).__name__}) cannot be widened.")
        wide.set_submodule(name, new)
    try:
        with torch.no_grad():
            wide.eval()
            shapes = [tuple(value.shape) for value in tensors(wide(example.clone()))]
            expected = [tuple(value.shape) for value in tensors(network.eval()(example.clone()))]
    except (RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotApplicableError(
            f"The network cannot be widened, because it stores numbers of channels: {reason}"
        ) from error
    if shapes != expected:
        raise NotApplicableError("The network cannot be widened: the shape of its output changes.")
    return wide


def _wider(module: nn.Module, scale: Callable[[int], int], first: bool, last: bool) -> nn.Module | None:
    """Return a layer with more channels and new weights, None for kinds that are not understood."""
    if isinstance(module, nn.Conv2d):
        inputs = module.in_channels if first else scale(module.in_channels)
        outputs = module.out_channels if last else scale(module.out_channels)
        groups = inputs if module.groups == module.in_channels > 1 else module.groups
        if inputs % groups or outputs % groups:
            return None
        layer: nn.Module = nn.Conv2d(
            inputs,
            outputs,
            module.kernel_size,  # type: ignore[arg-type]
            module.stride,  # type: ignore[arg-type]
            module.padding,  # type: ignore[arg-type]
            module.dilation,  # type: ignore[arg-type]
            groups,
            module.bias is not None,
        )
    elif isinstance(module, nn.Linear):
        inputs = module.in_features if first else scale(module.in_features)
        outputs = module.out_features if last else scale(module.out_features)
        layer = nn.Linear(inputs, outputs, module.bias is not None)
    elif isinstance(module, _BatchNorm):
        return type(module)(scale(module.num_features), module.eps, module.momentum)
    else:
        return None
    draw_like(layer, module)
    return layer
