"""Structures against networks written by hand without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import ablation_networks as nets
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.core.seeds import scoped
from probe.core.state import fingerprint, kept_buffers
from probe.graph.edit.cut import CutSubject, cut, find_sites, prepare
from probe.graph.edit.structure import STRUCTURES, get_structure

TWINS: list[tuple[str, Callable[[], nn.Module], Callable[[], nn.Module]]] = [
    ("shortcut", nets.Residual, lambda: nets.Residual(plain=True)),
    ("se", nets.Gated, lambda: nets.Gated(plain=True)),
    ("dense", nets.Dense, lambda: nets.Dense(plain=True)),
    *[
        (word, nets.Plain, lambda word=word: nets.Plain(word))
        for word in ("norm", "lrn", "relu", "pool", "layer")
    ],
]


def subject_of(network: nn.Module, size: int = 16) -> CutSubject:
    return prepare(network, nets.image(size=size))


def names(subject: CutSubject, text: str) -> list[str]:
    return [site.name for site in find_sites(subject, get_structure(text))]


def without(subject: CutSubject, text: str, only: str | None = None) -> nn.Module:
    sites = find_sites(subject, get_structure(text))
    return cut(subject, [site for site in sites if only in (None, site.name)])


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("text", "whole", "twin"), TWINS, ids=[row[0] for row in TWINS])
def test_a_cut_network_equals_one_written_without(
    text: str, whole: Callable[[], nn.Module], twin: Callable[[], nn.Module]
) -> None:
    network, expected = nets.random_statistics(whole()), twin().eval()
    missing = expected.load_state_dict(network.state_dict(), strict=False)
    assert not missing.missing_keys
    before, images = fingerprint(network), nets.image(5, seed=3)
    made = without(subject_of(network), text)
    same(made(images), expected(images))
    assert not torch.allclose(made(images), network(images), atol=1e-4), "the structure does nothing here"
    assert fingerprint(network) == before


@pytest.mark.parametrize("arm", ["one", "three", "pool"])
def test_an_arm_of_a_concatenation_becomes_zeros(arm: str) -> None:
    network, expected = nets.Inception().eval(), nets.Inception(arm).eval()
    expected.load_state_dict(network.state_dict())
    images = nets.image(4, seed=2)
    made = without(subject_of(network), "branch", f"second.{arm}")
    same(made(images), expected(images))
    gone = sum(p.numel() for p in getattr(network.second, arm).parameters())
    assert sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in made.parameters()) == gone


def test_dropout_is_gone_in_train_mode_and_idle_in_eval_mode() -> None:
    network = nets.random_statistics(nets.Plain())
    twin = nets.Plain("dropout")
    twin.load_state_dict(network.state_dict())
    subject, images = subject_of(network), nets.image(6, seed=4)
    assert get_structure("dropout").no_effect_reason
    made = without(subject, "dropout")
    same(made(images), network(images))
    for module in (made, twin):
        module.train()
    same(made(images), twin(images))
    assert len(names(subject, "dropout")) == 2


def test_a_block_that_is_cut_hands_on_its_shortcut() -> None:
    network = nets.random_statistics(nets.Residual())
    images, made = nets.image(3, seed=5), without(subject_of(network), "block")
    x = network.stem(images)
    for block in (network.a, network.b, network.c, network.d):
        x = torch.relu(x if block.down is None else block.down(x))
    same(made(images), network.fc(x.mean((2, 3))))


def test_a_dead_projection_goes_with_its_shortcut() -> None:
    network = nets.random_statistics(nets.Residual())
    made = without(subject_of(network), "shortcut")
    gone = sum(p.numel() for block in (network.c, network.d) for p in block.down.parameters())
    assert sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in made.parameters()) == gone


def test_a_bias_is_gone_and_the_weights_stay() -> None:
    network = nets.random_statistics(nets.Plain())
    made = without(subject_of(network), "bias")
    with torch.no_grad():
        for layer in (network.conv1, network.conv2, network.fc):
            layer.bias.zero_()
    images = nets.image(2, seed=6)
    same(made(images), network(images))


def test_a_filter_is_silent_behind_its_norm_and_activation() -> None:
    network = nets.random_statistics(nets.Plain())
    images, made = nets.image(2, seed=7), without(subject_of(network), "filter", "conv1:3")
    kept: list[Tensor] = []
    handle = network.lrn.register_forward_pre_hook(
        lambda _m, args: (args[0] * (torch.arange(8) != 3).view(1, 8, 1, 1),)
    )
    kept.append(network(images))
    handle.remove()
    same(made(images), kept[0])
    assert names(subject_of(network), "filter?layer='conv2'") == [f"conv2:{k}" for k in range(8)]


@pytest.mark.parametrize("kind", ["max", "average", "strided"])
@pytest.mark.parametrize(
    ("size", "stride", "padding", "ceil"),
    [(2, 2, 0, False), (3, 2, 1, False), (3, 2, 0, True), (3, 1, 1, False)],
)
@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_a_pooling_keeps_the_size_whatever_it_becomes(
    kind: str, size: int, stride: int, padding: int, ceil: bool, pool: type[nn.Module]
) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), pool(size, stride, padding, ceil_mode=ceil), nn.Flatten()
    ).eval()
    subject = prepare(network, nets.image(size=13))
    for site in find_sites(subject, get_structure(f"pool?to={kind}")):
        made = cut(subject, [site])
        assert made(nets.image(2, size=13)).shape == network(nets.image(2, size=13)).shape


def test_strided_takes_the_centre_of_each_window() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(3, 2, 1)).eval()
    nn.init.ones_(network[0].weight)
    nn.init.zeros_(network[0].bias)
    images = nets.image(1, channels=1, size=8)
    made = without(prepare(network, images), "pool?to=strided")
    same(made(images), images[..., ::2, ::2])


TV = {
    "torchvision:resnet18": {"shortcut": [f"layer{s}.{b}" for s in (1, 2, 3, 4) for b in (0, 1)]},
    "torchvision:mobilenet_v2": {"shortcut": [f"features.{k}" for k in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]},
    "torchvision:squeezenet1_1": {
        "branch": [f"features.{k}.expand{s}x{s}_activation" for k in (3, 4, 6, 7, 9, 10, 11, 12) for s in (1, 3)],
        "dropout": ["classifier.0"],
        "shortcut": [],
    },
    "torchvision:alexnet": {
        "dropout": ["classifier.0", "classifier.3"],
        "pool": ["features.2", "features.5", "features.12", "avgpool"],
    },
    "torchvision:vgg11_bn": {"norm": [f"features.{k}" for k in (1, 5, 9, 12, 16, 19, 23, 26)], "shortcut": []},
    "torchvision:mobilenet_v3_small": {
        "se": ["features.1.block.1"] + [f"features.{k}.block.2" for k in range(4, 12)],
        "shortcut": [f"features.{k}" for k in (3, 5, 6, 8, 10, 11)],
    },
    "zoo:resnet20": {"shortcut": [f"layer{s}.{b}" for s in (1, 2, 3) for b in (0, 1, 2)], "lrn": [], "se": []},
    "zoo:alexnet": {
        "lrn": ["norm1", "norm2"],
        "dropout": ["dropout6", "dropout7"],
        "bias": ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"],
    },
    "timm:resnet10t": {"shortcut": [f"layer{s}.0" for s in (1, 2, 3, 4)]},
}  # fmt: skip


def build(source: str) -> tuple[nn.Module, int]:
    library, _, name = source.partition(":")
    if library == "zoo":
        from probe.models.load import load_model

        return load_model(source, weights="none", device="cpu").network, 32
    if library == "timm":
        import timm

        return timm.create_model(name).eval(), 64
    from torchvision import models

    quick = {"init_weights": False} if name == "googlenet" else {}
    return models.get_model(name, weights=None, **quick).eval(), 64


@pytest.mark.parametrize("source", sorted(TV))
def test_sites_are_those_written_down_by_hand(source: str) -> None:
    network, size = build(source)
    subject = subject_of(network, size)
    assert {text: names(subject, text) for text in TV[source]} == TV[source]


@pytest.mark.parametrize("network", [nets.Residual, nets.Gated, nets.Dense, nets.Inception, nets.Plain])
@pytest.mark.parametrize("text", STRUCTURES.names())
def test_every_structure_keeps_the_contract(network: Callable[[], nn.Module], text: str) -> None:
    module = nets.random_statistics(network())
    before, subject = fingerprint(module), subject_of(module)
    sites = find_sites(subject, get_structure(text))
    intact = subject.network(nets.image())
    assert len({site.name for site in sites}) == len(sites)
    assert [site.place for site in sites] == sorted(site.place for site in sites)
    for chosen in [[site] for site in sites[:3]] + [list(sites)]:
        made = cut(subject, chosen)
        made.graph.lint()
        assert made(nets.image()).shape == intact.shape
        assert not made.training
    assert torch.equal(subject.network(nets.image()), intact)
    assert fingerprint(module) == before


def test_cutting_everything_together_runs() -> None:
    module = nets.random_statistics(nets.Residual())
    subject = subject_of(module)
    texts = [text for text in STRUCTURES.names() if text != "filter"]
    sites = [site for text in texts for site in find_sites(subject, get_structure(text))]
    assert cut(subject, sites)(nets.image()).shape == (2, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shortcuts", "Did you mean 'shortcut'"),
        ("pool?to=median", "not median"),
        ("pool?kind=max", "no option 'kind'"),
        ("shortcut?x=1", "It has no options"),
    ],
)
def test_unknown_words_are_refused_with_the_known_ones(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        get_structure(text)


SAMPLE = [
    "torchvision:resnet18", "torchvision:googlenet", "torchvision:shufflenet_v2_x0_5", "torchvision:mnasnet0_5",
    "torchvision:efficientnet_b0", "torchvision:regnet_y_400mf", "torchvision:mobilenet_v3_small", "torchvision:vgg11",
    "timm:convnext_atto", "timm:tf_efficientnet_lite0", "timm:mobilenetv4_conv_small", "timm:repvgg_a0",
]  # fmt: skip
"""Of those that ``make bench`` counts."""


@pytest.mark.parametrize("source", SAMPLE)
def test_published_networks_can_be_cut_and_trained_as_graphs(source: str) -> None:
    network, size = build(source)
    subject = subject_of(network, size)
    assert not subject.reason
    assert not subject.trains
    images = nets.image(2, size=size, seed=11)
    expected = network(images)
    scale = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(subject.network(images), expected, rtol=0, atol=1e-5 * scale)


class Masked(nn.Module):
    """A residual network with a line that torch.fx cannot follow but torch.export can."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(8, 4)
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x) * torch.ones(x.size(0), 1, 1, 1)
        z = torch.relu(self.bn(self.conv(y)))
        return self.fc(self.drop(self.pool(z if self.plain else z + y).mean((2, 3))))


def test_where_fx_fails_the_exported_graph_is_cut_and_can_be_trained() -> None:
    network, twin = nets.random_statistics(Masked()), Masked(plain=True).eval()
    twin.load_state_dict(network.state_dict())
    before, subject = fingerprint(network), subject_of(network)
    assert not subject.reason
    assert not subject.trains
    assert subject.graph.meta["exported"]
    words = ("norm", "dropout", "pool", "relu", "layer")
    assert [names(subject, word) for word in words] == [
        ["bn"],
        ["drop"],
        ["pool", "mean"],
        ["relu"],
        ["conv"],
    ]
    made, images = without(subject, "shortcut"), nets.image(5, seed=8)
    same(made(images), twin(images))
    assert fingerprint(network) == before
    outputs = []
    for module in (made, twin):
        with scoped(3), kept_buffers(module):
            outputs.append(module.train()(images))
    same(*outputs)


class Deciding(nn.Module):
    """Its forward pass depends on the values: no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        if float(y.detach().sum()) > 0:
            y = y * 2
        return self.fc(y.mean((2, 3)))


def test_without_a_graph_modules_can_be_cut_and_the_rest_says_why() -> None:
    from probe.core.errors import NotApplicableError

    network = nets.random_statistics(Deciding())
    before, subject = fingerprint(network), subject_of(network)
    assert "if float(y.detach().sum()) > 0" in subject.reason
    assert names(subject, "norm") == ["bn"]
    made = without(subject, "norm")
    x = network.conv(nets.image())
    x = x * 2 if float(x.detach().sum()) > 0 else x
    same(made(nets.image()), network.fc(x.mean((2, 3))))
    with pytest.raises(NotApplicableError, match="if float"):
        find_sites(subject, get_structure("shortcut"))
    assert fingerprint(network) == before


def test_a_layer_may_be_called_by_a_number() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 2, 3)))
    assert names(subject_of(network), "filter?layer=0") == [f"0:{channel}" for channel in range(4)]
    assert names(subject_of(network), "filter?layer=2.0") == ["2.0:0", "2.0:1"]
