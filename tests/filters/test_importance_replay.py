"""The network from a layer on, against a plain pass with a hook; and the filters behind a layer's channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.filters_models import SmallNet, loaded, pictures
from helpers.spelled_networks import AsModules, AsSequences
from torch import Tensor, nn

import probe
from probe.core.progress import SILENT
from probe.core.state import fingerprint, forward_hooks
from probe.graph.edit.spelled import spelled
from probe.graph.trace.layers import feature_layers
from studies.filters.config import FiltersConfig
from studies.filters.importance.norms import filter_norms
from studies.filters.importance.replay import Replay
from studies.filters.study import prepare

SIDE = 16
NOISE = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


class Dense(nn.Module):
    """Layers that read all that came before, kept in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.third = nn.Conv2d(8, 4, 3, padding=1)
        self.join = nn.Identity()
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.first(x)]
        maps.append(F.relu(self.second(maps[0])))
        maps.append(F.relu_(self.third(torch.cat(maps, 1))))
        return self.head(self.join(torch.cat(maps, 1)).mean((2, 3)))


class Adds(nn.Module):
    """Adds in place to what a module returned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y += x
        z = self.second(y)
        z += y
        return self.last(z).mean((2, 3))


class Heedless(nn.Module):
    """Does not look at what a module returns that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        self.relu(y)
        return (self.second(y) + y).mean((2, 3))


def exported(make: Callable[[], nn.Module]) -> nn.Module:
    network = make().eval()
    shapes = {0: torch.export.Dim("batch", min=1, max=64)}
    return torch.export.export(network, (NOISE,), dynamic_shapes=(shapes,)).module()


def by_hook(network: nn.Module, layer: str, channel: int, images: Tensor) -> Tensor:
    """Run the network with one channel of the layer's last call set to 0."""
    calls = [0, 0]

    def count(_module: nn.Module, _args: object, _output: object) -> None:
        calls[0] += 1

    def cut(_module: nn.Module, _args: object, output: Tensor) -> Tensor | None:
        calls[1] += 1
        if calls[1] < calls[0]:
            return None
        changed = output.clone()
        changed[:, channel] = 0
        return changed

    with torch.no_grad():
        with forward_hooks(network, {layer: count}):
            network(images.clone())
        with forward_hooks(network, {layer: cut}):
            result: Tensor = network(images.clone())
    return result


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "small": (SmallNet, ("conv1", "norm1", "relu", "conv2", "pool")),
    "dense": (Dense, ("first", "second", "third", "join")),
    "adds": (Adds, ("first", "second", "last")),
    "modules": (AsModules, ("conv1", "lrn", "act2", "conv3")),
    "sequences": (AsSequences, ()),
    "exported": (lambda: exported(Dense), ()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_passes_from_a_layer_on_are_those_of_a_hook(name: str) -> None:
    make, layers = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = probe.wrap(make(), mean=0, std=1, input_size=(3, SIDE, SIDE)).module
    network = spelled(module, NOISE[:1]).network
    before = fingerprint(network)
    for layer in layers or [info.name for info in feature_layers(network, NOISE[:1])]:
        replay = Replay(network, layer, NOISE[:2])
        assert replay.keeps, layer
        with torch.no_grad():
            torch.testing.assert_close(replay.start(NOISE), network(NOISE), rtol=0, atol=0)
            kept = replay.value.clone()
            for channel in (0, 2):
                value = replay.value.clone()
                value[:, channel] = 0
                found = replay.finish(value)
                torch.testing.assert_close(found, by_hook(network, layer, channel, NOISE))
            # Nothing of one pass is left in the next.
            torch.testing.assert_close(replay.finish(replay.value.clone()), network(NOISE), rtol=0, atol=0)
            assert torch.equal(replay.value, kept)
        assert replay.kept_bytes > 0
    assert fingerprint(network) == before


def test_a_network_that_cannot_be_kept_is_run_in_full() -> None:
    network = Heedless().eval().requires_grad_(False)
    replay = Replay(network, "second", NOISE[:2])
    assert not replay.keeps
    with torch.no_grad():
        replay.start(NOISE)
        value = replay.value.clone()
        value[:, 1] = 0
        torch.testing.assert_close(replay.finish(value), by_hook(network, "second", 1, NOISE))


def test_work_is_counted_from_the_layer_on() -> None:
    network = SmallNet().eval()
    early, late = (Replay(network, layer, NOISE[:2]) for layer in ("conv1", "conv2"))
    head = 8 * 3
    # A stride of 2 on the pooled 8 × 8 map leaves 3 × 3.
    assert late.macs == head
    assert early.macs == head + 6 * 8 * 3 * 3 * 3 * 3


class Blocks(nn.Module):
    """Layers whose channels have a filter each, and layers that mix channels or have other numbers of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.shuffle = nn.ChannelShuffle(2)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.lrn = nn.LocalResponseNorm(3)
        self.join = nn.Identity()
        self.body = nn.Sequential(nn.Conv2d(16, 8, 1), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shuffle(self.relu(self.norm(self.conv(x))))
        y = self.lrn(self.second(x))
        return self.head(self.pool(self.body(self.join(torch.cat([x, y], 1)))).mean((2, 3)))


def test_norms_are_of_the_filters_behind_the_channels_or_there_are_none() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Blocks()
    space = prepare(loaded(network), pictures(6), FiltersConfig(), SILENT)
    expected = {
        name: module.weight.detach().double().abs().sum((1, 2, 3)).numpy()
        for name, module in (
            ("conv", network.conv),
            ("norm", network.conv),
            ("relu", network.conv),
            ("second", network.second),
            ("body", network.body[0]),
            ("pool", network.body[0]),
        )
    }
    for layer, norms in expected.items():
        found = filter_norms(space, layer)
        assert found is not None, layer
        np.testing.assert_allclose(found, norms)
    for layer in ("shuffle", "lrn", "join"):
        assert filter_norms(space, layer) is None, layer
