"""Detection of file types from the bytes alone: nothing is unpickled and nothing is run."""

from __future__ import annotations

import enum
import re
import struct
import zipfile
from pathlib import Path
from pickle import UnpicklingError

from torch.serialization import get_unsafe_globals_in_checkpoint

_HEAD = 512
_ONNX = re.compile(rb"\x08[\x01-\x1f]\x12[\x01-\x7f][\x20-\x7e]+")
"""The beginning of an ONNX file: the version of the format, and the name of the program that wrote it."""

_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class Content(enum.Enum):
    """The file types that are distinguished."""

    TORCH = "torch.save"
    SAFETENSORS = "safetensors"
    PICKLE = "plain pickle"
    TORCHSCRIPT = "TorchScript"
    NUMPY = "NumPy"
    HDF5 = "HDF5"
    EXPORTED = "torch.export"
    KERAS = "Keras"
    ONNX = "ONNX"
    ZIP = "zip"
    TAR = "tar"
    BROKEN_ZIP = "damaged zip"
    EMPTY = "empty"
    LFS = "git-LFS pointer"
    HTML = "HTML"
    JSON = "JSON"
    UNKNOWN = "unknown"


def file_type(path: Path) -> Content:
    """Return the type of the file; raises OSError when it cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.strip(b"\x00"):
        return Content.EMPTY
    if head.startswith(b"PK\x03\x04"):
        return _sniff_zip(path)
    if head.startswith(_LEGACY_MAGIC):
        return Content.TORCH
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000:
        return Content.SAFETENSORS
    if head[257:262] == b"ustar":
        return Content.TAR
    if head.startswith(b"\x89HDF\r\n"):
        return Content.HDF5
    if head.startswith(b"\x93NUMPY"):
        return Content.NUMPY
    if head.startswith(b"\x80") and size > 2 and head[1] <= 5:
        return Content.PICKLE
    if _ONNX.match(head):
        return Content.ONNX
    return _sniff_text(head)


def _sniff_text(head: bytes) -> Content:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return Content.LFS
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<!--")):
        return Content.HTML
    if text.startswith((b'{"', b"{\n", b'[{"')):
        return Content.JSON
    return Content.UNKNOWN


def _sniff_zip(path: Path) -> Content:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return Content.BROKEN_ZIP
    parts = [name.split("/", 1)[-1] for name in names]
    if "constants.pkl" in parts:
        return Content.TORCHSCRIPT
    if "archive_format" in parts or "serialized_exported_program.json" in parts:
        return Content.EXPORTED
    if "data.pkl" in parts:
        return Content.TORCH
    if "model.weights.h5" in parts:
        return Content.KERAS
    if names and all(name.endswith(".npy") for name in names):
        return Content.NUMPY
    return Content.ZIP


def forbidden_globals(path: Path) -> tuple[str, ...]:
    """Return the functions and classes that a torch.save file loads and that tensors do not need, sorted.

    The pickle is disassembled, not run. The result is empty for damaged files and for files from before PyTorch 1.6.
    """
    try:
        return tuple(sorted(get_unsafe_globals_in_checkpoint(path)))
    except (ValueError, RuntimeError, EOFError, IndexError, struct.error, UnpicklingError):
        return ()
