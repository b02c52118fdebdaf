"""What is spelled as a function, a method or a formula is found and cut where the module would be."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from helpers.ablation_networks import image
from helpers.spelled_networks import SPELLINGS, AsModules, Weights
from torch import Tensor, nn

from probe.core.errors import NotApplicableError
from probe.core.seeds import scoped
from probe.core.state import fingerprint
from probe.graph.edit.cut import CutSubject, cut, find_sites, prepare
from probe.graph.edit.structure import STRUCTURES, SWAPS, get_structure

TEXTS = [*STRUCTURES.names(), *(f"swap:{name}" for name in SWAPS.names())]
TEXTS += ["pool?to=strided", "swap:activation?to=gelu", "swap:norm?to=none", "swap:kernel?to=large"]
IMAGES = image(5, size=12, seed=4)


@cache
def subject_of(kind: Callable[..., Weights], exported: bool) -> CutSubject:
    return prepare(kind(exported).eval(), IMAGES[:2])


def kinds(subject: CutSubject, text: str) -> list[str]:
    """Return what is replaced by what at each site, without the call; a whole map can be a window of its size too."""
    sites = find_sites(subject, get_structure(text))
    return [
        site.form.partition(", call")[0].partition(", cut in")[0].replace("Adaptive", "") for site in sites
    ]


def logits_without(subject: CutSubject, text: str) -> Tensor | str:
    with scoped(0, "test"), torch.no_grad():
        try:
            return cut(subject, find_sites(subject, get_structure(text)))(IMAGES)
        except NotApplicableError as error:
            return type(error).__name__


@pytest.mark.parametrize("kind", SPELLINGS)
@pytest.mark.parametrize("exported", [False, True])
def test_a_twin_computes_the_same_and_can_be_trained(kind: Callable[..., Weights], exported: bool) -> None:
    network, reference = kind(exported).eval(), AsModules().eval()
    torch.testing.assert_close(network(IMAGES), reference(IMAGES))
    before, subject = fingerprint(network), subject_of(kind, exported)
    assert not subject.reason
    assert subject.graph.meta["exported"] == exported
    assert not subject.trains
    assert fingerprint(network) == before


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("exported", [False, True])
def test_every_spelling_has_the_same_sites_and_answers_without_them(text: str, exported: bool) -> None:
    reference = subject_of(AsModules, False)
    expected, without = kinds(reference, text), logits_without(reference, text)
    for kind in SPELLINGS:
        subject = subject_of(kind, exported)
        assert kinds(subject, text) == expected, kind.__name__
        torch.testing.assert_close(
            logits_without(subject, text), without, msg=kind.__name__, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kind", SPELLINGS)
def test_weights_are_counted_once_and_kept(kind: Callable[..., Weights]) -> None:
    network = kind().eval()
    graph = prepare(network, IMAGES[:2]).graph
    assert {id(p) for p in graph.parameters()} == {id(p) for p in network.parameters()}


class One(nn.Module):
    """A convolution, an operation, a head."""

    def __init__(self, operation: Callable[[nn.Module, Tensor], Tensor], own: nn.Module) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.operation, self.own = operation, own

    def forward(self, x: Tensor) -> Tensor:
        y = self.operation(self.own, self.conv(x))
        return self.head(y if y.dim() == 2 else y.flatten(2).sum(2))


def zeros() -> Tensor:
    return torch.zeros(1)


PAIRS: list[tuple[nn.Module, list[Callable[[nn.Module, Tensor], Tensor]]]] = [
    (nn.ReLU(), [
        lambda m, x: F.relu(x), lambda m, x: x.relu(), lambda m, x: x.relu_(), lambda m, x: F.relu_(x),
        lambda m, x: x.clamp(min=0), lambda m, x: torch.clamp(x, 0), lambda m, x: torch.clip(x, min=0.0),
        lambda m, x: x.clamp_min(0), lambda m, x: F.threshold(x, 0, 0), lambda m, x: F.relu(input=x, inplace=True),
        lambda m, x: torch.maximum(x, torch.zeros_like(x)), lambda m, x: torch.max(x, zeros()),
    ]),
    (nn.ReLU6(), [lambda m, x: F.relu6(x), lambda m, x: x.clamp(0, 6), lambda m, x: F.hardtanh(x, 0.0, 6.0)]),
    (nn.Hardtanh(), [lambda m, x: F.hardtanh(x), lambda m, x: F.hardtanh_(x)]),
    (nn.LeakyReLU(0.2), [lambda m, x: F.leaky_relu(x, 0.2), lambda m, x: F.leaky_relu_(x, 0.2)]),
    (nn.PReLU(4), [lambda m, x: F.prelu(x, m.weight), lambda m, x: torch.prelu(x, m.weight)]),
    (nn.RReLU(), [lambda m, x: F.rrelu(x, training=m.training)]),
    (nn.GELU("tanh"), [lambda m, x: F.gelu(x, approximate="tanh")]),
    (nn.SiLU(), [lambda m, x: F.silu(x), lambda m, x: x * torch.sigmoid(x), lambda m, x: x.sigmoid().mul(x)]),
    (nn.Mish(), [lambda m, x: F.mish(x), lambda m, x: x * torch.tanh(F.softplus(x))]),
    (nn.Hardswish(), [lambda m, x: F.hardswish(x), lambda m, x: x * F.relu6(x + 3) / 6,
                      lambda m, x: x * (F.relu6(x + 3) / 6), lambda m, x: x * F.hardsigmoid(x)]),
    (nn.Hardsigmoid(), [lambda m, x: F.relu6(x + 3) / 6, lambda m, x: x.add(3).clamp(0, 6).div(6)]),
    (nn.Tanh(), [lambda m, x: x.tanh(), lambda m, x: torch.tanh(x), lambda m, x: x.tanh_()]),
    (nn.Sigmoid(), [lambda m, x: x.sigmoid_(), lambda m, x: torch.special.expit(x)]),
    (nn.AdaptiveAvgPool2d(1), [
        lambda m, x: x.mean((2, 3), keepdim=True), lambda m, x: torch.mean(x, [-1, -2]), lambda m, x: x.mean(3).mean(2),
        lambda m, x: x.mean(2).mean(-1), lambda m, x: x.flatten(2).mean(-1), lambda m, x: F.avg_pool2d(x, x.shape[2:]),
        lambda m, x: x.view(x.size(0), x.size(1), -1).mean(2), lambda m, x: F.avg_pool2d(x, x.size(2)),
        lambda m, x: x.mean(axis=(2, 3)), lambda m, x: x.mean(2, keepdim=True).mean(3, keepdim=True),
    ]),
    (nn.AdaptiveMaxPool2d(1), [
        lambda m, x: x.amax((2, 3)), lambda m, x: x.flatten(2).max(2)[0], lambda m, x: x.flatten(2).max(-1).values,
        lambda m, x: F.max_pool2d(x, x.shape[2:]), lambda m, x: x.max(3)[0].max(2)[0],
    ]),
    (nn.GroupNorm(2, 4), [lambda m, x: F.group_norm(x, 2, m.weight, m.bias),
                          lambda m, x: torch.group_norm(x, 2, m.weight, m.bias)]),
    (nn.LayerNorm([10, 10]), [lambda m, x: F.layer_norm(x, (10, 10), m.weight, m.bias),
                              lambda m, x: F.layer_norm(x, x.shape[2:], m.weight, m.bias)]),
    (nn.InstanceNorm2d(4), [lambda m, x: F.instance_norm(x)]),
    (nn.ConvTranspose2d(4, 4, 2, 2), [lambda m, x: F.conv_transpose2d(x, m.weight, m.bias, 2)]),
    (nn.AlphaDropout(0.2), [lambda m, x: F.alpha_dropout(x, 0.2, m.training)]),
]  # fmt: skip
CASES = [(row, number) for row, (_, spelled) in enumerate(PAIRS) for number in range(len(spelled))]
ids = [f"{type(PAIRS[row][0]).__name__}-{number}" for row, number in CASES]


@pytest.mark.parametrize(("row", "number"), CASES, ids=ids)
def test_an_operation_is_found_where_its_module_would_be(row: int, number: int) -> None:
    own, spelled = PAIRS[row]
    reference = prepare(One(lambda module, x: module(x), own).eval(), IMAGES[:2])
    twin = prepare(One(spelled[number], own).eval(), IMAGES[:2])
    assert not twin.reason
    assert twin.trains == reference.trains
    for text in (
        "relu",
        "norm",
        "pool",
        "dropout",
        "layer",
        "bias",
        "filter",
        "swap:activation",
        "swap:norm",
    ):
        assert kinds(twin, text) == kinds(reference, text), text
        found, expected = logits_without(twin, text), logits_without(reference, text)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Joined(nn.Module):
    """A join of a map and what was computed from it."""

    def __init__(self, join: Callable[..., Tensor], exported: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(8)
            self.stem, self.a = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.gate, self.wide, self.head = nn.Linear(4, 4), nn.Linear(8, 4), nn.Linear(4, 3)
        self.join, self.exported = join, exported

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x * torch.ones(x.size(0), 1, 1, 1) if self.exported else x)
        y = self.join(self, x, F.relu(self.a(x))).mean((2, 3))
        return self.head(self.wide(y) if y.shape[1] == 8 else y)

    def factors(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]


def in_place(_net: Joined, x: Tensor, y: Tensor) -> Tensor:
    y += x
    return y


def unnamed(_net: Joined, x: Tensor, y: Tensor) -> Tensor:
    y.add_(x)
    return y


JOINS: dict[str, list[Callable[[Joined, Tensor, Tensor], Tensor]]] = {
    "shortcut": [
        lambda n, x, y: y + x, lambda n, x, y: torch.add(input=y, other=x), lambda n, x, y: y.add(other=x),
        in_place, unnamed, lambda n, x, y: sum([y, x]), lambda n, x, y: y.__add__(x),
    ],
    "dense": [
        lambda n, x, y: torch.cat([x, y], 1), lambda n, x, y: torch.cat(tensors=(x, y), dim=1),
        lambda n, x, y: torch.concat([x, y], axis=1), lambda n, x, y: torch.hstack([x, y]),
        lambda n, x, y: torch.concatenate((x, y), -3),
    ],
    "se": [
        lambda n, x, y: y * n.factors(y), lambda n, x, y: torch.mul(input=y, other=n.factors(y)),
        lambda n, x, y: y * n.factors(y).expand_as(y), lambda n, x, y: n.factors(y).expand(y.size()) * y,
        lambda n, x, y: y.mul(other=n.factors(y)), lambda n, x, y: y.multiply(n.factors(y)),
        lambda n, x, y: y * torch.broadcast_to(n.factors(y), y.shape), lambda n, x, y: y.mul_(n.factors(y)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", JOINS)
@pytest.mark.parametrize("exported", [False, True])
def test_a_join_is_found_in_every_spelling(text: str, exported: bool) -> None:
    reference = prepare(Joined(JOINS[text][0], False).eval(), IMAGES[:2])
    assert len(kinds(reference, text)) == 1
    for number, join in enumerate(JOINS[text]):
        network = Joined(join, exported).eval()
        twin = prepare(network, IMAGES[:2])
        for word in (text, "relu", "pool", "block"):
            assert kinds(twin, word) == kinds(reference, word), (number, word)
            found, expected = logits_without(twin, word), logits_without(reference, word)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Viewed(nn.Module):
    """Changes a map through a view, with nothing that reads the result of the change."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        part = x[:, :2]
        part += 1.0
        return self.fc(F.relu(x).mean((2, 3)))


def test_a_change_through_a_view_outlives_a_cut() -> None:
    network = Viewed().eval()
    subject = prepare(network, IMAGES[:2])
    assert not subject.reason
    x = network.conv(IMAGES)
    x[:, :2] += 1
    torch.testing.assert_close(logits_without(subject, "relu"), network.fc(x.mean((2, 3))).detach())
