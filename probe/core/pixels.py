"""Pixels as reports store them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass


def to_uint8(image: Any) -> NDArray[np.uint8]:
    """Turn a (C, H, W) float image in [0, 1] into (H, W, 3) or (H, W) uint8 pixels, rounding to nearest.

    Values outside [0, 1] are clipped; not-a-number becomes 0. Of more than three channels the first three are shown,
    of two the first.
    """
    array = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0)
    if array.ndim != 3 or array.shape[0] < 1:
        raise ValueError(f"expected (C, H, W), got {array.shape}")
    array = array[:3] if array.shape[0] >= 3 else array[:1]
    pixels = np.rint(array.clip(0, 1) * 255).astype(np.uint8)
    return pixels[0] if pixels.shape[0] == 1 else np.moveaxis(pixels, 0, 2)
