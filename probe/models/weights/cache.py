"""The cache of locally trained weights: its location, and atomic writing of its files."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

import probe
from probe.core.paths import cache_root


def digits_file(name: str, key: str) -> Path:
    """Return the path of a network's digits weights; ``key`` covers everything that they depend on."""
    return cache_root() / "digits" / f"{_safe(name)}-{probe.__version__}-{key}.safetensors"


def stored_names() -> frozenset[str]:
    """Return the names, as in file names, of the networks whose digits weights are stored."""
    pattern = re.compile(rf"(.+)-{re.escape(probe.__version__)}-[0-9a-f]+\.safetensors")
    try:
        files = os.listdir(cache_root() / "digits")
    except OSError:
        return frozenset()
    return frozenset(match[1] for match in map(pattern.fullmatch, files) if match)


def write_state(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a state dict as safetensors: to a temporary file first, which is renamed when complete.

    Raises OSError if writing fails.
    """
    data = save(
        {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}, dict(metadata)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)[:80]
