"""Reading pickles that hold plain containers and byte arrays, and nothing that runs.

Every callable that a pickle may name is replaced by one of ours, and any other is refused: loading calls
neither foreign code nor NumPy's own reconstruction.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 64 << 20
"""The longest pickle that is read (CIFAR-10's have 30 MB each)."""


class PlainArray:
    """A pickled array of unsigned bytes; ``values`` is None until its content has been read."""

    def __init__(self) -> None:
        self.values: NDArray[np.uint8] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, fortran, data = state
        content = data.encode("latin1") if isinstance(data, str) else bytes(data)
        if not (isinstance(dtype, _Dtype) and dtype.code in ("u1", "|u1")):
            raise _RefusedError("an array of something other than unsigned bytes")
        if any(size < 0 for size in shape) or math.prod(shape) != len(content):
            raise _RefusedError("an array whose length does not fit its shape")
        flat = np.frombuffer(content, dtype=np.uint8)
        self.values = flat.reshape(tuple(shape), order="F" if fortran else "C")


def load_plain(file: IO[bytes]) -> Any:
    """Return what a pickle holds: None, numbers, text, bytes, lists, tuples, sets, dicts and PlainArrays.

    What Python 2 pickled as str is decoded as Latin-1. Raises ValueError for anything else, for damaged
    content and for more than ``MAX_BYTES``.
    """
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES >> 20} MB")
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except _RefusedError as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        # Damaged content can end the unpickler with almost any exception.
        raise ValueError("damaged content") from error


class _RefusedError(pickle.UnpicklingError):
    """The pickle asks for something that is not plain."""


class _Dtype:
    """A pickled dtype; only its code matters, bytes have no order."""

    def __init__(self, code: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and flags."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return our own stand-in for a callable; anything without one is refused."""
        # Functions made anew for each call: a pickle can set attributes on what it is given.
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        ):
            return lambda *_args: PlainArray()
        if (module, name) == ("numpy", "dtype"):
            return lambda code, *_flags: _Dtype(code)
        if (module, name) == ("numpy", "ndarray"):
            return "numpy.ndarray"
        if (module, name) == ("_codecs", "encode"):
            return lambda text, _encoding: str(text).encode("latin1")
        raise _RefusedError(f"it names {module}.{name}, which a data file has no need of")
