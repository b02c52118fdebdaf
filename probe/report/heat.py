"""Attribution maps as pixels: one scale and one colour convention for all methods."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

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
