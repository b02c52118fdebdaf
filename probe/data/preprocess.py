"""Conversion of a Pillow image to a model's input array, equal to torchvision's Resize and CenterCrop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.core.errors import CannotRunError
from probe.data.spec import InputSpec, UnreadableError

MAX_PIXELS = 50_000_000
"""Images with more pixels than this, before or after resizing, are not read."""

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def fit(image: Image.Image | NDArray[np.float32], spec: InputSpec, framed: bool) -> NDArray[np.float32]:
    """Return ``image`` (mode L, RGB or F, or an array) as (C, H, W) float32 in [0, 1] of the spec's size.

    A framed image is resized directly to the size. Any other image is resized, with antialiasing, to the spec's box,
    followed by a centre crop: for a square input whose aspect is kept this is bit-identical to torchvision's
    ``Resize(box)`` and ``CenterCrop(size)``. One-channel models get the
    luma of ITU-R 601 (Pillow's L); three-channel models get grey repeated. An array (C, H, W) of the spec's
    size is returned unchanged. Raises UnreadableError if the image is so elongated that resizing would exceed
    ``MAX_PIXELS``, and for an array with a number of channels that does not fit the model.
    """
    if isinstance(image, np.ndarray):
        return _fit_array(image, spec, framed)
    channels, height, width = spec.size
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")
    target = target_size(image.size, spec, framed)
    if target[0] * target[1] > MAX_PIXELS:
        raise UnreadableError(f"too elongated to be resized ({image.width} × {image.height} pixels)")
    if image.size != target:
        image = image.resize(target, _RESAMPLING[spec.interpolation])
    return _planes(_centre(image, width, height, spec.fill), channels)


def size_of(image: Image.Image | NDArray[np.float32]) -> tuple[int, int]:
    """Return the (height, width) of an image."""
    if isinstance(image, np.ndarray):
        return int(image.shape[-2]), int(image.shape[-1])
    return image.height, image.width


_LUMA = np.array([299, 587, 114], dtype=np.float32) / np.float32(1000)


def _fit_array(pixels: NDArray[np.float32], spec: InputSpec, framed: bool) -> NDArray[np.float32]:
    channels = spec.size[0]
    if len(pixels) != channels and (len(pixels), channels) == (3, 1):
        pixels = np.tensordot(_LUMA, pixels, 1)[None]
    elif len(pixels) != channels and len(pixels) == 1:
        pixels = np.repeat(pixels, channels, axis=0)
    if len(pixels) != channels:
        raise UnreadableError(f"{len(pixels)} channels, but the model has {channels} input channels")
    if pixels.shape == spec.size:
        return pixels
    one_channel = replace(spec, size=(1, *spec.size[1:]))
    return np.concatenate([fit(Image.fromarray(plane), one_channel, framed) for plane in pixels])


def check_channels(spec: InputSpec) -> None:
    """Raise CannotRunError unless the model has 1 or 3 input channels."""
    if spec.size[0] not in (1, 3):
        raise CannotRunError(
            f"The model has {spec.size[0]} input channels, but images are grey (1) or colour (3). "
            f"Give arrays of {spec.size[0]} channels with --data FILE.npz (N, C, H, W), or choose a model with 1 or 3 input "
            "channels."
        )


def target_size(size: tuple[int, int], spec: InputSpec, framed: bool) -> tuple[int, int]:
    """Return the (width, height) that an image of ``size`` (width, height) is resized to, before the centre crop."""
    own = (spec.size[2], spec.size[1])
    if spec.as_is and size == own:
        return size
    if framed and not spec.asked:
        return own
    if spec.aspect == "squash":
        return spec.box[1], spec.box[0]
    if spec.aspect == "pad":
        ratio = max(size[1] / spec.box[0], size[0] / spec.box[1])
        return max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))
    return covering_size(size, spec)


def covering_size(size: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
    """Return the smallest (width, height) of the same aspect as ``size`` that covers the spec's box."""
    across, down = size
    height, width = spec.box
    if width * down >= height * across:
        return width, max(height, int(width * down / across))
    return max(width, int(height * across / down)), height


def _centre(image: Image.Image, width: int, height: int, fill: tuple[int, ...]) -> Image.Image:
    if image.size == (width, height):
        return image
    if image.width < width or image.height < height:
        image = _padded(image, max(width, image.width), max(height, image.height), fill)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _padded(image: Image.Image, width: int, height: int, fill: tuple[int, ...]) -> Image.Image:
    grey = round(sum(fill) / len(fill)) if fill else 0
    around: float | tuple[int, ...] = grey / 255 if image.mode == "F" else grey
    if image.mode == "RGB" and len(fill) == 3:
        around = fill
    canvas = Image.new(image.mode, (width, height), around)
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def _planes(image: Image.Image, channels: int) -> NDArray[np.float32]:
    # numpy, because in the reading thread torch would start a second pool of threads.
    pixels = np.asarray(image, dtype=np.float32)
    pixels = pixels.clip(0, 1) if image.mode == "F" else pixels / np.float32(255)
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    return np.repeat(planes, channels, axis=0) if len(planes) < channels else np.ascontiguousarray(planes)


_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_GREY_WITH_ALPHA = ("LA", "La")
_COLOUR_WITH_ALPHA = ("RGBA", "RGBa", "PA")
_COLOUR = ("RGB", "RGBX", "P", "CMYK", "YCbCr", "LAB", "HSV")


def plain(image: Image.Image) -> Image.Image:
    """Return a loaded image in mode L, RGB or F, without metadata.

    Transparency is composited over white. Grey with 16 bits keeps its precision: 65,535 becomes 1 (as does
    4,095 in a 12-bit TIFF). Colour with 16 bits is reduced to 8 bits by Pillow. CMYK is converted by Pillow's
    formula; embedded colour profiles are ignored. Floating-point grey is not changed if all values
    are in [0, 1]; otherwise the white point is unknown, and UnreadableError is raised.
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
    """Return the value of a TIFF tag, None for other formats."""
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(number)
