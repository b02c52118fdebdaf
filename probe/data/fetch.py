"""Downloading one file of a data set: timed, limited, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from probe.core.errors import CannotRunError
from probe.core.progress import Progress

TIMEOUT_SECONDS = 20.0
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Remote:
    """A file to download: its address, the md5 that its publisher gives, and the most bytes it may have."""

    url: str
    md5: str
    max_bytes: int


def fetch(remote: Remote, target: Path, progress: Progress) -> None:
    """Download ``remote`` to ``target``: into a temporary file beside it, renamed when the md5 is right.

    Raises CannotRunError when the network, the disk or the content fails; no part of a file is left behind.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise CannotRunError(f"Cannot write to '{target.parent}': {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            md5 = _stream(remote, file, progress)
        if md5 != remote.md5:
            raise CannotRunError(f"{remote.url} was changed or damaged (its md5 is wrong) and not kept.")
        os.replace(part, target)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise CannotRunError(f"{remote.url} cannot be downloaded: {error}.") from None
    except (OSError, http.client.HTTPException) as error:
        raise CannotRunError(f"{remote.url} cannot be downloaded: {error}.") from error
    finally:
        Path(part).unlink(missing_ok=True)


def _stream(remote: Remote, file: IO[bytes], progress: Progress) -> str:
    """Copy the download into ``file`` and return its md5."""
    digest = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(remote.url, timeout=TIMEOUT_SECONDS) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        done = 0
        with progress.task(f"downloading {remote.url.rpartition('/')[2]}", total) as advance:
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                if done > remote.max_bytes:
                    raise CannotRunError(f"{remote.url} is longer than {remote.max_bytes:,} bytes; not kept.")
                digest.update(chunk)
                file.write(chunk)
                advance(len(chunk))
    if total is not None and done < total:
        raise OSError(f"it ended after {done:,} of {total:,} bytes")
    return digest.hexdigest()
