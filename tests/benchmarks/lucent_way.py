"""Feature visualisation as the library lucent does it by default, written from its published behaviour.

One channel at a time; the whole network runs with a hook on every module; parameters keep their
gradients; the 128-pixel picture is padded by 12 pixels of grey, jittered by up to 8 pixels, scaled by 0.9 to 1.1,
rotated by up to 10 degrees, jittered by up to 4 pixels, normalised and upsampled to 224 pixels; Adam
with rate 0.05 lowers minus the channel's mean; coefficients are Fourier, colours decorrelated.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from device import DEVICE
from torch import Tensor, nn

COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], dtype=np.float32)
SCALES = [1 + step / 50 for step in range(-5, 6)]
ANGLES = [*range(-10, 11), 0, 0, 0, 0, 0]


def visualise(
    network: nn.Module,
    normalise: nn.Module,
    layer: str,
    channel: int,
    size: int,
    steps: int,
    seed: int,
) -> Tensor:
    """Return one picture (3, size, size) in [0, 1] for one channel."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(0, 0.01, (1, 3, size, size // 2 + 1, 2)).astype(np.float32)
    coefficients = torch.from_numpy(drawn).to(DEVICE)
    coefficients.requires_grad_(True)
    optimiser = torch.optim.Adam([coefficients], lr=0.05)
    outputs: dict[str, Tensor] = {}
    handles = [_record(name, module, outputs) for name, module in network.named_modules() if name]
    try:
        for _ in range(steps):
            optimiser.zero_grad()
            moved = normalise(_transformed(_picture(coefficients, size), rng))
            network(F.interpolate(moved, (224, 224), mode="bilinear", align_corners=True))
            loss = -outputs[layer][:, channel].mean()
            loss.backward()
            optimiser.step()
    finally:
        for handle in handles:
            handle.remove()
    return _picture(coefficients, size).detach()[0]


def _record(name: str, module: nn.Module, outputs: dict[str, Tensor]) -> torch.utils.hooks.RemovableHandle:
    def hook(_module: nn.Module, _args: object, output: Tensor) -> None:
        outputs[name] = output

    return module.register_forward_hook(hook)


def _picture(coefficients: Tensor, size: int) -> Tensor:
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    scale = torch.from_numpy(1 / np.maximum(frequency, 1 / size)).float().to(coefficients.device)
    spectrum = torch.view_as_complex(scale[None, None, :, :, None] * coefficients)
    planes = torch.fft.irfftn(spectrum, s=(size, size), norm="ortho") / 4
    axes = torch.from_numpy(COLOURS / np.linalg.norm(COLOURS, axis=0).max()).to(planes.device)
    return torch.sigmoid(torch.matmul(planes.permute(0, 2, 3, 1), axes.T).permute(0, 3, 1, 2))


def _transformed(picture: Tensor, rng: np.random.Generator) -> Tensor:
    picture = F.pad(picture, [12] * 4, value=0.5)
    picture = _shifted(picture, rng, 8)
    scale = float(rng.choice(SCALES))
    height, width = picture.shape[2:]
    new = [math.ceil(scale * height), math.ceil(scale * width)]
    border = [max(0, math.ceil((height - new[0]) / 2)), max(0, math.ceil((width - new[1]) / 2))] * 2
    picture = F.pad(F.interpolate(picture, new, mode="bilinear", align_corners=True), border)
    angle = math.radians(float(rng.choice(ANGLES)))
    turn = torch.tensor([[[math.cos(angle), math.sin(angle), 0.0], [-math.sin(angle), math.cos(angle), 0.0]]])
    turn = turn.to(picture.device)
    picture = F.grid_sample(
        picture, F.affine_grid(turn, list(picture.shape), align_corners=True), align_corners=True
    )
    return _shifted(picture, rng, 4)


def _shifted(picture: Tensor, rng: np.random.Generator, by: int) -> Tensor:
    height, width = picture.shape[2:]
    right, down = int(rng.integers(by)), int(rng.integers(by))
    move = torch.tensor([[[1.0, 0.0, -2 * right / (width - 1)], [0.0, 1.0, -2 * down / (height - 1)]]])
    move = move.to(picture.device)
    grid = F.affine_grid(move, list(picture.shape), align_corners=True)
    return F.grid_sample(picture, grid, align_corners=True)
