"""The norms of the filters that produce a layer's channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from probe.core.precision import exact_float32
from probe.core.seeds import generator
from probe.core.state import captured, forward_hooks, last_map
from probe.graph.trace.trace import no_side_effects, shared_copy
from studies.filters.importance.measures import Array
from studies.filters.workspace import FiltersWorkspace


def filter_norms(space: FiltersWorkspace, layer: str) -> Array | None:
    """Return the L1 norm of the filter behind each channel of a layer, (C,), None where no convolution has one for each.

    It is the last convolution that ends before the layer does and has as many channels. What lies between them must act on
    every channel alone (a norm, an activation, a pooling, a sum with a shortcut), which is tested on an example.
    """
    names = [info.name for info in space.maps]
    shapes = {info.name: info.shape for info in space.maps}
    network = space.model.network
    for name in reversed(names[: names.index(layer) + 1]):
        module = network.get_submodule(name)
        if isinstance(module, nn.Conv2d):
            if module.out_channels != shapes[layer][0] or not _channel_by_channel(space, name, layer):
                return None
            norms: Array = module.weight.detach().double().abs().flatten(1).sum(1).cpu().numpy()
            return norms
    return None


def _channel_by_channel(space: FiltersWorkspace, convolution: str, layer: str) -> bool:
    """Return whether changing half of the convolution's channels, drawn by chance, changes none of the layer's others."""
    network = shared_copy(space.model.network)
    images: Tensor = space.model.module.normalise(space.example)
    channels = next(info.shape[0] for info in space.maps if info.name == layer)
    order = torch.randperm(channels, generator=generator(space.config.seed, "importance", "filters"))
    half = order[: max(1, channels // 2)].to(images.device)

    def change(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return output.index_copy(1, half, 1 - output[:, half])

    def maps(hooks: dict[str, Callable[..., Tensor]]) -> Tensor:
        with forward_hooks(network, hooks), captured(network, [layer]) as outputs:
            network(images.clone())
        return last_map(outputs[layer])

    with no_side_effects(network), exact_float32():
        changed = (maps({}) != maps({convolution: change})).flatten(2).any(2).any(0)
    others = torch.ones_like(changed).index_fill(0, half, False)
    return bool(changed.any()) and not bool((changed & others).any())
