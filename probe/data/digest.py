"""A fingerprint of a set of images, so that two reports can be known to be about the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from probe.data.spec import Item, UnreadableError

_CHUNK = 1 << 20


def digest(items: Sequence[Item]) -> str:
    """Return the sha256 over name, label and content of every image, in their order, as hexadecimal digits.

    The content of an image with a file of its own is the file's bytes, else its pixels; one that cannot be read counts
    with its name and label alone.
    """
    found = hashlib.sha256()
    for item in items:
        found.update(f"{item.name}\0{item.label}\0".encode("utf-8", "surrogatepass"))
        found.update(_content(item))
    return found.hexdigest()


def _content(item: Item) -> bytes:
    own = hashlib.sha256()
    try:
        if item.path is None:
            image = item.read()
            own.update(f"{image.mode} {image.size}".encode())
            own.update(image.tobytes())
        else:
            with item.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    own.update(chunk)
    except (OSError, UnreadableError):
        return b"unreadable"
    return own.digest()
