"""Safe reading of weights files: tensors only, never code, and every rejection explained in one sentence.

``.safetensors`` files are read by safetensors; everything else by ``torch.load(weights_only=True)``, with
no fallback. The type of a file is determined from its first bytes before anything opens it.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from probe.core.errors import CannotRunError, UsageError
from probe.models.weights.file_type import Content, file_type, forbidden_globals

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin")
"""The extensions of weights files."""

# Averaged weights first: if a training script saved them, they are the ones it evaluated.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "module")
_AVERAGED = ("state_dict_ema", "model_ema", "ema")
_ALSO_IGNORED = ("n_averaged",)
_DEPTH = 3


class CheckpointError(CannotRunError):
    """A weights file cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A state dict read from a file, the file's sha256, and notes on how it was unpacked.

    ``metadata`` is the metadata of a safetensors file: text from whoever wrote it, not to be trusted.
    """

    state: dict[str, Tensor]
    path: Path
    sha256: str
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the state dict in a weights file.

    Unpacks the wrappers ``state_dict``, ``model``, ``model_state_dict``, ``ema`` and ``state_dict_ema``.
    Raises UsageError when there is no such file, and CheckpointError when it is not a weights file,
    is damaged, has values that are not finite, or would run code.
    """
    _check_place(path)
    try:
        content = file_type(path)
        digest = sha256_of(path)
        _refuse(path, content)
        safe = content is Content.SAFETENSORS
        raw = _read_safetensors(path) if safe else _read_torch(path)
        metadata = _metadata(path) if safe else {}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    state, wrapper = _unwrap(raw, path)
    _check_finite(state, path)
    notes = (f"{path.name} has averaged (EMA) weights as '{wrapper}'; these are used.",)
    return Checkpoint(state, path, digest, notes if wrapper in _AVERAGED else (), metadata)


def sha256_of(path: Path) -> str:
    """Return the file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def looks_like_path(text: str) -> bool:
    """Return whether a value of ``--weights`` is a file rather than the name of weights."""
    return "/" in text or text.lower().endswith(SUFFIXES) or Path(text).expanduser().exists()


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give a weights file ({', '.join(SUFFIXES)}).")
    if not path.exists():
        raise UsageError(f"There is no weights file {path}.")
    if not path.is_file():
        raise UsageError(f"{path} is not a regular file.")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} does not have the extension of a weights file ({', '.join(SUFFIXES)}).")


_REFUSED = {
    Content.EMPTY: "is empty: copy or download it again",
    Content.LFS: "is a git-LFS pointer, not the weights themselves: run `git lfs pull` in its repository",
    Content.HTML: "is a web page, not the weights: download the file itself",
    Content.JSON: "is JSON text, such as a server's error message, not weights: download the file itself",
    Content.TORCHSCRIPT: (
        "is a TorchScript program, not weights: save `model.state_dict()` with torch.save and use that file"
    ),
    Content.NUMPY: "is a NumPy archive, not PyTorch weights: convert it to .safetensors",
    Content.HDF5: "is an HDF5 file, such as Keras writes, not PyTorch weights: convert it to .safetensors",
    Content.ZIP: "is a zip archive that PyTorch did not write: unpack it and use the weights file inside",
    Content.BROKEN_ZIP: "is truncated or damaged: copy or download it again",
    Content.UNKNOWN: "is not a PyTorch or safetensors weights file, or its beginning is damaged",
}


def _refuse(path: Path, content: Content) -> None:
    """Raise CheckpointError unless the content is safetensors or a torch.save file and the extension matches."""
    if content in _REFUSED:
        raise CheckpointError(f"{path} {_REFUSED[content]}.")
    has_safetensors_suffix = path.suffix.lower() == ".safetensors"
    if content is Content.SAFETENSORS and not has_safetensors_suffix:
        raise CheckpointError(f"The content of {path} is safetensors: rename it to {path.stem}.safetensors.")
    if content is not Content.SAFETENSORS and has_safetensors_suffix:
        raise CheckpointError(
            f"{path} is not a safetensors file: it was written by torch.save (rename it to .pth)."
        )
    if content is Content.PICKLE:
        raise CheckpointError(
            f"{path} was written by pickle, which can run code when opened, so it was not opened: save the state dict "
            "with torch.save."
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path, device="cpu")
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path} is truncated or damaged: copy or download it again.") from error
    return state


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _read_torch(path: Path) -> Any:
    # torch.load would reject the file too; checking the names first does not depend on that.
    forbidden = forbidden_globals(path)
    if forbidden:
        raise CheckpointError(_unsafe(path, forbidden))
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_unsafe(path, tuple(_GLOBAL_NAME.findall(str(error))))) from error
    except (
        RuntimeError,
        EOFError,
        struct.error,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        raise CheckpointError(f"{path} is truncated or damaged: copy or download it again.") from error


_GLOBAL_NAME = re.compile(r"GLOBAL ([\w.]+)")


def _unsafe(path: Path, names: tuple[str, ...]) -> str:
    fix = "save `model.state_dict()` with torch.save and use that file"
    if not names:
        return f"{path} is damaged, or contains more than tensors: {fix}."
    return (
        f"{path} loads {_few(names)} when it is opened, like a whole pickled model or a malicious file; that can run "
        f"code, so it was not opened: {fix}."
    )


def _few(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _unwrap(raw: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a (possibly wrapped) state dict, and the key of the innermost wrapper."""
    wrapper = ""
    for _ in range(_DEPTH):
        if not isinstance(raw, Mapping):
            break
        inner = next((key for key in _WRAPPERS if _has_tensors(raw.get(key))), None)
        if inner is None:
            break
        wrapper = wrapper if wrapper in _AVERAGED else inner
        raw = raw[inner]
    tensors = _tensors(raw)
    if not tensors:
        content = type(raw).__name__ if not isinstance(raw, Mapping) else "a dictionary without tensors"
        raise CheckpointError(
            f"{path} contains {content}, not a state dict: save `model.state_dict()` and use that file."
        )
    return tensors, wrapper


def _has_tensors(value: Any, depth: int = _DEPTH) -> bool:
    if not isinstance(value, Mapping):
        return False
    if any(isinstance(item, Tensor) for item in value.values()):
        return True
    return depth > 0 and any(_has_tensors(item, depth - 1) for item in value.values())


def _tensors(raw: Any) -> dict[str, Tensor]:
    if not isinstance(raw, Mapping):
        return {}
    return {
        key: value
        for key, value in raw.items()
        if isinstance(key, str) and isinstance(value, Tensor) and key not in _ALSO_IGNORED
    }


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    bad = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise CheckpointError(
            f"{path} has values that are not finite in {len(bad)} of {len(state)} tensors ({bad[0]}): the training that "
            "wrote it diverged, or the file is damaged."
        )
