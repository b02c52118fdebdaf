"""A file with arrays: .npz, .npy, or the tensors of a .pt file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core.errors import CannotRunError, UsageError
from probe.data.arrays import as_array, make_arrays
from probe.data.images import ImageSet, printable
from probe.data.source import SOURCES, Request

_IMAGES = ("images", "x", "data", "x_test", "test_images", "arr_0")
_LABELS = ("labels", "y", "targets", "target", "y_test", "test_labels", "arr_1")


@SOURCES.register("arrays")
def arrays(request: Request) -> ImageSet:
    """A file with images as an array: .npz, .npy or .pt, with labels beside them where there are any."""
    if request.path is None:
        raise UsageError("Give the path of the file.")
    path = request.path
    images, labels, keys = _pair(_read(path), path)
    image_set = make_arrays(images, labels, printable(path.name))
    return replace(image_set, source=f"{len(images):,} images of the array{keys} in {printable(path.name)}")


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            if path.suffix.lower() in (".pt", ".pth"):
                return torch.load(file, map_location="cpu", weights_only=True)
            if path.suffix.lower() == ".npy" and file.read(6) == b"\x93NUMPY":
                return np.load(path, allow_pickle=False, mmap_mode="r")
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except Exception as error:
        # A damaged file can raise almost any exception in a reader; for the user they are the same.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CannotRunError(
            f"'{printable(path.name)}' cannot be read as arrays ({lines[0][:120].rstrip('.')}). Save images (N, C, H, W) "
            "in [0, 1] and labels (N,) with numpy.savez(FILE, images=…, labels=…)."
        ) from error


def _pair(content: Any, path: Path) -> tuple[NDArray[Any], NDArray[Any] | None, str]:
    """Return images, labels and the words for the keys that they have."""
    if isinstance(content, Tensor | np.ndarray):
        return as_array(content), None, ""
    if isinstance(content, tuple | list) and len(content) in (1, 2):
        content = dict(zip(("images", "labels"), content, strict=False))
    if not isinstance(content, Mapping):
        raise UsageError(
            f"'{printable(path.name)}' contains a {type(content).__name__}, not arrays of images and labels."
        )
    found = {
        str(key): as_array(value) for key, value in content.items() if isinstance(value, Tensor | np.ndarray)
    }
    images = _choose(found, _IMAGES, lambda _, value: value.ndim in (3, 4), path, "images (N, C, H, W)")
    if images is None:
        listed = ", ".join(f"{key} {value.shape}" for key, value in list(found.items())[:6]) or "no arrays"
        raise UsageError(f"'{printable(path.name)}' has no array of images (N, C, H, W): it has {listed}.")
    n = len(found[images])

    def fits(key: str, value: NDArray[Any]) -> bool:
        if key == images or value.ndim == 0 or len(value) != n:
            return False
        # Names only where the key says so: an array of file names is none of labels.
        return key.lower() in _LABELS or (value.ndim == 1 and value.dtype.kind in "biuf")

    labels = _choose(found, _LABELS, fits, path, "labels (N,)")
    if (
        labels is None
    ):  # what is called labels is refused with the reason where it does not fit, not left out in silence
        labels = next(
            (key for name in _LABELS for key in found if key.lower() == name and key != images), None
        )
    keys = f" '{images}'" + (f" with labels '{labels}'" if labels else "")
    return found[images], None if labels is None else found[labels], keys


def _choose(
    found: Mapping[str, NDArray[Any]], usual: tuple[str, ...], fits: Any, path: Path, what: str
) -> str | None:
    """Return the key of the only array that fits, or of the one with a usual name; None if none fits."""
    fitting = [key for key, value in found.items() if fits(key, value)]
    named = [key for name in usual for key in fitting if key.lower() == name]
    if named:
        return named[0]
    if len(fitting) > 1:
        raise UsageError(
            f"'{printable(path.name)}' has several arrays that could be {what}: {', '.join(fitting[:4])}. Name one of them "
            f"'{usual[0]}'."
        )
    return fitting[0] if fitting else None
