"""Reading torch.save files without running any code from them: whatever is not a tensor or plain data becomes inert."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from probe.core.errors import CannotRunError
from probe.models.weights.file_type import forbidden_globals

_GLOBAL_NAME = re.compile(r"GLOBAL ([\w.]+)")
_MOST_NAMES = 300

_HARMFUL = frozenset(
    (
        "_posixsubprocess", "_pickle", "asyncio", "bdb", "code", "codeop", "commands", "cProfile", "ctypes", "dill",
        "cloudpickle", "http", "importlib", "io", "marshal", "multiprocessing", "nt", "operator", "os", "pdb", "pickle",
        "pip", "platform", "posix", "profile", "pty", "requests", "runpy", "shutil", "signal", "socket", "ssl",
        "subprocess", "sys", "tempfile", "timeit", "trace", "types", "urllib", "webbrowser",
    )
)  # fmt: skip
"""Modules whose functions act on the machine or run code; no training script stores one beside its weights."""

_HARMLESS = frozenset(
    ("types.SimpleNamespace", "types.MappingProxyType", "io.BytesIO", "operator.itemgetter")
)
"""What training scripts do store, in modules that are otherwise harmful."""

_HARMFUL_BUILTINS = frozenset(
    ("eval", "exec", "compile", "__import__", "getattr", "setattr", "delattr", "open", "input", "breakpoint", "globals",
     "locals", "vars", "exit", "quit", "help")
)  # fmt: skip


class CheckpointError(CannotRunError):
    """A weights file cannot be used; the message says why and what to do."""


class Inert:
    """What an object of a file becomes: it keeps the data that it was given, and does nothing.

    ``state`` is what the pickle would have set as attributes, ``items_`` what it would have put under keys.
    """

    kind = ""

    def __new__(cls, *_args: Any, **_options: Any) -> Inert:
        """Ignore the arguments that the object would be made from."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **_options: Any) -> None:
        self.state: Any = args[0] if len(args) == 1 and isinstance(args[0], Mapping) else None
        self.items_: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes."""
        self.state = state
        self.items_ = getattr(self, "items_", {})

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an entry."""
        if not hasattr(self, "items_"):
            self.items_ = {}
        self.items_[key] = value

    def __hash__(self) -> int:
        return id(self)

    def content(self) -> Mapping[Any, Any]:
        """Return the entries, else the attributes."""
        state = getattr(self, "state", None)
        return getattr(self, "items_", None) or (state if isinstance(state, Mapping) else {})


def load_inert(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Return the content of a torch.save file, and the names of the classes and functions that were not used.

    Tensors and plain data are built by torch's own restricted unpickler; everything else becomes ``Inert``, so that
    nothing from the file runs. Raises CheckpointError for a file that refers to functions that act on the machine, and
    for a damaged one.
    """
    names = list(forbidden_globals(path))
    while True:
        harmful = [name for name in names if _is_harmful(name)]
        if harmful or len(names) > _MOST_NAMES:
            raise CheckpointError(_refusal(path, harmful or names))
        try:
            # An open file, because torch.load goes by the ending of a name.
            with safe_globals([(_stand_in(name), name) for name in names]), path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True), tuple(names)
        except pickle.UnpicklingError as error:
            # The names of built-in types come without their module.
            found = [name if "." in name else f"builtins.{name}" for name in _GLOBAL_NAME.findall(str(error))]
            if not found or found[0] in names:
                raise CheckpointError(_refusal(path, found)) from error
            names.append(found[0])
        except (
            RuntimeError, EOFError, struct.error, ValueError, KeyError, IndexError, AttributeError, TypeError,
            OverflowError, RecursionError, AssertionError, ImportError,
        ) as error:  # fmt: skip
            raise CheckpointError(f"{path} is truncated or damaged: copy or download it again.") from error


def _as_dict(*_args: Any) -> dict[Any, Any]:
    """Stand in for a class of dictionaries, whose entries torch's unpickler only puts into plain ones."""
    return {}


def _as_list(*_args: Any) -> list[Any]:
    """Stand in for a class of lists."""
    return []


_CONTAINERS: dict[str, Callable[..., Any]] = {
    "collections.defaultdict": _as_dict,
    "collections.deque": _as_list,
}


def _stand_in(name: str) -> Callable[..., Any]:
    """Return what is called instead of a class or function of the file."""
    if name in _CONTAINERS:
        return _CONTAINERS[name]
    return type(name.rpartition(".")[2], (Inert,), {"kind": name})


def _is_harmful(name: str) -> bool:
    module, _, member = name.rpartition(".")
    root = module.partition(".")[0]
    if root in ("builtins", "__builtin__"):
        return member in _HARMFUL_BUILTINS
    return root in _HARMFUL and name not in _HARMLESS


def _refusal(path: Path, names: list[str]) -> str:
    if not names:
        return (
            f"{path} is damaged, or holds objects that cannot be read without running code, such as a whole network in the "
            'format from before PyTorch 1.6, and was not opened. If you trust its source: python -c "import torch; x = '
            f"torch.load('{path.name}', weights_only=False); torch.save(x.state_dict() if hasattr(x, 'state_dict') else "
            "x['state_dict'], 'weights.pth')\""
        )
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"{path} calls {listed} when it is opened, as a malicious file does; that can harm your machine, so it was not "
        "opened: do not load it with anything else, and get the weights as .safetensors."
    )


def module_tensors(value: Inert) -> dict[str, Tensor]:
    """Return the state dict of a network that was saved as a whole: its parameters and persistent buffers."""
    tensors: dict[str, Tensor] = {}
    _collect(value, "", tensors, 0)
    return tensors


def _collect(value: Inert, prefix: str, tensors: dict[str, Tensor], depth: int) -> None:
    state = getattr(value, "state", None)
    if not isinstance(state, Mapping) or depth > 64:
        return
    skipped = state.get("_non_persistent_buffers_set") or ()
    for part in ("_parameters", "_buffers"):
        for name, tensor in (state.get(part) or {}).items():
            if isinstance(tensor, Tensor) and name not in skipped:
                tensors[f"{prefix}{name}"] = tensor
    for name, child in (state.get("_modules") or {}).items():
        if isinstance(child, Inert):
            _collect(child, f"{prefix}{name}.", tensors, depth + 1)
