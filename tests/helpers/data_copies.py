"""Small data sets in torchvision's layout."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

BATCHES = CIFAR10.base_folder
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def fashion_copy(
    folder: Path, rng: np.random.Generator, end: str = ".gz", count: int = 12, prefix: str = "t10k"
) -> tuple[np.ndarray, np.ndarray]:
    pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((f"{prefix}-images-idx3-ubyte", pixels), (f"{prefix}-labels-idx1-ubyte", labels)):
        content = idx(array)
        (folder / (name + end)).write_bytes(gzip.compress(content) if end else content)
    return pixels, labels


def cifar_copy(
    root: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, count: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Write all six parts, and tell torchvision their sums; pixels (6, count, 32, 32, 3), the test part last."""
    pixels = rng.integers(0, 256, (6, count, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, (6, count))
    folder = root / BATCHES
    folder.mkdir(parents=True, exist_ok=True)
    sums = []
    for part, (name, _) in enumerate(CIFAR10.train_list + CIFAR10.test_list):
        rows = pixels[part].transpose(0, 3, 1, 2).reshape(count, -1)
        content = pickle.dumps({"labels": labels[part].tolist(), "data": rows}, protocol=2)
        (folder / name).write_bytes(content)
        sums.append([name, md5(content)])
    meta = pickle.dumps({"label_names": list(NAMES)}, protocol=2)
    (folder / CIFAR10.meta["filename"]).write_bytes(meta)
    monkeypatch.setattr(CIFAR10, "train_list", sums[:-1])
    monkeypatch.setattr(CIFAR10, "test_list", sums[-1:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(meta)})
    return pixels, labels


def archive_of(root: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Pack the parts below ``root`` as the publisher does, and tell torchvision the archive's sum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w:gz") as tar:
        tar.add(root / BATCHES, BATCHES)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(target.read_bytes()))
    return target.read_bytes()
