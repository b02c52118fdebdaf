"""What a file is, told from its bytes alone: nothing is unpickled and nothing is run."""

from __future__ import annotations

import enum
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_HEAD = 512
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PICKLES_IN_LEGACY = 5


class Content(enum.Enum):
    """The kinds of files that are told apart."""

    TORCH = "torch.save"
    SAFETENSORS = "safetensors"
    PICKLE = "plain pickle"
    TORCHSCRIPT = "TorchScript"
    NUMPY = "NumPy"
    HDF5 = "HDF5"
    ZIP = "zip"
    BROKEN_ZIP = "damaged zip"
    EMPTY = "empty"
    LFS = "git-LFS pointer"
    HTML = "HTML"
    JSON = "JSON"
    UNKNOWN = "unknown"


def file_type(path: Path) -> Content:
    """Return what the file is; raises OSError when it cannot be read."""
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
    if head.startswith(b"\x89HDF\r\n"):
        return Content.HDF5
    if head.startswith(b"\x93NUMPY"):
        return Content.NUMPY
    if head.startswith(b"\x80") and size > 2 and head[1] <= 5:
        return Content.PICKLE
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
    if "data.pkl" in parts:
        return Content.TORCH
    if names and all(name.endswith(".npy") for name in names):
        return Content.NUMPY
    return Content.ZIP


@dataclass(frozen=True)
class Globals:
    """The functions and classes that a pickle asks for beyond those that tensors need."""

    hostile: tuple[str, ...]
    other: tuple[str, ...]


_NEEDED = (
    "torch._utils.",
    "torch.storage.",
    "collections.OrderedDict",
    "_codecs.encode",
    "torch.Size",
    "torch.device",
)
_HOSTILE_MODULES = {
    *("os", "posix", "nt", "sys", "subprocess", "pty", "shutil", "socket", "runpy", "importlib", "ctypes"),
    *("builtins", "__builtin__", "code", "codeop", "webbrowser", "urllib", "http", "requests", "asyncio"),
    *("multiprocessing", "threading", "pickle", "marshal", "operator", "functools", "timeit", "pdb", "bdb"),
    *("commands", "platform", "tempfile", "pathlib", "io", "site", "ensurepip", "pip", "venv"),
}
_HARMLESS_BUILTINS = {
    *("set", "frozenset", "dict", "list", "tuple", "int", "float", "bool", "str", "bytes", "bytearray"),
    *("complex", "slice", "range", "object"),
}


def forbidden_globals(path: Path) -> Globals:
    """Return what a pickle (bare, or in a torch.save file) asks for that weights do not need.

    The pickle is disassembled, not run. What cannot be disassembled gives nothing.
    """
    found: dict[str, None] = {}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    with archive.open(name) as file:
                        found.update(dict.fromkeys(_globals(file, 1)))
    else:
        with path.open("rb") as file:
            found.update(dict.fromkeys(_globals(file, _PICKLES_IN_LEGACY)))
    names = [name for name in found if not name.startswith(_NEEDED) and not _is_storage(name)]
    hostile = tuple(name for name in names if _is_hostile(name))
    return Globals(hostile, tuple(name for name in names if name not in hostile))


def _is_storage(name: str) -> bool:
    return name.startswith("torch.") and name.endswith("Storage")


def _is_hostile(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    root = module.split(".")[0]
    return root in _HOSTILE_MODULES and not (
        root in ("builtins", "__builtin__") and attribute in _HARMLESS_BUILTINS
    )


def _globals(file: IO[bytes], pickles: int) -> list[str]:
    """Return ``module.name`` of every global that up to so many pickles in a row mention."""
    names: list[str] = []
    strings: list[str] = []
    memo: dict[int, str] = {}
    try:
        for _ in range(pickles):
            for opcode, argument, _position in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    names.append(".".join(str(argument).split(" ", 1)))
                elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
                    names.append(".".join(strings[-2:]))
                elif "UNICODE" in opcode.name or "STRING" in opcode.name:
                    strings.append(str(argument))
                elif opcode.name == "MEMOIZE" and strings:
                    memo[len(memo)] = strings[-1]
                elif opcode.name in ("BINGET", "LONG_BINGET") and argument in memo:
                    strings.append(memo[argument])
    except (ValueError, EOFError, UnicodeDecodeError, OSError, zipfile.BadZipFile):
        return names
    return names
