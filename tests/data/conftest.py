"""Files written byte by byte, so that what is read does not depend on what Pillow writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

Png = Callable[..., Path]
Tiff = Callable[..., Path]

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.fixture
def png(tmp_path: Path) -> Png:
    """Write a PNG: ``pixels`` (H, W) or (H, W, channels), colour type, depth 8 or 16, chunks before IDAT."""

    def write(
        pixels: np.ndarray,
        colour: int = GREY,
        depth: int = 8,
        before: Sequence[tuple[bytes, bytes]] = (),
        name: str = "picture.png",
        size: tuple[int, int] | None = None,
    ) -> Path:
        height, width = pixels.shape[:2]
        samples = np.asarray(pixels, dtype=">u2" if depth == 16 else "u1").reshape(height, -1)
        rows = b"".join(b"\0" + row.tobytes() for row in samples)
        header = struct.pack(">IIBBBBB", *(size or (width, height)), depth, colour, 0, 0, 0)
        chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        path = tmp_path / name
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
        return path

    return write


@pytest.fixture
def tiff(tmp_path: Path) -> Tiff:
    """Write an uncompressed little-endian grey TIFF with one strip of the bytes given."""

    def write(
        content: bytes, width: int, height: int, bits: int, photometric: int = 1, sample_format: int = 1
    ) -> Path:
        tags = [
            (256, 4, width),
            (257, 4, height),
            (258, 3, bits),
            (259, 3, 1),
            (262, 3, photometric),
            (273, 4, 8),
            (277, 3, 1),
            (278, 4, height),
            (279, 4, len(content)),
            (339, 3, sample_format),
        ]
        body = content + b"\0" * (len(content) % 2)
        directory = struct.pack("<H", len(tags))
        directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        path = tmp_path / "picture.tif"
        path.write_bytes(
            b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + struct.pack("<I", 0)
        )
        return path

    return write


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)
