"""Convolutions without one of their restrictions: separate weights at every position, or a kernel as large as the map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocallyConnected2d(nn.Module):
    """A convolution without weight sharing: every position of the output has its own kernel.

    Built from a convolution with zero padding and the (height, width) of its input. Every position starts with the
    convolution's kernel, so that the layer is equivalent to the convolution until it is trained. ``weight`` is
    (places · groups, out_channels / groups, in_channels / groups · kernel area), ``bias`` (out_channels, places).
    """

    def __init__(self, conv: nn.Conv2d, size: tuple[int, int]) -> None:
        super().__init__()
        self.kernel_size, self.stride = _pair(conv.kernel_size), _pair(conv.stride)
        self.padding, self.dilation = zero_padding(conv), _pair(conv.dilation)
        self.groups, self.out_channels = conv.groups, conv.out_channels
        self.size = output_size(conv, size)
        places = self.size[0] * self.size[1]
        kernel = conv.weight.detach().reshape(conv.groups, conv.out_channels // conv.groups, -1)
        self.weight = nn.Parameter(kernel.repeat(places, 1, 1))
        bias = None if conv.bias is None else conv.bias.detach()[:, None].repeat(1, places)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, H′, W′) for (N, in_channels, H, W)."""
        windows = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)
        n, area, places = windows.shape
        # (places · groups, N, weights of one place and group)
        columns = windows.reshape(n, self.groups, area // self.groups, places).permute(3, 1, 0, 2)
        products = torch.bmm(columns.flatten(0, 1), self.weight.transpose(1, 2))
        maps = (
            products.reshape(places, self.groups, n, -1)
            .permute(2, 1, 3, 0)
            .reshape(n, self.out_channels, places)
        )
        if self.bias is not None:
            maps = maps + self.bias
        return maps.reshape(n, self.out_channels, *self.size)


class MapConv2d(nn.Conv2d):
    """A convolution whose kernel is as large as its input map.

    Built from a convolution with zero padding and no dilation, and the (height, width) of its input. The kernel
    is padded with zeros on all sides until it covers the map, so that the layer is equivalent to the convolution
    until it is trained. With gradients it uses the Fourier transform, which is much faster for such kernels.
    """

    def __init__(self, conv: nn.Conv2d, size: tuple[int, int]) -> None:
        kernel, padding = _pair(conv.kernel_size), zero_padding(conv)
        grown = [max(0, -(-(side - k) // 2)) for side, k in zip(size, kernel, strict=True)]
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            (kernel[0] + 2 * grown[0], kernel[1] + 2 * grown[1]),
            _pair(conv.stride),
            (padding[0] + grown[0], padding[1] + grown[1]),
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        with torch.no_grad():
            self.weight.copy_(F.pad(conv.weight, (grown[1], grown[1], grown[0], grown[0])))
            if self.bias is not None and conv.bias is not None:
                self.bias.copy_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, H′, W′) for (N, in_channels, H, W)."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            result = self._by_fourier(x.float())
        return result.to(x.dtype)

    def _by_fourier(self, x: Tensor) -> Tensor:
        (top, left), (height, width) = zero_padding(self), x.shape[2:]
        whole = [height + self.kernel_size[0] - 1, width + self.kernel_size[1] - 1]
        weight = torch.fft.rfft2(self.weight.float().flip(-2, -1), s=whole)
        values = torch.fft.rfft2(x, s=whole)
        n, groups = len(x), self.groups
        inputs = values.reshape(n, groups, -1, *values.shape[2:]).permute(1, 3, 4, 0, 2)
        kernels = weight.reshape(groups, -1, *weight.shape[1:]).permute(0, 3, 4, 2, 1)
        mixed = (inputs @ kernels).permute(3, 0, 4, 1, 2).flatten(1, 2)
        full = torch.fft.irfft2(mixed, s=whole)
        # The full convolution begins where only the kernel's last row and column touch the image.
        first = [self.kernel_size[0] - 1 - top, self.kernel_size[1] - 1 - left]
        counts = output_size(self, (height, width))
        for dim in (0, 1):
            places = torch.arange(counts[dim], device=x.device) * _pair(self.stride)[dim] + first[dim]
            full = full.index_select(dim + 2, places)
        result: Tensor = full if self.bias is None else full + self.bias.float()[:, None, None]
        return result


def output_size(conv: nn.Conv2d, size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a convolution's output for that of its input: ⌊(M + 2p − d(k − 1) − 1) / s⌋ + 1."""
    height, width = (
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip(
            size,
            _pair(conv.kernel_size),
            _pair(conv.stride),
            zero_padding(conv),
            _pair(conv.dilation),
            strict=True,
        )
    )
    return height, width


def zero_padding(conv: nn.Conv2d) -> tuple[int, int]:
    """Return the zero padding (at top and bottom each, at left and right each).

    Raises ValueError for other paddings: with other values, or ``same`` with unequal sides.
    """
    if conv.padding_mode != "zeros":
        raise ValueError(f"padding by {conv.padding_mode}")
    if not isinstance(conv.padding, str):
        return _pair(conv.padding)
    reach = [d * (k - 1) for k, d in zip(_pair(conv.kernel_size), _pair(conv.dilation), strict=True)]
    if conv.padding == "valid":
        return 0, 0
    if any(extent % 2 for extent in reach):
        raise ValueError("padding with unequal sides")
    return reach[0] // 2, reach[1] // 2


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
