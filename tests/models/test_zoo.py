"""The zoo against the papers' counts and against independent implementations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.models.load import load_model
from probe.models.source import ZOO
from probe.models.zoo.alexnet import AlexNet
from probe.models.zoo.lenet import LeNet
from probe.models.zoo.resnet import PadShortcut, ResNet

# Million parameters, He et al. 2015, table 6.
PAPER = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}


@pytest.mark.parametrize("depth", PAPER)
def test_parameters_of_the_paper(depth: int) -> None:
    network = ZOO.get(f"resnet{depth}")()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert round(parameters / 1e6, 2 if depth < 110 else 1) == PAPER[depth]


@pytest.mark.parametrize("depth", [8, 20, 110])
def test_layers_with_weights(depth: int) -> None:
    network = ResNet(depth)
    assert sum(isinstance(sub, nn.Conv2d | nn.Linear) for sub in network.modules()) == depth


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("option", ["A", "B"])
def test_a_functional_reference(shortcut: bool, option: str) -> None:
    """The same network written out from the paper, in float64, from the state dict alone."""
    network = ResNet(14, shortcut=shortcut, option=option).double().eval()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for name, value in network.named_buffers():
        if name.endswith(("mean", "var")):
            value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5)
    state = network.state_dict()
    x = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)

    def bn(x: Tensor, key: str) -> Tensor:
        scale = state[f"{key}.weight"] / (state[f"{key}.running_var"] + 1e-5).sqrt()
        shift = state[f"{key}.bias"] - state[f"{key}.running_mean"] * scale
        return x * scale[:, None, None] + shift[:, None, None]

    def conv(x: Tensor, key: str, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, state[f"{key}.weight"], stride=stride, padding=padding)

    h = bn(conv(x, "conv1"), "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        for block in (0, 1):
            key = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            out = bn(conv(h, f"{key}.conv1", stride), f"{key}.bn1").clamp(min=0)
            out = bn(conv(out, f"{key}.conv2"), f"{key}.bn2")
            if shortcut and stride == 1:
                out = out + h
            elif shortcut and option == "A":
                extra = (out.shape[1] - h.shape[1]) // 2
                zeros = torch.zeros(2, extra, *out.shape[2:], dtype=torch.float64)
                out = out + torch.cat([zeros, h[:, :, ::2, ::2], zeros], 1)
            elif shortcut:
                out = out + bn(conv(h, f"{key}.shortcut.0", 2, 0), f"{key}.shortcut.1")
            h = out.clamp(min=0)
    wanted = h.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(network(x), wanted, rtol=1e-10, atol=1e-10)


def test_option_a_costs_nothing() -> None:
    plain, residual = ResNet(20, shortcut=False), ResNet(20)
    count = [sum(parameter.numel() for parameter in network.parameters()) for network in (plain, residual)]
    assert count[0] == count[1]
    assert sum(p.numel() for p in ResNet(20, option="B").parameters()) > count[0]


@pytest.mark.parametrize("size", [7, 8, 31])
def test_odd_sizes(size: int) -> None:
    x = torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size)
    out = PadShortcut(1, 3, 2)(x)
    assert out.shape == (1, 3, -(-size // 2), -(-size // 2))
    assert out[0, [0, 2]].abs().sum() == 0
    assert ResNet(8)(torch.rand(2, 3, size, size)).shape == (2, 10)


@pytest.mark.parametrize(
    "text", ["zoo:resnet?depth=21", "zoo:resnet?depth=2", "zoo:resnet20?option=C", "zoo:lenet?pooling=median"]
)
def test_options_that_have_no_meaning(text: str) -> None:
    with pytest.raises(UsageError):
        load_model(text, weights="none")


def test_options_change_the_network() -> None:
    model = load_model(
        "zoo:resnet?depth=26&shortcut=False&in_channels=1", weights="none", num_classes=4, device="cpu"
    )
    assert model.input.size == (1, 32, 32)
    assert model.num_classes == 4
    assert model.provenance.source == "zoo:resnet?depth=26&shortcut=False&in_channels=1"
    assert not any(isinstance(sub, PadShortcut) for sub in model.network.modules())
    with pytest.raises(UsageError, match=r"no argument 'dept'. It takes depth, num_classes"):
        load_model("zoo:resnet?dept=26", weights="none")


def test_lenet_pools_as_told() -> None:
    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(LeNet().pool1(x), F.max_pool2d(x, 2))
    assert torch.equal(LeNet(pooling="average").pool1(x), F.avg_pool2d(x, 2))
    assert sum(p.numel() for p in LeNet().parameters()) == 156 + 2416 + 48120 + 10164 + 850


def test_alexnets_normalisation_is_the_published_one() -> None:
    """b = a / (k + α Σ a²)^β over n = 5 neighbouring channels: Krizhevsky et al. 2012, section 3.3."""
    norm = AlexNet().norm1
    a = torch.rand((2, 12, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 50
    expected = torch.empty_like(a)
    for channel in range(12):
        near = a[:, max(0, channel - 2) : channel + 3]
        expected[:, channel] = a[:, channel] / (2 + 1e-4 * (near**2).sum(1)) ** 0.75
    torch.testing.assert_close(norm(a), expected, rtol=1e-10, atol=0)


def test_alexnet_has_five_convolutions_three_dense_layers_and_two_dropouts() -> None:
    network = AlexNet(num_classes=7, in_channels=1)
    kinds = [type(sub).__name__ for sub in network.modules()]
    counts = {kind: kinds.count(kind) for kind in ("Conv2d", "Linear", "Dropout", "LocalResponseNorm")}
    assert counts == {"Conv2d": 5, "Linear": 3, "Dropout": 2, "LocalResponseNorm": 2}
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
    plain = AlexNet(norm="batch", dropout=0.0)
    assert sum(isinstance(sub, nn.BatchNorm2d) for sub in plain.modules()) == 2
    with pytest.raises(UsageError, match="norm=lrn"):
        AlexNet(norm="layer")  # type: ignore[arg-type]
