"""Downloading one weights file: short to fail, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from probe.core.errors import CannotRunError
from probe.core.progress import Progress

_CHUNK = 1 << 18
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


class UnobtainableError(CannotRunError):
    """Weights cannot be had: not here, and not from the network; the message is the reason."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds until a connection must stand, and until a silent server is given up."""

    connect: float = 4.0
    silence: float = 20.0


DEFAULT_TIMEOUTS = Timeouts()


def hash_in_name(name: str) -> str | None:
    """Return the first digits of the sha256 that a file's name ends in (``resnet18-f37072fd.pth``)."""
    match = _HASH_IN_NAME.search(name)
    return match[1] if match else None


def download(
    url: str,
    target: Path,
    sha256_prefix: str | None,
    progress: Progress,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> None:
    """Download ``url`` to ``target``: to a temporary file beside it, renamed when length and hash are right.

    Raises UnobtainableError when the network, the server, the disk or the content fails. Whatever happens, an
    interrupt included, no part of a file is left behind.
    """
    check_reachable(url, timeouts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise UnobtainableError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            digest = _copy(url, file, progress, timeouts)
        if sha256_prefix and not digest.startswith(sha256_prefix):
            raise UnobtainableError(
                f"{url} was changed or damaged on its way: its sha256 begins {digest[: len(sha256_prefix)]}, "
                f"not {sha256_prefix}; it was not kept"
            )
        os.replace(part, target)
    except urllib.error.HTTPError as error:
        error.close()
        raise UnobtainableError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UnobtainableError(f"{url} cannot be downloaded: {reason or type(error).__name__}") from error
    finally:
        Path(part).unlink(missing_ok=True)


def check_reachable(url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """Raise UnobtainableError unless the server (or the proxy to it) takes a connection in time.

    Looking a name up has no timeout of its own, and libraries retry for minutes; so this is tried once, in
    a thread that may be left behind.
    """
    host, port = _first_hop(url)
    outcome: list[OSError | None] = []

    def attempt() -> None:
        try:
            socket.create_connection((host, port), timeout=timeouts.connect).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeouts.connect)
    if not outcome:
        raise UnobtainableError(f"{host} did not answer within {timeouts.connect:g} s")
    if outcome[0] is not None:
        raise UnobtainableError(f"{host} cannot be reached ({outcome[0].strerror or outcome[0]})")


def _first_hop(url: str) -> tuple[str, int]:
    """Return host and port that a request to ``url`` connects to: a proxy's where one is set."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnobtainableError(f"{url} is not an http address")
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname):
        hop = urllib.parse.urlsplit(proxy if "//" in proxy else f"http://{proxy}")
        if hop.hostname:
            return hop.hostname, hop.port or (443 if hop.scheme == "https" else 80)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _copy(url: str, file: IO[bytes], progress: Progress, timeouts: Timeouts) -> str:
    """Copy the download into ``file`` and return its sha256; a short body raises UnobtainableError."""
    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers={"User-Agent": "cnn-probe"})
    with urllib.request.urlopen(request, timeout=timeouts.silence) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        done = 0
        with progress.task(f"downloading {url.rpartition('/')[2]}", total) as advance:
            while chunk := response.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
                done += len(chunk)
                advance(len(chunk))
    if total is not None and done != total:
        raise UnobtainableError(f"{url}: the connection was cut after {done:,} of {total:,} bytes")
    return digest.hexdigest()
