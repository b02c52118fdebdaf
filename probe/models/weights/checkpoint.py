"""Safe reading of weights files: tensors only, never code, and every rejection explained in one sentence.

The type of a file is determined from its bytes before anything opens it, whatever its name is.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from probe.core.errors import UsageError
from probe.models.weights.file_type import Content, file_type
from probe.models.weights.inert import CheckpointError, Inert, load_inert, module_tensors

__all__ = ["Checkpoint", "CheckpointError", "looks_like_path", "read_checkpoint", "sha256_of"]

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".tar", ".pkl", ".msgpack", ".h5", ".onnx")
"""Extensions by which a value of --weights is taken for a file that does not exist, rather than for a name."""

# Averaged weights first: if a training script saved them, they are the ones it evaluated.
_AVERAGED = ("ema", "averaged", "swa", "shadow")
_USUAL = ("state_dict", "model_state_dict", "model", "module", "net", "network", "params", "weights")
_ALSO_IGNORED = ("n_averaged",)
_DEPTH = 5
_LONGEST_INDEX = 64 << 20
_MOST_EXPANDED = 8
"""How many times larger than its file the tensors of a checkpoint may be (views of shared tensors are counted twice)."""


@dataclass(frozen=True)
class Candidate:
    """A dictionary of tensors in a file; ``key`` is where it lies ('' is the file's own level)."""

    key: str
    state: dict[str, Tensor]

    @property
    def averaged(self) -> bool:
        """Whether the key says that these are averaged weights."""
        return any(word in part.lower().split("_") for part in self.key.split(".") for word in _AVERAGED)


@dataclass(frozen=True)
class Checkpoint:
    """A state dict read from a file, the file's sha256, and notes on how it was unpacked.

    ``candidates`` are all dictionaries of tensors in the file, the likeliest first. ``metadata`` is that of a
    safetensors file: text from whoever wrote it, not to be trusted.
    """

    state: dict[str, Tensor]
    path: Path
    sha256: str
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()

    def choose(self, n_fitting: Mapping[str, int]) -> Checkpoint:
        """Return the checkpoint with the candidate of which most tensors fit; ties go to the likelier one."""
        if not n_fitting or len(self.candidates) < 2:
            return self
        best = max(self.candidates, key=lambda candidate: n_fitting.get(candidate.key, 0))
        note = _note_on_choice(self.path, best, self.candidates, n_fitting)
        if best.key == self.candidates[0].key and not note:
            return self
        _check_finite(best.state, self.path)
        others = tuple(line for line in self.notes if "averaged" not in line)
        return replace(self, state=best.state, notes=(*others, *([note] if note else [])))


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the state dict in a weights file: torch.save, safetensors, or the index of a sharded checkpoint.

    The dictionary of tensors is found wherever it lies in the file, also in a network that was saved as a whole; nothing
    from the file runs. Raises UsageError when there is no such file, and CheckpointError when it is not a weights file,
    is damaged, has values that are not finite, or refers to functions that act on the machine.
    """
    path = _place(path)
    try:
        content = file_type(path)
        digest = sha256_of(path)
        if content is Content.JSON and (shards := _shards(path)):
            return _from_shards(path, shards, digest)
        _refuse(path, content)
        safe = content is Content.SAFETENSORS
        raw, names = (_read_safetensors(path), ()) if safe else _read_torch(path)
        metadata = _metadata(path) if safe else {}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    candidates = _candidates(raw, path, names)
    first = candidates[0]
    for candidate in candidates:
        _check_expanded(candidate.state, path)
    _check_finite(first.state, path)
    notes = []
    if names:
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        notes.append(f"{path.name} also contains {listed}; none of it was built or run.")
    if note := _note_on_choice(path, first, candidates, {}):
        notes.append(note)
    return Checkpoint(first.state, path, digest, tuple(notes), metadata, candidates)


def _note_on_choice(
    path: Path, chosen: Candidate, candidates: tuple[Candidate, ...], n_fitting: Mapping[str, int]
) -> str:
    """Say which of several fitting dictionaries is used; empty where there is no choice."""
    most = n_fitting.get(chosen.key, 0)
    others = [
        candidate.key
        for candidate in candidates
        if candidate.key != chosen.key and (not n_fitting or n_fitting.get(candidate.key, 0) == most > 0)
    ]
    if chosen.averaged:
        beside = f" beside '{others[0]}'" if others and n_fitting else ""
        return f"{path.name} has averaged (EMA) weights as '{chosen.key}'{beside}; these are used."
    if others and n_fitting:
        return f"{path.name} has weights as '{chosen.key}' and as {', '.join(map(repr, others[:3]))}; the first are used."
    return ""


def sha256_of(path: Path) -> str:
    """Return the file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def looks_like_path(text: str) -> bool:
    """Return whether a value of ``--weights`` is a file rather than the name of weights."""
    return "/" in text or text.lower().endswith(SUFFIXES) or Path(text).expanduser().exists()


def _place(path: Path) -> Path:
    """Return the file to read: the path itself, or the only weights file of a folder."""
    if path.is_dir():
        indexes = sorted(path.glob("*.index.json"))
        files = sorted(
            file
            for suffix in (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
            for file in path.glob(f"*{suffix}")
        )
        found = indexes or files
        if len(found) == 1:
            return found[0]
        listed = f": it has {', '.join(file.name for file in found[:4])}" if found else ""
        raise UsageError(f"{path} is a folder: give one weights file in it{listed}.")
    if not path.exists():
        raise UsageError(f"There is no weights file {path}.")
    if not path.is_file():
        raise UsageError(f"{path} is not a regular file.")
    return path


_REFUSED = {
    Content.EMPTY: "is empty: copy or download it again",
    Content.LFS: "is a git-LFS pointer, not the weights themselves: run `git lfs pull` in its repository",
    Content.HTML: "is a web page, not the weights: download the file itself",
    Content.JSON: "is JSON text, such as a server's error message, not weights: download the file itself",
    Content.TORCHSCRIPT: (
        "is a TorchScript program, not weights: save `model.state_dict()` with torch.save and use that file"
    ),
    Content.EXPORTED: (
        "is a program of torch.export, not weights: save `torch.export.load(FILE).state_dict` with torch.save and use that file"
    ),
    Content.KERAS: "is a Keras network, not PyTorch weights: convert its weights to .safetensors",
    Content.ONNX: "is an ONNX network, not PyTorch weights: use the state_dict of the network that it was exported from",
    Content.NUMPY: "is a NumPy archive, not PyTorch weights: convert it to .safetensors",
    Content.HDF5: "is an HDF5 file, such as Keras writes, not PyTorch weights: convert it to .safetensors",
    Content.ZIP: "is a zip archive that PyTorch did not write: unpack it and use the weights file inside",
    Content.TAR: "is a tar archive: unpack it and use the weights file inside",
    Content.BROKEN_ZIP: "is truncated or damaged: copy or download it again",
    Content.UNKNOWN: "is not a PyTorch or safetensors weights file, or its beginning is damaged",
}


def _refuse(path: Path, content: Content) -> None:
    """Raise CheckpointError unless the content is safetensors or a torch.save file."""
    if content in _REFUSED:
        raise CheckpointError(f"{path} {_REFUSED[content]}.")
    if content is Content.PICKLE:
        raise CheckpointError(
            f"{path} was written by pickle, which can run code when opened, so it was not opened. If you trust its source: "
            f"python -c \"import pickle, torch; torch.save(pickle.load(open('{path.name}', 'rb')), 'weights.pth')\""
        )


def _shards(path: Path) -> list[Path]:
    """Return the files that the index of a sharded checkpoint lists, none for other JSON files."""
    if path.stat().st_size > _LONGEST_INDEX:
        return []
    try:
        table = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(table.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if wrong:
        raise CheckpointError(f"{path} lists files outside its folder ({wrong[0]!r}).")
    return [path.with_name(name) for name in names]


def _from_shards(path: Path, shards: list[Path], digest: str) -> Checkpoint:
    """Read all parts of a sharded checkpoint; the sha256 is that of the index and the parts."""
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise CheckpointError(
            f"{path.name} lists {len(shards)} parts, and {len(missing)} of them are not beside it ({missing[0]})."
        )
    parts = [read_checkpoint(shard) for shard in shards]
    state = {key: value for part in parts for key, value in part.state.items()}
    whole = hashlib.sha256("".join([digest, *(part.sha256 for part in parts)]).encode()).hexdigest()
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Checkpoint(
        state,
        path,
        whole,
        (f"The weights are in {len(shards)} parts.", *notes),
        candidates=(Candidate("", state),),
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


def _read_torch(path: Path) -> tuple[Any, tuple[str, ...]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise CheckpointError(
                f"{path} is compressed, which torch.save never does: unpack it and save it again."
            )
        index = max((info.file_size for info in infos if info.filename.endswith("data.pkl")), default=0)
        if index > _LONGEST_INDEX:
            raise CheckpointError(
                f"{path} has an index of {index >> 20} MiB: it is damaged, or no list of weights."
            )
    return load_inert(path)


def _candidates(raw: Any, path: Path, names: tuple[str, ...]) -> tuple[Candidate, ...]:
    """Return the dictionaries of tensors in a file, the likeliest first; raises CheckpointError if there is none."""
    found = [candidate for candidate in _walk(raw, "", 0) if candidate.state]
    if not found:
        content = type(raw).__name__ if not isinstance(raw, Mapping) else "a dictionary without tensors"
        whole = f" It was saved with {', '.join(names[:3])}." if names else ""
        raise CheckpointError(
            f"{path} contains {content}, not a state dict: save `model.state_dict()` and use that file. If you trust its "
            f"source: python -c \"import torch; torch.save(torch.load('{path.name}', weights_only=False).state_dict(), "
            f"'weights.pth')\"{whole}"
        )
    return tuple(sorted(found, key=_unlikely))


def _unlikely(candidate: Candidate) -> tuple[bool, int, int]:
    last = candidate.key.rpartition(".")[2]
    usual = _USUAL.index(last) if last in _USUAL else len(_USUAL)
    return not candidate.averaged, usual, -len(candidate.state)


def _walk(value: Any, key: str, depth: int) -> Iterator[Candidate]:
    """Yield each dictionary of tensors inside a value, with the keys that lead to it."""
    if depth > _DEPTH:
        return
    if isinstance(value, Inert):
        yield Candidate(key, module_tensors(value))
        value = value.content()
        if {"_parameters", "_modules"} <= set(value):
            return
    if not isinstance(value, Mapping):
        return
    yield Candidate(key, _tensors(value))
    for name, inner in value.items():
        # The state of an optimizer has the shapes of the weights, but is none.
        if isinstance(name, str) and not name.startswith(("optim", "lr_sched", "scheduler", "scaler")):
            yield from _walk(inner, f"{key}.{name}" if key else name, depth + 1)


def _tensors(raw: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors of a dictionary if most of its values are tensors: a single one is a number kept beside."""
    tensors = {
        key: value
        for key, value in raw.items()
        if isinstance(key, str) and isinstance(value, Tensor) and key not in _ALSO_IGNORED
    }
    return tensors if any(value.ndim for value in tensors.values()) else {}


def _check_expanded(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are views of little data: their values would take memory that the file does not have."""
    size = sum(value.numel() * value.element_size() for value in state.values())
    if path.stat().st_size and size > _MOST_EXPANDED * path.stat().st_size + (1 << 20):
        key = max(state, key=lambda name: state[name].numel())
        raise CheckpointError(
            f"{path} of {path.stat().st_size:,} bytes has tensors of {size:,} bytes ({key} is {tuple(state[key].shape)}): they "
            "are expanded views, not weights."
        )


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    bad = [key for key, value in state.items() if _plain(value) and not value.isfinite().all()]
    if bad:
        raise CheckpointError(
            f"{path} has values that are not finite in {len(bad)} of {len(state)} tensors ({bad[0]}): the training that "
            "wrote it diverged, or the file is damaged."
        )


def _plain(value: Tensor) -> bool:
    """Return whether this is an ordinary tensor of floating-point numbers, whose values can be looked at."""
    return (
        value.is_floating_point()
        and value.layout is torch.strided
        and not value.is_meta
        and value.dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    )
