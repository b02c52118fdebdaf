"""Damaged files: they are read or refused, whatever they contain."""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from hunt.kinds.common import REFUSED, TAKEN
from probe.core.errors import ProbeError
from probe.data.load import load_images
from probe.models.weights.checkpoint import read_checkpoint

NAME = "damaged files"


def strategy() -> st.SearchStrategy[tuple[str, list[tuple[int, int]], int]]:
    """Return the strategy of damages: a kind of file, bytes to change, and where to cut it."""
    kind = st.sampled_from(["pth", "safetensors", "npz", "npy", "png", "json", "csv", "map"])
    return st.tuples(
        kind, st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=5), st.integers(0, 4000)
    )


def attempt(damage: Any, folder: Path) -> str:
    """Read a damaged file; whatever it contains, it is read or refused."""
    kind, changes, cut = damage
    path = folder / f"file.{kind}"
    _write(kind, path)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(bytes(content[: max(1, len(content) - cut % len(content))] if cut % 3 == 0 else content))
    try:
        if kind in ("pth", "safetensors"):
            read_checkpoint(path)
        elif kind == "png":
            images = load_images(path)
            images.items[0].read()
        elif kind in ("npz", "npy"):
            load_images(path)
        else:
            from probe.data.class_map import read_class_map
            from probe.data.labels_csv import LabelsCsv
            from probe.models.labels import read_labels

            {"json": read_labels, "csv": lambda p: LabelsCsv(p).read(), "map": read_class_map}[kind](path)
    except ProbeError:
        return REFUSED
    return TAKEN


def _write(kind: str, path: Path) -> None:
    if kind == "pth":
        torch.save({"state_dict": nn.Linear(3, 2).state_dict(), "args": argparse.Namespace(lr=1)}, path)
    elif kind == "safetensors":
        save_file(nn.Linear(3, 2).state_dict(), path)
    elif kind == "npz":
        np.savez(path, images=np.zeros((2, 4, 4), np.float32), labels=np.array([0, 1]))
    elif kind == "npy":
        np.save(path, np.zeros((2, 4, 4), np.float32))
    elif kind == "png":
        Image.new("RGB", (9, 7), (10, 20, 30)).save(path)
    elif kind == "json":
        path.write_text(json.dumps({str(number): f"class {number}" for number in range(5)}))
    else:
        buffer = io.StringIO()
        csv.writer(buffer).writerows([["file", "label"], ["a.png", "cat"], ["b.png", "dog"]])
        path.write_text(buffer.getvalue())
