"""Cut and folded networks compute the same; pictures are as large as a layer needs."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from helpers.filters_models import SmallNet, loaded
from torch import Tensor, nn

from probe.core.seeds import generator, scoped
from probe.core.state import fingerprint
from probe.graph.edit.fold import folded
from probe.graph.edit.input_gradient import with_quick_gradients
from probe.graph.trace.trace import trace
from studies.filters.optimise.subjects import (
    class_subject,
    half_helps,
    layer_subject,
    picture_size,
    traced_model,
)


def drawn(build: type[nn.Module] | object, *arguments: object, **options: object) -> nn.Module:
    """Build a network whose batch normalisations have statistics that matter."""
    with scoped(5):
        network = build(*arguments, **options)  # type: ignore[operator]
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                if module.affine:
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()  # type: ignore[no-any-return]


class Norms(nn.Module):
    """Convolutions whose normalisations can be folded, and some whose cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3, bias=False)
        self.plain_norm = nn.BatchNorm2d(4, affine=False)
        self.biased = nn.Conv2d(4, 6, 3, groups=2, padding=1)
        self.biased_norm = nn.BatchNorm2d(6, eps=0.1)
        self.shared = nn.Conv2d(6, 6, 1)
        self.shared_norm = nn.BatchNorm2d(6)
        self.batch = nn.BatchNorm2d(6, track_running_stats=False)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.plain_norm(self.plain(x)))
        x = self.act(self.biased_norm(self.biased(x)))
        y = self.shared(x)
        x = self.shared_norm(y) + y
        x = self.shared_norm(self.shared(x))
        x = F.batch_norm(
            self.shared(x),
            self.biased_norm.running_mean,
            self.biased_norm.running_var,
            training=False,
            eps=0.3,
        )
        return self.batch(x)


def count(module: nn.Module) -> int:
    nodes = module.graph.nodes  # type: ignore[union-attr]
    modules = sum(
        n.op == "call_module" and isinstance(module.get_submodule(n.target), nn.BatchNorm2d) for n in nodes
    )
    return modules + sum(n.target is F.batch_norm for n in nodes)


NETWORKS = {
    "own": lambda: drawn(Norms),
    "resnet18": lambda: drawn(torchvision.models.resnet18, weights=None),
    "lite0": lambda: drawn(timm.create_model, "tf_efficientnet_lite0", pretrained=False),
    "densenet121": lambda: drawn(torchvision.models.densenet121, weights=None),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_computes_the_same(name: str) -> None:
    network = NETWORKS[name]()
    images = torch.rand(2, 3, 64, 64, generator=generator(1))
    traced = trace(network, images)
    before, untouched = fingerprint(network), fingerprint(traced)
    fast = folded(traced)
    with torch.no_grad():
        expected, found = network(images), fast(images)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * scale)
    assert fingerprint(network) == before
    assert fingerprint(traced) == untouched
    left = {"own": 2, "resnet18": 0, "lite0": 0, "densenet121": 62}[name]
    assert count(fast) == left


def test_gradients_go_through_a_folded_network() -> None:
    network = drawn(Norms)
    images = torch.rand(2, 3, 12, 12, generator=generator(1), requires_grad=True)
    fast = folded(trace(network, images.detach()))
    (expected,) = torch.autograd.grad(network(images).square().sum(), images)
    (found,) = torch.autograd.grad(fast(images).square().sum(), images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_what_is_no_graph_stays_as_it_is() -> None:
    network = SmallNet()
    assert folded(network) is network


def test_half_precision_is_for_convolutions_on_processors_that_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dense, depthwise = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=4)
    grouped, grey = nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(1, 4, 3)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert all(half_helps(module, "cpu") for module in (dense, grouped, grey, nn.Sequential(dense, grey)))
    assert not half_helps(nn.Sequential(dense, depthwise), "cpu")
    assert half_helps(with_quick_gradients(nn.Sequential(dense, copy.deepcopy(depthwise))), "cpu")
    assert not half_helps(nn.Linear(3, 3), "cpu")
    assert not half_helps(dense, "cuda")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": True})
    assert half_helps(dense, "cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert not half_helps(dense, "cpu")
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not half_helps(dense, "cpu")


class Strided(nn.Module):
    """A map with one unit every ``stride`` pixels; some refuse other sizes than the one they were built for."""

    def __init__(self, stride: tuple[int, int], only: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.stride, self.only = stride, only

    def forward(self, x: Tensor) -> Tensor:
        if self.only and tuple(x.shape[2:]) != self.only:
            raise RuntimeError("built for one size")
        return F.avg_pool2d(x, self.stride)


@pytest.mark.parametrize(
    ("stride", "own", "expected"),
    [
        ((1, 1), (224, 224), (64, 64)),
        ((4, 4), (224, 224), (64, 64)),
        ((8, 8), (224, 224), (96, 96)),
        ((16, 16), (224, 224), (112, 112)),
        ((32, 32), (224, 224), (112, 112)),
        ((64, 64), (224, 224), (224, 224)),  # 112 pixels would give a single unit
        ((8, 4), (224, 224), (96, 64)),
        ((2, 2), (32, 32), (32, 32)),
        ((16, 16), (100, 300), (100, 112)),
        ((224, 224), (224, 224), (112, 112)),  # one unit in any case; less than half a map is refused
    ],
)
def test_picture_sizes(stride: tuple[int, int], own: tuple[int, int], expected: tuple[int, int]) -> None:
    if stride == (224, 224):
        expected = own
    assert picture_size(Strided(stride), torch.zeros(1, 3, *own)) == expected


def test_a_layer_for_one_size_gets_that_size() -> None:
    assert picture_size(Strided((4, 4), only=(96, 96)), torch.zeros(1, 3, 96, 96)) == (96, 96)


def test_a_layer_is_optimised_before_its_activation_and_measured_after() -> None:
    model = loaded(drawn(torchvision.models.resnet18, weights=None), (3, 64, 64), classes=1000)
    example = torch.rand(1, 3, 64, 64, generator=generator(0))
    before = fingerprint(model.module)
    cut = layer_subject(model, traced_model(model, example), "layer2", example)
    images = torch.rand(2, 3, 64, 64, generator=generator(2))
    network = copy.deepcopy(model.network)
    x = network.maxpool(network.relu(network.bn1(network.conv1(model.module.normalise(images)))))
    x = network.layer2[0](network.layer1(x))
    own = network.layer2[1](x)
    below = x + network.layer2[1].bn2(
        network.layer2[1].conv2(F.relu(network.layer2[1].bn1(network.layer2[1].conv1(x))))
    )
    with torch.no_grad():
        torch.testing.assert_close(cut.output(images), own)
        torch.testing.assert_close(cut.subject.features(images), below)
        assert cut.subject.fast is not None
        torch.testing.assert_close(
            cut.subject.fast(images), below, rtol=0, atol=1e-4 * float(below.abs().max())
        )
    assert below.min() < 0 <= own.min()
    assert cut.stride == 8
    assert cut.size == (64, 64)
    assert fingerprint(model.module) == before


def test_classes_are_optimised_through_the_whole_network() -> None:
    model = loaded()
    example = torch.rand(1, *model.input.size, generator=generator(0))
    subject = class_subject(model, traced_model(model, example))
    images = torch.rand(3, *model.input.size, generator=generator(1))
    with torch.no_grad():
        torch.testing.assert_close(subject.features(images), model.module(images))
        assert subject.fast is not None
        torch.testing.assert_close(subject.fast(images), model.module(images), rtol=1e-4, atol=1e-5)
