"""The IDX format of the MNIST family: a magic number, big-endian sizes, then bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int, max_bytes: int) -> NDArray[np.uint8]:
    """Return the bytes of an IDX file (gzip-compressed when its name ends in .gz) with their shape.

    Raises ValueError, saying what is wrong, unless the file is made of unsigned bytes in ``dimensions``
    dimensions, at most ``max_bytes`` of them, and is exactly as long as its header says. Raises OSError
    when it cannot be read.
    """
    header = 4 * (1 + dimensions)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.read(header)
            shape = _shape(head, dimensions)
            count = math.prod(shape)
            if count > max_bytes:
                raise ValueError(f"claims {count:,} bytes, more than {max_bytes:,}")
            body = file.read(count + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError("damaged compression") from error
    if len(body) != count:
        raise ValueError(f"its length is not the {header + count:,} bytes that its header says")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _shape(head: bytes, dimensions: int) -> tuple[int, ...]:
    if len(head) != 4 * (1 + dimensions) or head[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise ValueError(f"not an IDX file of bytes in {dimensions} dimensions")
    return tuple(int(size) for size in np.frombuffer(head[4:], dtype=">u4"))
