"""The census against torch's own counter, closed forms, the tensors themselves, and gradients."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import graph_networks as nets
from helpers.graph_support import positive_maps, support
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from probe.core.state import fingerprint
from probe.graph.cost.operations import operation_table, without_fused_attention
from probe.graph.cost.summary import count_macs

TORCHVISION = (
    *("alexnet", "vgg11_bn", "resnet18", "resnext50_32x4d", "densenet121", "googlenet", "squeezenet1_1"),
    *("shufflenet_v2_x0_5", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5", "efficientnet_b0"),
    *("regnet_y_400mf", "convnext_tiny", "vit_b_16", "swin_t"),
)
TIMM = ("convnext_atto", "resnetv2_50x1_bit", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "mixnet_s")
FIXED_SIZE = {"vit_b_16": 224, "vit_tiny_patch16_224": 224, "swin_t": 64}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        if name in TIMM:
            import timm

            network: nn.Module = timm.create_model(name)
        else:
            from torchvision import models

            quick = {"init_weights": False} if name == "googlenet" else {}
            with torch.device("cpu" if name.startswith("regnet") else "meta"):
                network = models.get_model(name, weights=None, **quick)
    return network.eval().to("meta")


@pytest.mark.parametrize("name", [*TORCHVISION, *TIMM])
def test_macs_parameters_and_sizes_are_those_of_torch(name: str) -> None:
    network = on_meta(name)
    size = FIXED_SIZE.get(name, 64)
    example = torch.rand(1, 3, size, size, device="meta")
    found = operation_table(network, example)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), without_fused_attention(), sdpa_kernel(SDPBackend.MATH), counter:
        network(example)
    assert 2 * found.macs == counter.get_total_flops() > 0
    assert count_macs(network, example) == found.macs
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert sum(row.parameters for row in found.rows) == found.parameters - found.unused
    auxiliary = 6_379_984 if name == "googlenet" else 0  # its two auxiliary classifiers
    assert found.unused == auxiliary
    for row in found.rows:
        if row.window is not None:
            assert row.window.output_size(row.input[1:]) == row.output[1:], row


def test_resnet18_has_the_parameters_and_macs_of_the_closed_forms() -> None:
    found = operation_table(on_meta("resnet18"), torch.rand(1, 3, 224, 224, device="meta"))
    convolutions = [(7, 3, 64, 112)]
    width, side = 64, 56
    for stage in range(4):
        wide = 64 * 2**stage
        side = 56 // 2**stage
        convolutions += [(3, width, wide, side)] + [(3, wide, wide, side)] * 3
        convolutions += [(1, width, wide, side)] if stage else []
        width = wide
    macs = sum(k * k * c * m * m * n for k, c, n, m in convolutions) + 512 * 1000
    weights = sum(k * k * c * n for k, c, n, _ in convolutions) + 512 * 1000 + 1000
    norms = sum(2 * n for _, _, n, _ in convolutions)
    assert (found.macs, found.parameters) == (macs, weights + norms) == (1_814_073_344, 11_689_512)
    assert sum(row.parameters for row in found.rows if row.kind == "norm") == norms
    assert sorted(prod(row.window.kernel) for row in found.rows if row.kind == "conv" and row.window) == sorted(
        k * k for k, *_ in convolutions
    )  # fmt: skip


@st.composite
def layers(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    options: dict[str, Any] = {"kernel_size": kernel, "stride": draw(st.integers(1, 3))}
    options["padding"] = draw(st.tuples(*(st.integers(0, k // 2) for k in kernel)))
    kind = draw(st.sampled_from(["conv", "transposed", "max", "average"]))
    if kind != "average":
        options["dilation"] = draw(st.integers(1, 2))
    if kind in ("max", "average"):
        options["ceil_mode"] = draw(st.booleans())
    else:
        options |= {"groups": draw(st.sampled_from([1, 2, 4])), "bias": draw(st.booleans())}
    if kind == "transposed":
        options["output_padding"] = draw(st.integers(0, max(options["stride"], options["dilation"]) - 1))
    return kind, options


# The window that would begin in the padding behind the map.
@example(("max", {"kernel_size": (2, 2), "stride": 2, "padding": (1, 1), "ceil_mode": True}), (7, 7))
@settings(max_examples=80)
@given(layers(), st.tuples(st.integers(7, 13), st.integers(7, 13)))
def test_every_window_has_the_tensors_size_and_the_formulas_cost(
    layer: tuple[str, dict[str, Any]], size: tuple[int, int]
) -> None:
    kind, options = layer
    maker: dict[str, Callable[..., nn.Module]] = {
        "conv": lambda **how: nn.Conv2d(4, 8, **how),
        "transposed": lambda **how: nn.ConvTranspose2d(4, 8, **how),
        "max": nn.MaxPool2d,
        "average": nn.AvgPool2d,
    }
    network = maker[kind](**options)
    image = torch.rand(1, 4, *size)
    with torch.no_grad():
        output = network(image)
    (row,) = operation_table(network, image).rows
    assert row.output == tuple(output.shape[1:])
    assert row.window is not None
    assert row.window.output_size(size) == tuple(output.shape[2:])
    assert row.activations == 4 * output.numel()
    if kind in ("conv", "transposed"):
        taps = prod(options["kernel_size"])
        places = prod(output.shape[2:]) if kind == "conv" else prod(size)
        assert row.macs == taps * 4 * 8 * places // options["groups"]
        assert row.parameters == taps * 4 * 8 // options["groups"] + 8 * options["bias"]
        assert row.window.groups == options["groups"]
    else:
        assert row.macs == row.parameters == 0


class Windows(nn.Module):
    """A dilated branch beside a plain one, a transposed convolution after a pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 5, stride=2, padding=2)
        self.wide = nn.Conv2d(4, 4, 3, padding=3, dilation=3, groups=2)
        self.near = nn.Conv2d(4, 4, (1, 3), padding=(0, 1))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1)
        self.last = nn.Conv2d(4, 4, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.up(self.pool(torch.cat([self.wide(x), x + self.near(x)], 1))))


def test_receptive_fields_are_the_gradients_support() -> None:
    network = nets.seeded(Windows).double()
    image = nets.images(1, (96, 80)).double()
    rows = {row.name: row for row in operation_table(network, image).layers}
    assert list(rows) == ["stem", "wide", "near", "pool", "up", "last"]
    outputs, pixels = positive_maps(network, list(rows), image)
    for name, row in rows.items():
        reach, output = row.reach, outputs[name]
        assert reach is not None
        assert reach.units == tuple(output.shape[2:])
        assert reach.jump is not None
        middle = [length // 2 for length in output.shape[2:]]
        boxes = [support(output[..., middle[0] + d, middle[1] + d].sum(), pixels) for d in (0, 1, 2, 3)]
        for axis in (0, 1):
            sizes = [box[axis + 2] - box[axis] for box in boxes]
            assert reach.size[axis] == max(sizes), name
            # Two steps, as a transposed convolution's units see one and two inputs in turn.
            assert (boxes[2][axis] - boxes[0][axis]) / 2 == reach.jump[axis], name
            if len(set(sizes)) == 1:
                centre = (boxes[0][axis] + boxes[0][axis + 2]) / 2
                assert centre == reach.start[axis] + middle[axis] * reach.jump[axis], name


class SpatialCrossMapLRN(nn.Module):
    """The formula of Krizhevsky et al. (2012) over 4 channels; only its name says what it is."""

    def forward(self, x: Tensor) -> Tensor:
        return over_neighbours(x)


class Unnamed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return over_neighbours(x)


def over_neighbours(x: Tensor) -> Tensor:
    squares = F.pad((x * x).unsqueeze(1), (0, 0, 0, 0, 2, 1))
    return x / (F.avg_pool3d(squares, (4, 1, 1), stride=1).squeeze(1) * 1e-4 + 1.0) ** 0.75


class Function(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x, 4)


@pytest.mark.parametrize("norm", [nn.LocalResponseNorm(4), SpatialCrossMapLRN(), Function()])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_local_response_norm_is_one_row_with_the_cost_of_its_formula(norm: nn.Module, device: str) -> None:
    def network(middle: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 6, 3), middle, nn.ReLU(), nn.AvgPool2d(2)).to(device)

    image = torch.rand(1, 3, 8, 8)
    assert torch.allclose(norm(image), over_neighbours(image))
    found = operation_table(network(norm), image.to(device))
    spelled = operation_table(network(Unnamed()), image.to(device))
    assert [row.kind for row in found.rows] == ["conv", "LRN", "elementwise", "average pool"]
    assert [row.name for row in found.layers] == ["0", "1", "3"]
    lrn, steps = found.rows[1], spelled.rows[1:-2]
    assert (lrn.input, lrn.output, lrn.window, lrn.macs, lrn.parameters) == ((6, 6, 6), (6, 6, 6), None, 0, 0)
    assert len(steps) == 7
    # Six maps of the input's size and a padded one.
    assert lrn.activations == sum(row.activations for row in steps) == 4 * 36 * (6 * 6 + (6 + 3))
    if device == "cpu":
        assert lrn.reach == found.rows[0].reach
        assert lrn.reach is not None
        assert lrn.reach.size == (3, 3)


class Odd(nn.Module):
    """Functions instead of modules, a module called twice, weights that are computed, a scale, what is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.kernel = nn.Parameter(torch.rand(4, 3, 3, 3))
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.dead = nn.Linear(7, 3)
        self.head = nn.Linear(4, 5)
        self.head2 = nn.Linear(5, 4)
        self.head2.weight = nn.Parameter(self.head.weight.detach().t().clone())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.conv(x))
        kernel = (self.kernel - self.kernel.mean()) / 2
        x = F.conv2d(x, kernel, stride=2) * self.scale
        tokens = x.flatten(2).transpose(1, 2)
        return self.head2(self.head(tokens)).mean(1)


def test_functions_repeated_calls_computed_weights_and_scales_have_rows() -> None:
    network = nets.seeded(Odd)
    found = operation_table(network, nets.images(2, 9))
    rows = [(row.name, row.call, row.kind, row.output, row.parameters, row.shared) for row in found.layers]
    assert rows == [
        ("conv", 1, "conv", (3, 9, 9), 84, 0),
        ("conv", 2, "conv", (3, 9, 9), 0, 84),
        ("", 1, "conv", (4, 4, 4), 108, 0),
        ("head", 1, "linear", (16, 5), 25, 0),
        ("head2", 1, "linear", (16, 4), 24, 0),
    ]
    assert found.unused == 7 * 3 + 3
    assert found.macs == 2 * 81 * 81 + 108 * 16 + 2 * 16 * 20
    scaling = next(row for row in found.rows if row.operation == "mul")
    assert (scaling.kind, scaling.parameters) == ("elementwise", 4)


def test_attention_is_counted_as_its_products_whether_fused_or_not() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    before = torch.backends.mha.get_fastpath_enabled()
    network, image = Attending().eval().requires_grad_(False), torch.rand(1, 8, 3, 4)
    found = operation_table(network, image)
    n, d = 12, 8
    assert found.macs == 4 * n * d * d + 2 * n * n * d == count_macs(network, image)
    assert found.unused == 0
    assert torch.backends.mha.get_fastpath_enabled() == before
    with pytest.raises(RuntimeError, match="broken network"):
        operation_table(nets.Raises(), nets.images(1, 9))
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_memory_of_activations_in_all_and_at_once() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Flatten()
    )
    found = operation_table(network, nets.images(2, 8))
    maps = [4 * channels * 64 for channels in (4, 2, 2)]
    assert found.activations == sum(maps)
    image = 4 * 3 * 64
    assert found.peak == image + maps[0] + maps[1]
    assert [row.activations for row in found.rows] == [maps[0], 0, maps[1], maps[2]]


@pytest.mark.parametrize(
    "make", [nets.Plain, nets.SideEffects, nets.Several, nets.ChangedInput, nets.Branching]
)
def test_the_network_and_the_image_are_not_changed(make: Callable[[], nn.Module]) -> None:
    network, image = nets.seeded(make), nets.images()
    before, pixels = fingerprint(network), image.clone()
    found = operation_table(network, image)
    assert fingerprint(network) == before
    assert torch.equal(image, pixels)
    assert found.macs == count_macs(network, image) > 0


def test_tokens_that_meet_after_the_last_map_leave_no_receptive_field() -> None:
    import timm

    assert (
        operation_table(timm.create_model("vit_tiny_patch16_224", depth=1), torch.rand(1, 3, 224, 224)).reach
        is None
    )
    gated = operation_table(
        on_cpu := timm.create_model("mobilenetv3_small_050").eval(), torch.rand(1, 3, 64, 64)
    )
    assert on_cpu is not None
    assert gated.reach is not None
    assert "global operations" in gated.reach.note
