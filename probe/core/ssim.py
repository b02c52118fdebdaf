"""Structural similarity (SSIM) of two images."""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
"""Keeps the comparison of brightness stable where both means are near 0: (K1 · data range)²."""
C2 = 0.03**2
"""The same for contrast and structure: (K2 · data range)²."""
_CHUNK = 16


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean structural similarity of each pair of images: (N,) float32 in [-1, 1], 1 when they are equal.

    ``a`` and ``b`` are pixels in [0, 1] of one shape (N, C, H, W). The window is a Gaussian of 11 × 11 pixels with
    σ = 1.5, K1 = 0.01, K2 = 0.03, the data range 1; the mean is over all channels and all positions at
    which the window lies within the image. For images with a side below 11 pixels, the window is the largest odd
    one that fits. Computed in float64 (float32 on devices without float64). Raises ValueError for other shapes.

    Wang, Bovik, Sheikh & Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity",
    IEEE Transactions on Image Processing 13(4), 2004.
    """
    if a.ndim != 4 or a.shape != b.shape or min(a.shape[1:]) < 1:
        raise ValueError(
            f"expected two batches of one shape (N, C, H, W), got {tuple(a.shape)}, {tuple(b.shape)}"
        )
    with torch.no_grad():
        starts = range(0, max(1, len(a)), _CHUNK)
        return torch.cat([_means(a[i : i + _CHUNK], b[i : i + _CHUNK]) for i in starts]).float()


def _means(a: Tensor, b: Tensor) -> Tensor:
    """Return the similarity of a few images; the chunk size limits the memory for the five filtered copies."""
    kind = torch.float32 if a.device.type == "mps" else torch.float64
    a, b = a.to(kind), b.to(kind)
    window = _window(min(*a.shape[2:], WINDOW), a)
    mean_a, mean_b = _filter(a, window), _filter(b, window)
    # Rounding can push the variance of a flat patch below 0.
    variance_a = (_filter(a * a, window) - mean_a**2).clamp_min(0)
    variance_b = (_filter(b * b, window) - mean_b**2).clamp_min(0)
    covariance = _filter(a * b, window) - mean_a * mean_b
    brightness = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    return (brightness * structure).mean(dim=(1, 2, 3))


def _window(longest: int, like: Tensor) -> Tensor:
    """Return one axis of the Gaussian window, summing to 1, of the largest odd size up to ``longest``."""
    size = longest - (longest + 1) % 2
    distance = torch.arange(size, dtype=like.dtype, device=like.device) - size // 2
    weights = torch.exp(-(distance**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _filter(images: Tensor, window: Tensor) -> Tensor:
    """Average each channel under the window at every position where it fits: rows, then columns.

    By sums of shifted images: for float64, PyTorch's convolution takes 15 times as long.
    """
    weights = window.tolist()
    for axis in (2, 3):
        length = images.shape[axis] - len(weights) + 1
        total = weights[0] * images.narrow(axis, 0, length)
        for place, weight in enumerate(weights[1:], 1):
            total.add_(images.narrow(axis, place, length), alpha=weight)
        images = total
    return images
