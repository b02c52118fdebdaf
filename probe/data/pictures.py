"""Reading one picture file: format by content, limited size, upright orientation, or an error with the reason."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from PIL import Image

from probe.data.preprocess import MAX_PIXELS, plain
from probe.data.spec import UnreadableError

FORMATS = ("JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "PSD", "DDS", "QOI")
"""The formats that are read; Pillow never tries any other."""

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\1\0", "ICO"),
    (b"8BPS", "PSD"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
)
_NOT_READ = (
    (b"%PDF", "a PDF document: save its pages as images"),
    (b"<svg", "an SVG drawing, which has no pixels: save it as PNG"),
    (b"<?xml", "an XML or SVG file, which has no pixels: save it as PNG"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM): save its frames as images"),
    (b"\0\0\1\xba", "a video (MPEG): save its frames as images"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"\x93NUMPY", "a NumPy array: give it as --data FILE.npy"),
    (b"\x89HDF\r\n", "an HDF5 file: save its images as files, or as FILE.npz"),
    (b"DICM", "a DICOM file: save it as PNG or TIFF"),
)
"""Files that are no pictures which Pillow reads, by their first bytes, and what to do with them."""
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_HEIF = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
_HEADER_BYTES = 30
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_reading = threading.Lock()
_readers = 0
_added = False


def read_picture(path: str | Path) -> Image.Image:
    """Return a picture file as a Pillow image of mode L, RGB or F (grey in [0, 1]), upright.

    The format is determined by the content, not by the file's name; for animations, the first frame is read. The limit
    is 50 megapixels, checked before decoding. See ``preprocess.plain`` for transparency, CMYK and more than 8 bits.
    Raises UnreadableError with a short reason for anything else, including damaged files.
    """
    with _open(path) as file:
        kind = _kind(file)
        file.seek(0)
        try:
            with _pillow_warnings_ignored():
                return _decode(file, kind)
        except UnreadableError:
            raise
        except Image.DecompressionBombError:
            raise UnreadableError(_too_large(None)) from None
        except Exception:
            # A damaged file can raise almost any exception in a decoder; for the user they are the same.
            raise UnreadableError(f"damaged or truncated {kind} file") from None


def picture_kind(path: str | Path) -> str:
    """Return the format according to a file's first bytes; raises UnreadableError if it is not supported."""
    with _open(path) as file:
        return _kind(file)


@contextmanager
def _open(path: str | Path) -> Iterator[IO[bytes]]:
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror or 'input/output error'}") from None


def _kind(file: IO[bytes]) -> str:
    header = file.read(_HEADER_BYTES)
    if not header:
        raise UnreadableError("empty file")
    for magic, kind in _MAGIC:
        if header.startswith(magic):
            return kind
    if header[4:8] == b"ftyp":
        if header[8:12] in _BRANDS:
            return _BRANDS[header[8:12]]
        raise UnreadableError(
            "a HEIC picture, which Pillow does not read: save it as JPEG or PNG"
            if header[8:12] in _HEIF
            else "a video (MP4 or MOV): save its frames as images"
        )
    for magic, what in _NOT_READ:
        if header.lstrip().startswith(magic):
            raise UnreadableError(what)
    if header[:4] == b"RIFF" and header[8:12] == b"AVI ":
        raise UnreadableError("a video (AVI): save its frames as images")
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        _check_size(_webp_size(header))
        return "WebP"
    if header[:1] == b"P" and header[1:2] in b"123456" and header[2:3].isspace():
        return "PPM"
    raise UnreadableError(f"not an image ({', '.join(FORMATS)})")


def _decode(file: IO[bytes], kind: str) -> Image.Image:
    with Image.open(file, formats=(kind.upper(),)) as image:
        _check_size(image.size)
        image.load()
        method = _UPRIGHT.get(_orientation(image))
        pixels = plain(image)
    return pixels if method is None else pixels.transpose(method)


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise UnreadableError(_too_large(size))


def _too_large(size: tuple[int, int] | None) -> str:
    limit = f"more than {MAX_PIXELS // 10**6} megapixels"
    return limit if size is None else f"{limit} ({size[0]} × {size[1]} pixels)"


def _webp_size(header: bytes) -> tuple[int, int]:
    """Return the canvas (width, height) in a WebP header, which Pillow allocates when opening the file."""
    kind = header[12:16]
    if kind == b"VP8X":
        return int.from_bytes(header[24:27], "little") + 1, int.from_bytes(header[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(header[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = header[26:28], header[28:30]
    return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if there is none or the EXIF data are broken."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        # Broken metadata can raise almost any exception, but the pixels may still be fine.
        return 1
    return value if isinstance(value, int) else 1


@contextmanager
def _pillow_warnings_ignored() -> Iterator[None]:
    """Ignore the warnings from Pillow's own modules (about metadata) inside the block.

    ``warnings.catch_warnings`` replaces the process's whole list of filters; because images are read in a
    second thread, two overlapping replacements could leave the wrong list behind permanently.
    Instead, the first reader adds one narrow filter, and the last reader removes it.
    """
    global _readers, _added
    with _reading:
        if _readers == 0:
            _added = _IGNORED not in warnings.filters
        _readers += 1
        # Every time, because another catch_warnings may have restored an older list in the meantime.
        warnings.filterwarnings("ignore", module=_IGNORED[3].pattern)
    try:
        yield
    finally:
        with _reading:
            _readers -= 1
            if _readers == 0 and _added:
                with suppress(ValueError):
                    cast(list[object], warnings.filters).remove(_IGNORED)
