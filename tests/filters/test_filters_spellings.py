"""Every view of the filters study gives the same numbers however the code of a network is spelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from helpers.filters_models import loaded, pictures
from helpers.spelled_networks import (
    AsFunctions,
    AsMethods,
    AsModules,
    AsParameters,
    AsSequences,
    InPlace,
    Weights,
)
from torch import Tensor, nn

from probe.core.blocks import Table
from probe.core.document import Report
from probe.core.state import fingerprint
from probe.graph.edit.spelled import spelled
from probe.graph.receptive_field.field import receptive_fields
from probe.graph.trace.class_activation import gradcam
from probe.graph.trace.layers import convolutions, feature_layers, last_map_layer
from probe.graph.trace.trace import trace
from probe.models.loaded import Provenance
from studies.filters.attribution.attribute import METHODS
from studies.filters.attribution.subject import prepare
from studies.filters.config import FiltersConfig
from studies.filters.study import run

IMAGES = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(2))
OTHERS = (AsFunctions, AsMethods, InPlace)
LEAVES = {AsSequences: ("stem.0.2", "act2", "late.1"), AsModules: ("act1", "act2", "act3")}
"""Layers with the same maps in the nested network and in the flat one."""


def redrawn(kind: Callable[..., Weights]) -> Weights:
    """Return a network with other weights, the same for every spelling."""
    network, draw = kind(), torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3, generator=draw)
    return network


@cache
def report_of(kind: Callable[..., Weights], layers: tuple[str, ...] | None = None) -> Report:
    origin = Provenance("test", "written by hand")
    model = replace(loaded(kind().eval(), (3, 12, 12), 5), factory=partial(redrawn, kind), provenance=origin)
    images = pictures(16, 12, [i % 5 for i in range(16)], 5)
    return run(model, images, FiltersConfig(images=2, steps=3, layers=layers))


def numbers(report: Report) -> list[tuple[str, object]]:
    """Return kind and value of every result but times; names of layers are left out."""
    results = [*report.results, *(result for section in report.sections for result in section.results)]
    return [
        (
            ".".join(result.name.split(".")[::2]) if result.name.startswith("weights") else result.name,
            result.value,
        )
        for result in results
        if not result.name.endswith("seconds")
    ]


def cells(report: Report) -> list[object]:
    """Return the numbers of the tables, in order, without times."""
    return [
        cell
        for section in report.sections
        for block in section.blocks
        if isinstance(block, Table)
        for row in block.rows
        for column, cell in zip(block.columns, row, strict=True)
        if isinstance(cell, int | float) and column.name != "Time"
    ]


def close(value: object, other: object) -> bool:
    return value is other or value == pytest.approx(other, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", OTHERS)
def test_every_view_gives_the_same_numbers(kind: Callable[..., Weights]) -> None:
    expected, found = report_of(AsModules), report_of(kind)
    assert [bool(section.reason) for section in found.sections] == [bool(s.reason) for s in expected.sections]
    assert [name for name, _ in numbers(found)] == [name for name, _ in numbers(expected)]
    for (name, value), (_, other) in zip(numbers(found), numbers(expected), strict=True):
        assert close(value, other), (name, value, other)
    assert cells(found) == pytest.approx(cells(expected), rel=1e-3, abs=1e-4)


def test_a_nested_network_gives_the_same_numbers_at_the_same_maps() -> None:
    expected, found = (report_of(kind, LEAVES[kind]) for kind in (AsModules, AsSequences))
    for (name, value), (_, other) in zip(numbers(found), numbers(expected), strict=True):
        assert close(value, other), (name, value, other)


@pytest.mark.parametrize("kind", [AsSequences, *OTHERS, AsParameters])
def test_every_attribution_is_the_same(kind: Callable[..., Weights]) -> None:
    targets = torch.tensor([0, 3, 1])
    expected, found = (prepare(one().eval(), IMAGES[:1]) for one in (AsModules, kind))
    for method in METHODS:
        maps = [method.attribute(subject, IMAGES, targets) for subject in (found, expected)]
        torch.testing.assert_close(*maps, rtol=1e-4, atol=1e-6, msg=method.key)


def test_gradcam_is_the_published_formula_of_the_last_map() -> None:
    network, classes = AsFunctions().eval(), torch.tensor([2, 0, 4])
    copy = spelled(network, IMAGES)
    found = gradcam(copy, last_map_layer(copy, IMAGES), IMAGES.clone().requires_grad_(), classes)
    # The map of the last pooling; behind it are its mean and the classifier, so that the gradient has a closed form.
    x = F.relu(network.bn1(network.conv1(IMAGES)))
    x = F.max_pool2d(F.local_response_norm(x, 3, k=2.0), 2)
    y = F.relu(network.bn2(network.conv2(x)) + x)
    last = F.avg_pool2d(F.relu6(network.conv3(torch.cat([x, y], 1))), 2)
    hidden = network.fc1(last.mean((2, 3)))
    slope = torch.sigmoid(hidden) * (1 + hidden * (1 - torch.sigmoid(hidden)))
    weights = (network.fc2.weight[classes] * slope) @ network.fc1.weight / last[0, 0].numel()
    expected = F.relu((weights[:, :, None, None] * last).sum(1, keepdim=True))
    torch.testing.assert_close(found, expected.detach())


class Reused(nn.Module):
    """One in-place ReLU and one convolution, each called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(self.stem(x)))
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def test_gradcam_of_a_layer_that_is_called_twice_is_that_of_its_last_call() -> None:
    network, classes = Reused().eval(), torch.tensor([0, 1, 2])
    assert last_map_layer(network, IMAGES) == "relu"
    found = gradcam(network, "relu", IMAGES, classes)
    last = F.relu(network.conv(F.relu(network.conv(network.stem(IMAGES)))))
    weights = network.fc.weight[classes] / 144
    expected = F.relu((weights[:, :, None, None] * last).sum(1, keepdim=True))
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("kind", OTHERS)
def test_layers_are_those_of_the_network_of_modules(kind: Callable[..., Weights]) -> None:
    reference, network = AsModules().eval(), kind().eval()
    before = fingerprint(network)
    copy = spelled(network, IMAGES)
    assert fingerprint(network) == before
    assert torch.equal(copy(IMAGES), network(IMAGES))
    assert {id(p) for p in copy.parameters()} == {id(p) for p in network.parameters()}
    found, expected = feature_layers(copy, IMAGES), feature_layers(reference, IMAGES)
    # The mean over a map has no sides.
    assert [(i.kind, i.shape) for i in found if i.resolution != (1, 1)] == [
        (i.kind, i.shape) for i in expected if i.resolution != (1, 1)
    ]
    kernels, wanted = convolutions(copy, IMAGES), convolutions(reference, IMAGES)
    assert [c.shape for c in kernels] == [c.shape for c in wanted]
    assert all(torch.equal(a.module.weight, b.module.weight) for a, b in zip(kernels, wanted, strict=True))
    names = [info.name for info in found if info.resolution != (1, 1)]
    wide = [info.name for info in expected if info.resolution != (1, 1)]
    fields, other = receptive_fields(copy, names, IMAGES[:1]), receptive_fields(reference, wide, IMAGES[:1])
    assert [(f.size, f.jump) for f in fields.values()] == [(f.size, f.jump) for f in other.values()]
    torch.testing.assert_close(trace(copy, IMAGES)(IMAGES), network(IMAGES))
    assert spelled(copy, IMAGES) is copy


def test_a_network_of_modules_is_returned_as_it_is() -> None:
    for network in (AsModules().eval(), AsSequences().eval(), nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())):
        assert spelled(network, IMAGES) is network


class Drawing(nn.Module):
    """Dropout that is never off, and a batch norm of the batch's own statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(self.conv(x), None, None, training=True)
        return self.fc(F.dropout(F.relu(x), 0.5).mean((2, 3)))


def test_what_works_as_in_training_stays_a_function() -> None:
    network = Drawing().eval()
    copy = spelled(network, IMAGES)
    assert [name for name, _ in copy.named_children()] == ["conv", "fc", "relu"]
    torch.manual_seed(0)
    expected = network(IMAGES)
    torch.manual_seed(0)
    assert torch.equal(copy(IMAGES), expected)


class Looped(nn.Module):
    """Helpers, a loop, a name that is taken, and a second pass of the same module."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.relu = "a name that is taken"
        self.fc = nn.Linear(3, 2)

    def _step(self, layer: nn.Module, x: Tensor) -> Tensor:
        return F.relu(layer(x))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self._step(layer, x)
        return self.fc(F.max_pool2d(x, 3).mean((2, 3)))


def test_functions_in_helpers_and_loops_have_a_module_for_each_call() -> None:
    network = Looped().eval()
    copy = spelled(nn.Sequential(network, nn.Identity()), IMAGES)
    added = [name for name, sub in copy.named_modules() if isinstance(sub, nn.ReLU | nn.MaxPool2d)]
    assert (
        added == ["0.relu_1", "0.relu_1_1", "0.relu_2", "0.max_pool2d"] or len(added) == len(set(added)) == 4
    )
    assert torch.equal(copy(IMAGES), network(IMAGES))
    assert torch.equal(copy(IMAGES), network(IMAGES)), "the second pass counts its calls anew"


class Attending(nn.Module):
    """Self-attention over the positions of a map, and a norm of the network's own kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 4, 4), OwnNorm(4), nn.Linear(4, 2)
        self.attention = Attention()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return self.fc(self.attention(x.flatten(2).transpose(1, 2)).mean(1))


class OwnNorm(nn.GroupNorm):
    def __init__(self, channels: int) -> None:
        super().__init__(2, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, 2, self.weight, self.bias)


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        scores = (x[:, None] @ x[:, None].transpose(-1, -2)).softmax(-1)
        return F.dropout(scores, 0.1, self.training)[:, 0] @ x


def test_the_insides_of_a_layer_and_of_an_attention_are_no_layers() -> None:
    copy = spelled(Attending().eval(), IMAGES)
    assert [info.name for info in feature_layers(copy, IMAGES)] == ["conv", "norm", "relu"]
