"""Pictures as data URIs: lossless where pixels matter, small where they are photographs."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from probe.core.blocks import Picture

_PALETTE = 256


@dataclass(frozen=True)
class Fidelity:
    """How much of a picture is kept: longest side in pixels and quality of lossy coding (0 to 100).

    ``crisp_side`` limits pixelated pictures; None sends them as they are. ``count`` limits how
    many pictures are shown at all.
    """

    side: int
    quality: int
    crisp_side: int | None = None
    count: int | None = None
    warning: str = ""


STEPS = (
    Fidelity(640, 85),
    Fidelity(448, 75),
    Fidelity(256, 65, warning="Pictures are stored smaller than they were (at most 256 pixels a side)"),
    Fidelity(
        160, 50, 256, warning="Pictures are stored much smaller than they were (at most 160 pixels a side)"
    ),
    Fidelity(96, 40, 96, warning="Pictures are stored as thumbnails (at most 96 pixels a side)"),
    Fidelity(64, 30, 32, 4000, "Pictures are stored as thumbnails, and only the first 4,000 are shown"),
)
"""From best to smallest. The first two look alike on the page; from the third on the report says so."""

COMFORTABLE = 4_500_000
"""Bytes of pictures up to which the best fidelity is kept."""


@dataclass(frozen=True)
class Encoded:
    """A picture as the page embeds it; ``width`` and ``height`` are those of the original."""

    uri: str
    width: int
    height: int


def encode(picture: Picture, fidelity: Fidelity) -> Encoded:
    """Return the picture as a data URI.

    Pixelated pictures and pictures of at most 256 colours that stay small are PNG, without loss;
    photographs become WebP.
    """
    height, width = picture.pixels.shape[:2]
    image = Image.fromarray(np.ascontiguousarray(picture.pixels))
    if picture.pixelated:
        image = _shrunk(image, fidelity.crisp_side, Image.Resampling.NEAREST)
        return _uri("png", _png(image), width, height)
    image = _shrunk(image, fidelity.side, Image.Resampling.LANCZOS)
    few = _palette(np.asarray(image)) is not None
    if not few and width * height >= 1024:
        return _uri(*_lossy(image, fidelity.quality), width, height)
    exact = _png(image)
    if len(exact) < 2000:
        return _uri("png", exact, width, height)
    kind, small = _lossy(image, fidelity.quality)
    if len(small) < 0.7 * len(exact):
        return _uri(kind, small, width, height)
    return _uri("png", exact, width, height)


def _shrunk(image: Image.Image, side: int | None, how: Image.Resampling) -> Image.Image:
    if side is None or max(image.size) <= side:
        return image
    scale = side / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), how)


def _png(image: Image.Image) -> bytes:
    palette = _palette(np.asarray(image))
    if palette is not None:
        colours, indices = palette
        indexed = Image.fromarray(indices)
        indexed.putpalette(colours.tobytes())
        image = indexed
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _palette(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Return (colours, indices) when the picture has at most 256 colours; grey needs no palette."""
    if pixels.ndim == 2:
        return None
    packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    codes, indices = np.unique(packed, return_inverse=True)
    if codes.size > _PALETTE:
        return None
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.uint8)
    return colours, indices.reshape(packed.shape).astype(np.uint8)


def _lossy(image: Image.Image, quality: int) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    if features.check("webp"):
        image.save(buffer, "WEBP", quality=quality, method=5)
        return "webp", buffer.getvalue()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return "jpeg", buffer.getvalue()


def _uri(kind: str, data: bytes, width: int, height: int) -> Encoded:
    return Encoded(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", width, height)


def encode_all(pictures: Iterable[Picture], fidelity: Fidelity) -> list[Encoded | None]:
    """Encode pictures in order, equal ones once; None stands for those beyond ``fidelity.count``."""
    every = list(pictures)
    shown = every[: fidelity.count]
    keys = [(picture.pixels.tobytes(), picture.pixels.shape, picture.pixelated) for picture in shown]
    different = dict(zip(keys, shown, strict=True))
    # The encoders work outside of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        encoded = dict(
            zip(different, pool.map(partial(encode, fidelity=fidelity), different.values()), strict=True)
        )
    return [*(encoded[key] for key in keys), *([None] * (len(every) - len(shown)))]
