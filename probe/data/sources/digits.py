"""scikit-learn's 1,797 handwritten digits, 8×8 pixels with 17 levels of grey (0 to 16)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.data.images import ImageSet, array_items
from probe.data.sampling import choose
from probe.data.source import SOURCES, Request

_TEST_SHARE = 0.2
_SPLIT_SEED = 0
_LEVELS = np.float32(16)


@SOURCES.register("digits")
def held_out(request: Request) -> ImageSet:
    """Handwritten digits 0 to 9, 8×8, the held-out fifth that networks are not trained on."""
    return _part("digits", 1)


@SOURCES.register("digits-train")
def training(request: Request) -> ImageSet:
    """Handwritten digits 0 to 9, 8×8, the four fifths that networks are trained on."""
    return _part("digits-train", 0)


def digits_split() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (training, test) indices into scikit-learn's digits: disjoint, ascending, always the same.

    The test part is 20%, stratified by class.
    """
    _, labels = _digits()
    test = choose(len(labels), round(_TEST_SHARE * len(labels)), _SPLIT_SEED, labels)
    return np.setdiff1d(np.arange(len(labels), dtype=np.int64), test), test


def _part(name: str, part: int) -> ImageSet:
    pixels, labels = _digits()
    chosen = digits_split()[part]
    return ImageSet(
        name=name,
        items=array_items(pixels[chosen], labels[chosen], lambda i: f"digit {chosen[i]}"),
        class_names=tuple("0123456789"),
        domain="digits",
        source=f"scikit-learn's digits, {'held-out' if part else 'training'} part of a fixed split",
        licence="CC BY 4.0 (UCI: Optical Recognition of Handwritten Digits)",
        framed=True,
    )


def _digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.asarray(data.images, dtype=np.float32) / _LEVELS, np.asarray(data.target, dtype=np.int64)
