"""One GPU for each worker process of this machine."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@cache
def claims() -> tuple[tuple[str, ...], str]:
    """Return the GPUs that this process sees, and a folder in which its workers claim them; both empty where there are none."""
    if not torch.cuda.is_available():
        return (), ""
    named = os.environ.get(_VISIBLE)
    gpus = tuple(named.split(",")) if named else tuple(map(str, range(torch.cuda.device_count())))
    folder = tempfile.mkdtemp(prefix="probe-gpus-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return gpus, folder


def claim(gpus: Sequence[str], folder: str) -> str | None:
    """Let this process see one GPU only, which no other living process has claimed in the folder; return it, None if all are.

    Must be called before anything uses CUDA in the process.
    """
    for gpu in gpus:
        place = Path(folder) / gpu
        for _ in range(2):
            try:
                with place.open("x", encoding="ascii") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                if _is_alive(place):
                    break
                place.unlink(missing_ok=True)  # and claim it now
            else:
                os.environ[_VISIBLE] = gpu
                return gpu
    return None


def _is_alive(place: Path) -> bool:
    """Return whether the process that claimed a GPU lives, or is just about to write its number."""
    with suppress(OSError, ValueError):
        text = place.read_text(encoding="ascii")
        if not text:
            return True
        os.kill(int(text), 0)
        return True
    return False
