"""Every pixel mode that Pillow may open, turned into one of three: L, RGB, or F (grey in [0, 1])."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.data.spec import UnreadableError

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_GREY_WITH_ALPHA = ("LA", "La")
_COLOUR_WITH_ALPHA = ("RGBA", "RGBa", "PA")
_COLOUR = ("RGB", "RGBX", "P", "CMYK", "YCbCr", "LAB", "HSV")


def plain(image: Image.Image) -> Image.Image:
    """Return a loaded image in mode L, RGB or F, without metadata.

    Transparency is composited over white. Grey with 16 bits keeps them: 65,535 becomes 1 (a
    12-bit TIFF's 4,095 too). Colour with 16 bits is cut to 8 by Pillow. CMYK is converted by Pillow's
    formula; embedded colour profiles are ignored. Floating-point grey is taken as it is when every value
    lies in [0, 1]. Raises UnreadableError when other numbers leave the white point unknown.
    """
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _fine_grey(image)
    if mode in _GREY_WITH_ALPHA or (mode in ("1", "L") and "transparency" in image.info):
        return _over_white(image).convert("L")
    if mode in _COLOUR_WITH_ALPHA or (mode in ("RGB", "P") and "transparency" in image.info):
        return _over_white(image)
    if mode in ("1", "L"):
        return _bare(image.convert("L"))
    if mode in _COLOUR:
        return _bare(image.convert("RGB"))
    raise UnreadableError(f"pixel mode {mode} is not supported")


def _bare(image: Image.Image) -> Image.Image:
    image.info = {}
    return image


def _over_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return _bare(Image.alpha_composite(white, layer).convert("RGB"))


def _fine_grey(image: Image.Image) -> Image.Image:
    values: NDArray[np.generic] = np.asarray(image)
    if values.dtype.kind == "f":
        grey = values.astype(np.float32)
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise UnreadableError("floating-point pixels outside [0, 1]")
    else:
        white = _white_point(image)
        if int(values.min()) < 0 or int(values.max()) > white:
            raise UnreadableError(f"integer pixels outside [0, {white}]")
        grey = values.astype(np.float32) / np.float32(white)
    if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = np.float32(1) - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[np.asarray(values == transparent)] = 1
    return Image.fromarray(grey)


def _white_point(image: Image.Image) -> int:
    bits = _tag(image, _BITS_PER_SAMPLE)
    return 4095 if bits == (12,) else 65535


def _tag(image: Image.Image, number: int) -> object:
    """Return a TIFF tag's value, None for any other format."""
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(number)
