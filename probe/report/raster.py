"""From tensors to the pictures of a report: filter tiles, overlays, crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from probe.core.pixels import to_uint8

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


def thumbnail(image: Tensor, side: int) -> Pixels:
    """Return an image (C, H, W) in [0, 1] as uint8 pixels whose longer side is at most ``side``."""
    return shrink(to_uint8(image), side)


def shrink(pixels: Pixels, side: int) -> Pixels:
    """Return the pixels with their longer side reduced to ``side``; smaller ones stay as they are."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def signed_tile(kernel: Tensor, scale: float) -> Pixels:
    """Draw a kernel (3, k, k) or (1, k, k): 0 is mid-grey, ``±scale`` white and black per colour channel."""
    return to_uint8(0.5 + 0.5 * kernel / scale if scale > 0 else kernel * 0 + 0.5)


def centred(signal: Tensor) -> Tensor:
    """Scale a signed (C, H, W) signal so that 0 is mid-grey and its 99.5th percentile of |value| is ±1."""
    scale = float(np.quantile(signal.abs().numpy(), 0.995)) or float(signal.abs().max())
    return (0.5 + 0.5 * signal / scale).clamp(0, 1) if scale > 0 else signal * 0 + 0.5


def overlay(image: Tensor, heat: Tensor, side: int) -> Pixels:
    """Lay an activation map over an image: bright where the channel is active, dark elsewhere.

    ``image`` (C, H, W) in [0, 1]; ``heat`` (h, w): values up to 0 stay dark, those from the 99th percentile on
    are fully lit; it is enlarged bicubically to the image's size. The picture keeps the image's own
    colours, so that what excites the channel stays recognisable.
    """
    pixels = thumbnail(image, side)
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    size = rgb.shape[1], rgb.shape[0]
    values = heat.float().clamp_min(0).numpy()
    top = float(np.quantile(values, 0.99)) or float(values.max()) or 1.0
    enlarged = Image.fromarray(values / top).resize(size, Image.Resampling.BICUBIC)
    alpha = np.clip(np.asarray(enlarged), 0, 1)[..., None] ** 0.7  # lifts weak responses into sight
    grey = rgb.mean(axis=2, keepdims=True)
    dark = 0.25 * grey + 0.05 * rgb
    lit: Pixels = np.rint(dark + alpha * (rgb - dark)).astype(np.uint8)
    return lit


def framed(image: Tensor, box: Box, frame: Box) -> Tensor:
    """Cut ``frame`` (top, left, bottom, right) out of an image (C, H, W); mid-grey wherever it is outside ``box``."""
    top, left, bottom, right = frame
    canvas = torch.full((image.shape[0], bottom - top, right - left), 0.5)
    rows = slice(max(box[0], top), min(box[2], bottom))
    cols = slice(max(box[1], left), min(box[3], right))
    if rows.start < rows.stop and cols.start < cols.stop:
        canvas[:, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left] = image[
            :, rows, cols
        ]
    return canvas


def magnified(image: Tensor, side: int) -> Pixels:
    """Return pixels whose longer side is ``side``: shrunk smoothly, or enlarged with crisp pixels."""
    pixels = to_uint8(image)
    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    if factor <= 1:
        return shrink(pixels, side)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST))


def stacked(parts: Sequence[Pixels], gap: int = 3) -> Pixels:
    """Stack pictures of one width from top to bottom, with a mid-grey gap."""
    wide = any(part.ndim == 3 for part in parts)
    full = [np.repeat(p[..., None], 3, axis=2) if wide and p.ndim == 2 else p for p in parts]
    band = np.full((gap, *full[0].shape[1:]), 128, dtype=np.uint8)
    rows = [row for part in full for row in (part, band)][:-1]
    return np.concatenate(rows)


SIDE = 128
PERCENTILE = 99.0
_SIGNED = "RdBu_r"
_POSITIVE = "inferno"


def picture(attribution: Tensor, image: Tensor, *, signed: bool, overlay: bool) -> NDArray[np.uint8]:
    """Draw a (C, H, W) map, summed over channels and scaled by its 99th percentile, as (h, w, 3) pixels.

    Signed maps run from blue (against) over white to red (for); others from black to yellow. With
    ``overlay`` the map lies over the greyed image, the stronger the less transparent.
    """
    values = scaled(shrunk(attribution.sum(0, keepdim=True))[0])
    colours: Any = matplotlib.colormaps[_SIGNED if signed else _POSITIVE]
    painted = np.asarray(colours((values + 1) / 2 if signed else values))[..., :3]
    if overlay:
        opacity = (0.2 + 0.65 * np.abs(values))[..., None]
        grey = shrunk(image).cpu().double().mean(0).numpy()[..., None]
        painted = opacity * painted + (1 - opacity) * grey
    pixels: NDArray[np.uint8] = np.rint(painted.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def scaled(values: Tensor) -> NDArray[np.float64]:
    """Divide by the 99th percentile of |values| and clip to [-1, 1]; a map of zeros stays zero."""
    array: NDArray[np.float64] = np.nan_to_num(values.detach().cpu().double().numpy())
    size = float(np.percentile(np.abs(array), PERCENTILE)) or float(np.abs(array).max())
    return np.clip(array / size, -1.0, 1.0) if size > 0 else array


def shrunk(image: Tensor) -> Tensor:
    """Average (C, H, W) down to a longer side of ``SIDE`` pixels; smaller ones stay as they are."""
    height, width = image.shape[-2:]
    ratio = SIDE / max(height, width)
    if ratio >= 1:
        return image.detach()
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    with torch.no_grad():
        return F.interpolate(image.detach()[None], size=size, mode="area")[0]
