from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
import torch
import torch.nn.functional as F
from helpers import graph_networks as nets
from helpers.graph_support import check_boxes, positive_maps
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.core.errors import NotApplicableError, UsageError
from probe.core.state import fingerprint
from probe.graph.receptive_field.field import receptive_field, receptive_fields
from probe.graph.trace.layers import feature_layers, stages


def torchvision_network(name: str) -> nn.Module:
    from torchvision import models

    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, **quick)


def timm_network(name: str) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name)
    return network


NETWORKS: list[tuple[Callable[[str], nn.Module], str, tuple[int, int]]] = [
    (torchvision_network, "resnet18", (96, 80)),
    (torchvision_network, "vgg11", (64, 48)),
    (torchvision_network, "densenet121", (64, 64)),
    (torchvision_network, "googlenet", (96, 64)),
    (torchvision_network, "inception_v3", (139, 107)),
    (torchvision_network, "mobilenet_v2", (96, 64)),
    (torchvision_network, "mobilenet_v3_small", (96, 80)),
    (torchvision_network, "squeezenet1_1", (80, 64)),
    (torchvision_network, "shufflenet_v2_x1_0", (96, 64)),
    (torchvision_network, "convnext_tiny", (96, 64)),
    (torchvision_network, "alexnet", (96, 80)),
    (timm_network, "tf_efficientnet_lite0", (96, 77)),
]


@pytest.mark.parametrize(("make", "name", "size"), NETWORKS, ids=[name for _, name, _ in NETWORKS])
def test_boxes_are_the_gradients_support(
    make: Callable[[str], nn.Module], name: str, size: tuple[int, int]
) -> None:
    network = make(name).eval().double()
    image = nets.images(1, size).double()
    layers = stages(feature_layers(network, image), most=4)
    before = fingerprint(network)
    fields = receptive_fields(network, layers, image)
    assert fingerprint(network) == before
    assert len(layers) >= 3
    outputs, pixels = positive_maps(network, layers, image)
    for layer in layers:
        check_boxes(fields[layer].box, outputs[layer], pixels, most=3)
        assert bool(fields[layer].note) == (name == "mobilenet_v3_small" and layer != layers[0])


@st.composite
def windows(draw: st.DrawFn, dilated: bool = True) -> dict[str, int]:
    kernel = draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 2)) if dilated else 1
    return {
        "kernel_size": kernel,
        "stride": draw(st.integers(1, 3)),
        "padding": draw(st.integers(0, kernel // 2)),
        "dilation": dilation,
    }


def convolution(options: dict[str, int]) -> nn.Module:
    return nn.Conv2d(2, 2, **options)


def pooling(options: dict[str, int]) -> nn.Module:
    return nn.MaxPool2d(**options)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([convolution, pooling]), windows()), min_size=1, max_size=5))
def test_chains_have_the_closed_formulas_size_and_jump(
    steps: list[tuple[Callable[..., nn.Module], dict]],
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), *(make(options) for make, options in steps))
    try:
        network(torch.rand(1, 3, 40, 40))
    except RuntimeError:  # the map is smaller than the kernel
        return
    field = receptive_field(network, str(len(steps)), torch.rand(1, 3, 40, 40))
    strides = [options["stride"] for _, options in steps]
    sizes = [(options["kernel_size"] - 1) * options["dilation"] for _, options in steps]
    size = 1 + sum(size * prod(strides[:i]) for i, size in enumerate(sizes))
    assert field.size == (size, size)
    assert field.jump == (prod(strides), prod(strides))
    start = -sum(options["padding"] * prod(strides[:i]) for i, (_, options) in enumerate(steps))
    assert field.open_rows == tuple(
        (start + row * prod(strides), start + row * prod(strides) + size) for row in range(len(field.rows))
    )


class Crop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 1:, ::2]


class Flip(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(2).roll(1, 3)


def steps() -> st.SearchStrategy[nn.Module]:
    return st.one_of(
        windows().map(convolution),
        windows().map(pooling),
        st.builds(
            lambda options, ceil: nn.MaxPool2d(**options, ceil_mode=ceil),
            windows(dilated=False),
            st.booleans(),
        ),
        st.builds(
            lambda kernel, stride, pad, ceil: nn.AvgPool2d(kernel, stride, min(pad, kernel // 2), ceil),
            st.integers(1, 3),
            st.integers(1, 3),
            st.integers(0, 1),
            st.booleans(),
        ),
        st.builds(
            lambda kernel, stride, pad, dilation: nn.ConvTranspose2d(
                2, 2, kernel, stride, pad, dilation=dilation
            ),
            st.integers(1, 3),
            st.integers(1, 3),
            st.integers(0, 1),
            st.integers(1, 2),
        ),
        st.builds(nn.AdaptiveAvgPool2d, st.tuples(st.integers(1, 7), st.integers(2, 7))),
        st.builds(
            nn.Upsample,
            scale_factor=st.sampled_from([0.5, 1.5, 2]),
            mode=st.sampled_from(["nearest", "bilinear"]),
        ),
        st.builds(
            nn.Upsample, size=st.tuples(st.integers(1, 9), st.integers(1, 9)), mode=st.just("nearest-exact")
        ),
        st.builds(nn.ZeroPad2d, st.tuples(*[st.integers(0, 2)] * 4)),
        st.builds(nn.ReflectionPad2d, st.integers(0, 1)),
        st.builds(nn.ReplicationPad2d, st.tuples(*[st.integers(0, 2)] * 4)),
        st.builds(nn.CircularPad2d, st.tuples(*[st.integers(0, 1)] * 4)),
        st.one_of(st.builds(Crop), st.builds(Flip)),
        st.builds(lambda: nn.Conv2d(2, 2, 3, padding="same")),
    )


@settings(max_examples=60)
@given(st.lists(steps(), min_size=1, max_size=4), st.tuples(st.integers(9, 14), st.integers(9, 14)))
def test_random_chains_have_the_gradients_support(chain: list[nn.Module], size: tuple[int, int]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), *chain).double()
    image = torch.rand(1, 3, *size, dtype=torch.float64)
    try:
        network(image)
    except (RuntimeError, IndexError):  # the map is smaller than the window
        return
    layer = str(len(chain))
    outputs, pixels = positive_maps(network, [layer], image)
    if not outputs[layer].numel():
        return
    field = receptive_field(network, layer, image)
    assert field.note == ""
    check_boxes(field.box, outputs[layer], pixels, most=4)


class Moves(nn.Module):
    """A convolution, then something that moves or mixes elements, then a convolution."""

    def __init__(self, move: Callable[[Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.move = move
        self.moved = nn.Identity()
        self.last = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.moved(self.move(self.first(x))))


def shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def space_to_depth(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def tokens_and_back(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    tokens = F.linear(x.flatten(2).transpose(1, 2), torch.ones(c, c, dtype=x.dtype))
    return tokens.transpose(1, 2).reshape(n, c, h, w)


def channels_last(x: Tensor) -> Tensor:
    return F.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)


def halves(x: Tensor) -> Tensor:
    left, right = x.chunk(2, 1)
    return torch.cat([F.avg_pool2d(left, 3, 1, 1), right], 1)


def stacked(x: Tensor) -> Tensor:
    return torch.stack([x, F.avg_pool2d(x, 5, 1, 2)], 2).mean(2)


def written(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :, 1:] = x[:, :, :-1]
    out[:, 0] += x[:, 1]
    return out


def shifted(x: Tensor) -> Tensor:
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 3))


def with_first_row(x: Tensor) -> Tensor:
    return x + x[:, :, :1]


def transposed(x: Tensor) -> Tensor:
    return torch.cat([x, x.repeat(1, 2, 1, 1)], 1)


def coordinate(x: Tensor) -> Tensor:
    return torch.where(x > 0.5, x, x.unsqueeze(4).squeeze(-1)) + torch.linspace(
        0, 1, x.shape[3], dtype=x.dtype
    )


@pytest.mark.parametrize(
    ("move", "channels"),
    [
        (shuffle, 4),
        (space_to_depth, 16),
        (tokens_and_back, 4),
        (channels_last, 4),
        (halves, 4),
        (stacked, 4),
        (written, 4),
        (shifted, 8),
        (with_first_row, 4),
        (transposed, 12),
        (coordinate, 4),
        (lambda x: F.pixel_shuffle(x, 2), 1),
        (lambda x: F.pixel_unshuffle(x, 2), 16),
        (lambda x: F.channel_shuffle(x, 2), 4),
        (lambda x: x[:, [2, 0, 1, 3]][:, :, [0, 3, 5]], 4),
        (lambda x: torch.einsum("nchw,dc->ndhw", x, torch.ones(5, 4, dtype=x.dtype)), 5),
        (lambda x: x.transpose(2, 3), 4),
        (lambda x: x * torch.ones(1, 4, 1, 1, dtype=x.dtype) - 0.5, 4),
        (lambda x: x.unbind(1)[2].unsqueeze(1).expand(-1, 3, -1, -1), 3),
        (lambda x: x.amax(1, keepdim=True), 1),
        (lambda x: F.local_response_norm(x, 3), 4),
        (lambda x: F.prelu(x, torch.ones(4, dtype=x.dtype)), 4),
    ],
)
def test_moved_elements_are_followed(move: Callable[[Tensor], Tensor], channels: int) -> None:
    network = Moves(move, channels).double()
    image = nets.images(1, (16, 24)).double()
    for layer in ("moved", "last"):
        field = receptive_field(network, layer, image)
        outputs, pixels = positive_maps(network, [layer], image)
        height, width = outputs[layer].shape[2:]
        dims = (3, 2) if len(field.rows) == width != height else (2, 3)  # a transposed map
        check_boxes(field.box, outputs[layer], pixels, most=5, dims=dims)
        assert field.note == ""


class Gated(nn.Module):
    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.gate = gate
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gate(self.first(x)))


class ResponseNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(p=2, dim=(2, 3), keepdim=True)
        return x + x * (norm / norm.mean(1, keepdim=True))


@pytest.mark.parametrize(
    "gate",
    [nets.Gate(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm([4, 12, 12]), ResponseNorm()],
)
def test_global_gates_are_left_out_and_named(gate: nn.Module) -> None:
    network, image = Gated(gate), nets.images(1, 12)
    field = receptive_field(network, "last", image)
    assert field.size == (5, 5)
    assert field.box(5, 6) == (3, 4, 8, 9)
    assert not field.whole_image
    assert field.note.count(".") == 1
    assert "(gate)" in field.note
    assert "whole image" in field.note
    assert receptive_field(network, "first", image).note == ""


def test_attention_sees_the_whole_image() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2).unsqueeze(1)
            seen = F.scaled_dot_product_attention(tokens, tokens, tokens)
            by_hand = (tokens @ tokens.mT).softmax(-1) @ tokens
            return (tokens + seen + by_hand).squeeze(1).mT.reshape(x.shape)

    field = receptive_field(Gated(Attention()), "last", nets.images(1, 12))
    assert field.whole_image
    assert field.note == ""


def test_operations_of_unknown_reach_are_named() -> None:
    class Fourier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft2(x).real

    field = receptive_field(Gated(Fourier()), "last", nets.images(1, 12))
    assert field.whole_image
    assert "_fft" in field.note
    assert "in gate" in field.note


def test_the_classifier_sees_the_whole_image() -> None:
    field = receptive_field(nets.seeded(nets.Plain), "fc", nets.images(1, 16))
    assert field.whole_image
    assert field.box(0, 0) == (0, 0, 16, 16)


def test_a_unit_that_sees_padding_only_has_no_area() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1, padding=2), nn.Conv2d(2, 2, 2))
    field = receptive_field(network, "1", nets.images(1, 6))
    assert field.box(0, 4) == (0, 0, 0, 0)
    assert field.box(1, 4) == (0, 2, 1, 4)
    assert field.open_box(0, 4) == (-2, 2, 0, 4)


def test_the_last_call_of_a_reused_layer_counts() -> None:
    field = receptive_field(nets.seeded(nets.Plain), "conv2", nets.images(1, 16))
    assert field.size == (7, 7)


@pytest.mark.parametrize("make", [nets.Branching, nets.BatchDependent, nets.LateChange, nets.ChangedInput])
def test_networks_need_not_be_traceable(make: type[nn.Module]) -> None:
    network, example = nets.seeded(make).train(), nets.images()
    before, kept = fingerprint(network), example.clone()
    layer = "first" if make is nets.Branching else "conv"
    assert receptive_field(network, layer, example).size == (3, 3)
    assert fingerprint(network) == before
    assert torch.equal(example, kept)


def test_errors_leave_the_network_alone() -> None:
    network = nets.seeded(nets.Several)
    before = fingerprint(network)
    with pytest.raises(UsageError, match="Did you mean 'tail'"):
        receptive_field(network, "tial", nets.images())
    with pytest.raises(UsageError, match=r"input \(N, C, H, W\)"):
        receptive_field(network, "tail", torch.rand(3, 16, 16))
    for layer in ("unused", "pair"):
        with pytest.raises(NotApplicableError, match=f"Layer '{layer}'"):
            receptive_field(network, layer, nets.images())
    assert fingerprint(network) == before
    broken = nets.Raises()
    before = fingerprint(broken)
    with pytest.raises(RuntimeError, match="broken network"):
        receptive_field(broken, "conv", nets.images())
    assert fingerprint(broken) == before
    assert torch.equal(torch.ones(1) + 1, torch.full((1,), 2.0))


def test_outputs_without_rows_and_columns_are_refused() -> None:
    class Tokens(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(2).mT

    with pytest.raises(NotApplicableError, match="rows and columns"):
        receptive_field(nn.Sequential(Tokens()), "0", nets.images())

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    with pytest.raises(NotApplicableError, match="does not depend on the image"):
        receptive_field(nn.Sequential(Constant()), "0", nets.images())


def test_units_outside_the_map_are_refused() -> None:
    field = receptive_field(nn.Sequential(nn.Conv2d(3, 2, 3)), "0", nets.images(1, 8))
    with pytest.raises(IndexError, match="outside the map of 6 × 6"):
        field.box(6, 0)
    with pytest.raises(IndexError):
        field.box(0, -1)
