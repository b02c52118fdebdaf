"""Gradients with respect to the input by forward convolutions, against PyTorch's own in double precision."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.graph.edit.input_gradient import with_quick_gradients


def gradient(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    output = module(leaf)
    weights = torch.linspace(-1, 1, output[0].numel(), dtype=output.dtype).view(output.shape[1:])
    return output.detach(), torch.autograd.grad((output * weights).sum(), leaf)[0]


@settings(max_examples=150, deadline=None)
@given(
    first=st.booleans(),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(13, 19), st.integers(13, 19)),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    channels_last=st.booleans(),
)
def test_the_gradient_is_that_of_pytorch(
    first: bool,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    channels_last: bool,
) -> None:
    draws = torch.Generator().manual_seed(0)
    channels = 3 if first else 6
    options = {"groups": 1 if first else 6, "dilation": dilation}
    plain = nn.Conv2d(channels, 8 if first else 6, kernel, stride, padding, **options)  # type: ignore[arg-type]
    for parameter in plain.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draws).bfloat16().float()
    quick = with_quick_gradients(copy.deepcopy(plain)).to(dtype).requires_grad_(False)
    x = torch.randn(2, channels, *size, generator=draws).bfloat16()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    output, found = gradient(quick, x.to(dtype).contiguous(memory_format=layout))
    expected_output, expected = gradient(plain.double(), x.double())
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    assert found.dtype == dtype
    for value, reference in ((output, expected_output), (found, expected)):
        assert (value.double() - reference).abs().max() <= tolerance * reference.abs().max().clamp_min(1)


class Same(nn.Conv2d):
    """Pads by itself, as timm's convolutions with TensorFlow's padding do."""

    def forward(self, input: Tensor) -> Tensor:
        padded = nn.functional.pad(input, (0, 1, 0, 1))
        return nn.functional.conv2d(
            padded, self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups
        )


@pytest.mark.parametrize(
    "plain",
    [
        Same(6, 6, 3, 2, groups=6),
        nn.Conv2d(6, 6, 3, padding="same", groups=6),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular", groups=6),
        nn.Conv2d(6, 6, 1, padding=1, groups=6),
        nn.Conv2d(3, 8, 7, 1, 3),
    ],
)
def test_convolutions_that_pad_in_their_own_way(plain: nn.Conv2d) -> None:
    plain = copy.deepcopy(plain).double().requires_grad_(False)
    quick = with_quick_gradients(copy.deepcopy(plain))
    assert isinstance(quick, type(plain))
    assert type(quick) is not type(plain)
    x = torch.rand(2, plain.in_channels, 9, 12, generator=torch.Generator().manual_seed(1)).double()
    for found, expected in zip(gradient(quick, x), gradient(plain, x), strict=True):
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_what_is_as_fast_stays() -> None:
    same = [nn.Conv2d(16, 16, 3), nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, groups=2)]
    assert [type(module) for module in with_quick_gradients(nn.Sequential(*same))] == [nn.Conv2d] * 3


@pytest.mark.parametrize("convolution", [nn.Conv2d(6, 6, 3, 2, 1, groups=6), nn.Conv2d(3, 8, 7, 2, 3)])
def test_autocast_and_weights_with_gradients(convolution: nn.Conv2d) -> None:
    x = torch.rand(2, convolution.in_channels, 16, 16, generator=torch.Generator().manual_seed(1))
    plain = copy.deepcopy(convolution)
    quick = with_quick_gradients(convolution)
    quick(x.requires_grad_()).sum().backward()
    plain(x).sum().backward()
    assert plain.weight.grad is not None
    assert quick.weight.grad is not None  # its own convolution, as the weights need gradients
    assert torch.equal(plain.weight.grad, quick.weight.grad)
    for module in (plain, quick):
        module.requires_grad_(False)
    results = []
    for module in (plain, quick):
        with torch.autocast("cpu", torch.bfloat16):
            output = module(x)
        assert output.dtype == torch.bfloat16
        results.append(torch.autograd.grad(output.float().square().sum(), x)[0])
    assert results[1].dtype == torch.float32
    assert torch.allclose(*results, atol=2e-2 * float(results[0].abs().max()))
