from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from captum.attr import Deconvolution, DeepLift, GuidedBackprop
from helpers import graph_networks as nets
from torch import Tensor, fx, nn

from probe.core.state import fingerprint
from probe.graph.edit.rewrite import UpperClamp, hidden_activations, modular
from probe.graph.trace.trace import TraceError


def modules_called(graph: fx.GraphModule) -> list[nn.Module]:
    return [graph.get_submodule(node.target) for node in graph.graph.nodes if node.op == "call_module"]


@pytest.mark.parametrize(
    "make", [nets.Plain, nets.LateChange, nets.ChangedInput, nets.RankOnly, nets.Constants]
)
def test_the_rewrite_gives_the_networks_output_and_leaves_it_alone(make: type[nn.Module]) -> None:
    network = nets.seeded(make).train()
    before = fingerprint(network)
    rewritten = modular(network, nets.images())
    assert fingerprint(network) == before
    others = nets.images(5, seed=8)
    network.eval()
    torch.testing.assert_close(rewritten(others.clone()), network(others.clone()), rtol=1e-6, atol=1e-6)
    assert not any(getattr(sub, "inplace", False) for sub in rewritten.modules())
    assert max(Counter(map(id, modules_called(rewritten))).values()) == 1
    assert hidden_activations(rewritten) == ()


@pytest.mark.parametrize("make", [nets.Branching, nets.BatchDependent])
def test_what_cannot_be_traced_is_refused_and_left_alone(make: type[nn.Module]) -> None:
    network = nets.seeded(make)
    before = fingerprint(network)
    with pytest.raises(TraceError):
        modular(network, nets.images())
    assert fingerprint(network) == before


def test_an_error_in_the_forward_pass_leaves_the_network_alone() -> None:
    network = nets.Raises()
    before = fingerprint(network)
    with pytest.raises(RuntimeError, match="broken network"):
        modular(network, nets.images())
    assert fingerprint(network) == before


def test_reused_modules_have_one_instance_per_call_and_share_weights() -> None:
    network = nets.seeded(nets.Plain)
    rewritten = modular(network, nets.images())
    kinds = Counter(type(sub).__name__ for sub in modules_called(rewritten))
    assert kinds["ReLU"] == 4  # two calls of the module, one function, one inside ReLU6
    assert kinds["Conv2d"] == 4
    assert kinds["UpperClamp"] == 1
    assert kinds["MaxPool2d"] == 1
    assert kinds["AdaptiveAvgPool2d"] == 1
    assert kinds["Dropout"] == 1
    convolutions = [sub for sub in modules_called(rewritten) if isinstance(sub, nn.Conv2d)]
    assert len({id(sub) for sub in convolutions}) == 4
    assert sum(sub.weight is network.conv2.weight for sub in convolutions) == 2
    assert isinstance(rewritten.get_submodule("relu"), nn.ReLU)


FUNCTIONS: list[tuple[Callable[[Tensor], Tensor], list[str]]] = [
    (F.relu, ["ReLU"]),
    (torch.relu, ["ReLU"]),
    (lambda x: x.relu(), ["ReLU"]),
    (lambda x: x.relu_(), ["ReLU"]),
    (torch.relu_, ["ReLU"]),
    (lambda x: F.relu(input=x, inplace=True), ["ReLU"]),
    (F.relu6, ["ReLU", "UpperClamp"]),
    (lambda x: F.hardtanh(x, 0.0, 1.0), ["ReLU", "UpperClamp"]),
    (lambda x: F.hardtanh(x, -0.2, 0.3), ["Hardtanh"]),
    (lambda x: x.clamp(0), ["ReLU"]),
    (lambda x: x.clamp(min=0, max=0.4), ["ReLU", "UpperClamp"]),
    (lambda x: torch.clamp(x, max=0.4), ["UpperClamp"]),
    (lambda x: x.clamp_(-0.1, 0.2), ["Clamp"]),
    (lambda x: x.clamp_min(0.0), ["ReLU"]),
    (lambda x: torch.clip(x, 0.1), ["Clamp"]),
    (torch.sigmoid, ["Sigmoid"]),
    (F.sigmoid, ["Sigmoid"]),
    (lambda x: x.sigmoid(), ["Sigmoid"]),
    (lambda x: x.tanh_(), ["Tanh"]),
    (F.silu, ["SiLU"]),
    (lambda x: F.silu(x, inplace=True), ["SiLU"]),
    (F.mish, ["Mish"]),
    (F.gelu, ["GELU"]),
    (lambda x: F.gelu(x, approximate="tanh"), ["GELU"]),
    (F.hardswish, ["Hardswish"]),
    (F.hardsigmoid, ["Hardsigmoid"]),
    (lambda x: F.leaky_relu(x, 0.3), ["LeakyReLU"]),
    (lambda x: F.elu(x, 0.7), ["ELU"]),
    (F.selu, ["SELU"]),
    (lambda x: F.celu(x, 0.5), ["CELU"]),
    (lambda x: F.softplus(x, 2, 10), ["Softplus"]),
    (F.softsign, ["Softsign"]),
    (F.logsigmoid, ["LogSigmoid"]),
    (F.tanhshrink, ["Tanhshrink"]),
    (lambda x: F.hardshrink(x, 0.1), ["Hardshrink"]),
    (lambda x: F.softshrink(x, 0.1), ["Softshrink"]),
    (lambda x: F.threshold(x, 0.1, -1.0), ["Threshold"]),
    (lambda x: F.glu(x, 1), ["GLU"]),
    (lambda x: F.softmax(x, dim=1), ["Softmax"]),
    (lambda x: x.softmax(1), ["Softmax"]),
    (lambda x: torch.log_softmax(x, 1), ["LogSoftmax"]),
    (lambda x: F.softmin(x, dim=-1), ["Softmin"]),
    (lambda x: F.max_pool2d(x, 3, 2, 1), ["MaxPool2d"]),
    (lambda x: torch.max_pool2d(x, 3), ["MaxPool2d"]),
    (lambda x: F.max_pool2d(x, 2, ceil_mode=True, dilation=2), ["MaxPool2d"]),
    (lambda x: F.avg_pool2d(x, 3, 2, 1, False, False), ["AvgPool2d"]),
    (lambda x: F.avg_pool2d(x, (2, 3)), ["AvgPool2d"]),
    (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), ["AdaptiveAvgPool2d"]),
    (lambda x: F.adaptive_max_pool2d(x, 2), ["AdaptiveMaxPool2d"]),
    (lambda x: F.lp_pool2d(x, 2, 3), ["LPPool2d"]),
    (lambda x: F.dropout(x, 0.3, training=False), ["Dropout"]),
    (lambda x: F.dropout2d(x, 0.3, training=False), ["Dropout2d"]),
    (lambda x: torch.dropout(x, 0.3, False), ["Dropout"]),
    (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], []),
    (lambda x: F.dropout(x, 0.3, training=True), []),
    (lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4) * 2), []),
]


@pytest.mark.parametrize(("function", "kinds"), FUNCTIONS)
def test_functions_become_modules(function: Callable[[Tensor], Tensor], kinds: list[str]) -> None:
    network = nets.Functions(function)
    rewritten = modular(network, nets.images())
    assert [type(sub).__name__ for sub in modules_called(rewritten)] == ["Conv2d", *kinds]
    others = nets.images(3, seed=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = network(others)
        torch.manual_seed(0)
        torch.testing.assert_close(rewritten(others), expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relu6_is_written_as_two_modules_that_are_exactly_equal(dtype: torch.dtype) -> None:
    values = torch.tensor(
        [-1e30, -1.0, -0.0, 0.0, 1e-30, 3.0, 6.0, 6.0000005, 1e30, float("inf"), float("nan")]
    )
    values = values.to(dtype).view(1, 1, 1, -1).requires_grad_()
    rewritten = modular(nn.Sequential(nn.ReLU6(inplace=True)), torch.rand(1, 1, 2, 2, dtype=dtype))
    expected = F.relu6(values)
    assert torch.equal(rewritten(values).nan_to_num(-7.0), expected.nan_to_num(-7.0))
    mine, theirs = (torch.autograd.grad(out.sum(), values)[0] for out in (rewritten(values), expected))
    assert torch.equal(mine, theirs)
    assert isinstance(rewritten.get_submodule("0_bound"), UpperClamp)


def test_operations_in_place_become_plain_ones() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            kept = y
            y += x
            y.mul_(0.5).sub_(0.1)
            return F.relu(y, inplace=True) + kept

    network = Residual()
    rewritten = modular(network, nets.images())
    torch.testing.assert_close(rewritten(nets.images()), network(nets.images()))
    targets = [getattr(node.target, "__name__", node.target) for node in rewritten.graph.nodes]
    assert not {"iadd", "mul_", "sub_"} & set(targets)


def test_a_change_seen_through_a_view_stays_right() -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            part = x[:, :2]
            part += 1.0
            return F.relu(x)

    network = Viewed()
    torch.testing.assert_close(modular(network, nets.images())(nets.images()), network(nets.images()))


def test_backward_hooks_can_be_set_on_every_module() -> None:
    network = nets.seeded(nets.Plain).double()
    rewritten = modular(network, nets.images().double())
    seen = []
    for name, sub in rewritten.named_modules():
        if name and not list(sub.children()):
            sub.register_full_backward_hook(lambda _m, _i, _o, name=name: seen.append(name))
    pixels = nets.images().double().requires_grad_()
    (found,) = torch.autograd.grad(rewritten(pixels).sum(), pixels)
    (expected,) = torch.autograd.grad(network(pixels * 1.0).sum(), pixels)
    torch.testing.assert_close(found, expected)
    called = [node.target for node in rewritten.graph.nodes if node.op == "call_module"]
    assert sorted(seen) == sorted(called)


class FunctionalReLU(nn.Module):
    """Three convolutions and nothing but functional ReLUs between them."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if i == 0 else 4, 4, 3) for i in range(3))
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.fc(x.mean((2, 3)))


def guided_by_hand(network: FunctionalReLU, pixels: Tensor, target: int, deconvnet: bool) -> Tensor:
    """Go back layer by layer: through a ReLU only positive signals pass (and, guided, only where it was active)."""
    values, x = [], pixels
    for conv in network.convs:
        values.append(conv(x))
        x = values[-1].clamp(min=0)
    count = x.shape[2] * x.shape[3]
    signal = (network.fc.weight[target] / count).view(1, -1, 1, 1).expand_as(x)
    for conv, before in reversed(list(zip(network.convs, values, strict=True))):
        signal = signal.clamp(min=0)
        if not deconvnet:
            signal = signal * (before > 0)
        signal = F.conv_transpose2d(signal, conv.weight)
    return signal


@pytest.mark.parametrize(("method", "deconvnet"), [(GuidedBackprop, False), (Deconvolution, True)])
def test_guided_methods_see_functional_relus(method: type, deconvnet: bool) -> None:
    network = nets.seeded(FunctionalReLU).double()
    pixels = nets.images(2, 12).double().requires_grad_()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="\\s*Setting backward hooks on ReLU")
        found = method(modular(network, pixels)).attribute(pixels, target=1)
        blind = method(network).attribute(pixels, target=1)
    expected = guided_by_hand(network, pixels, 1, deconvnet)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert (blind - expected).abs().max() > 1e-3 * expected.abs().max()


def test_deep_lift_is_complete_on_a_residual_network() -> None:
    from torchvision.models import resnet18

    network = nets.seeded(lambda: resnet18(num_classes=10))
    pixels = nets.images(2, 64).requires_grad_()
    reference = torch.zeros_like(pixels)  # captum's max-pool rule needs a constant reference
    rewritten = modular(network, pixels)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="\\s*Setting forward, backward hooks")
        found = DeepLift(rewritten).attribute(pixels, reference, target=3)
    with torch.no_grad():
        change = network(pixels)[:, 3] - network(reference)[:, 3]
    error = (found.detach().flatten(1).sum(1) - change).abs() / change.abs()
    assert float(error.max()) < 1e-4


def test_norm_and_activation_modules_are_opened() -> None:
    from timm.layers import BatchNormAct2d

    network = nets.seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 4, 3)))
    rewritten = modular(network, nets.images())
    assert "ReLU" in {type(sub).__name__ for sub in modules_called(rewritten)}
    assert hidden_activations(rewritten) == ()
    torch.testing.assert_close(rewritten(nets.images(seed=5)), network(nets.images(seed=5)))


def test_activations_that_stay_hidden_are_named() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 4, 4)
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.slope = nn.Parameter(torch.tensor([0.2]))

        def forward(self, x: Tensor) -> Tensor:
            x = F.prelu(self.conv(x), self.slope.abs())
            return self.block(x.flatten(2).transpose(1, 2)).mean(1)

    hidden = hidden_activations(modular(Attending().eval(), nets.images()))
    assert "the network: prelu" in hidden
    assert any(name.startswith("block: ") for name in hidden)
