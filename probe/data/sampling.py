"""Sampling of images, and the digest of an image set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.core.seeds import derive
from probe.data.spec import Item, UnreadableError

Indices = NDArray[np.int64]


def choose(total: int, n: int, seed: int, labels: Sequence[int] | Indices | None = None) -> Indices:
    """Return ``min(n, total)`` distinct indices below ``total``, ascending, the same for the same seed.

    With ``labels`` (one for each index) the sample is stratified: each class gets its share of ``n``, rounded
    down or up (largest remainders first, ties broken by the seed), so that no class is off by one or more.
    """
    if n >= total:
        return np.arange(total, dtype=np.int64)
    rng = np.random.default_rng(derive(seed, "sample"))
    if labels is None:
        return np.sort(rng.permutation(total)[:n]).astype(np.int64)
    classes, member = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
    counts = np.bincount(member, minlength=len(classes))
    quotas = _shares(counts, n, rng)
    order = rng.permutation(total)
    by_class = order[np.argsort(member[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    chosen = [by_class[start : start + quota] for start, quota in zip(starts, quotas, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _shares(counts: Indices, n: int, rng: np.random.Generator) -> Indices:
    """Divide ``n`` among the classes by the method of largest remainders, in exact integers."""
    shares, remainders = np.divmod(n * counts, counts.sum())
    ties = rng.permutation(len(counts))
    largest_first = np.lexsort((ties, -remainders))
    shares[largest_first[: n - shares.sum()]] += 1
    return np.asarray(shares, dtype=np.int64)


_CHUNK = 1 << 20


def digest(items: Sequence[Item]) -> str:
    """Return the sha256 over name, label and content of every image, in order, as hexadecimal digits.

    The content is the file's bytes if the image has its own file, else its pixels; for an unreadable image,
    only name and label count.
    """
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.name}\0{item.label}\0".encode("utf-8", "surrogatepass"))
        digest.update(_content(item))
    return digest.hexdigest()


def _content(item: Item) -> bytes:
    own = hashlib.sha256()
    try:
        if item.path is None:
            image = item.read()
            shape = image.shape if isinstance(image, np.ndarray) else (image.mode, image.size)
            own.update(" ".join(map(str, shape)).encode())
            own.update(image.tobytes())
        else:
            with item.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    own.update(chunk)
    except (OSError, UnreadableError):
        return b"unreadable"
    return own.digest()
