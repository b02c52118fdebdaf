"""The precision of passes: float32 for verdicts, bfloat16 only if the hardware supports it and it is faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from probe.core.seeds import scoped
from probe.core.state import kept_buffers, training_mode

_LEAST_GROUP = 4


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 convolutions and products on CUDA in float32 inside the block, not in TF32 with its 10-bit mantissa."""
    if not torch.cuda.is_available():
        yield
        return
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    try:
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed


def fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware supports bfloat16: AVX512-BF16 or AMX on a CPU, or a GPU that reports support.

    False if PyTorch only emulates it, which is slower than float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def accepts_bf16(network: nn.Module, size: tuple[int, int, int]) -> bool:
    """Return whether a network runs forward and backward under bfloat16 autocast on images of ``size`` (C, H, W).

    Some do not, such as one that writes its maps into a float32 tensor of its own (scatter_add, index_put).
    """
    place = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    images = torch.zeros(2, *size, device=place, requires_grad=True)
    try:
        with scoped(0, "bf16"), training_mode(network, False), kept_buffers(network), torch.enable_grad():
            with torch.autocast(place.type, torch.bfloat16):
                output = network(images)
            torch.autograd.grad(output.float().sum(), images, allow_unused=True)
    except Exception:
        return False
    return True


def bf16_pays(network: nn.Module, device: torch.device, size: tuple[int, int, int]) -> bool:
    """Return whether bfloat16 is faster: the hardware has it, the network accepts it, no convolution has tiny groups.

    A training step of mobilenet_v3_small and of efficientnet_b0, whose groups are single channels, takes twice as long
    in bfloat16; that of resnet18 and of a ResNeXt with groups of 4 to 16 takes a little more than half as long.
    """
    tiny = any(
        isinstance(sub, nn.Conv2d) and sub.groups > 1 and sub.in_channels // sub.groups < _LEAST_GROUP
        for sub in network.modules()
    )
    return fast_bf16(device) and not tiny and accepts_bf16(network, size)
