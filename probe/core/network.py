"""Downloads by other libraries, which fail within seconds when offline and show progress bars only if wanted."""

from __future__ import annotations

import io
import socket
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass

from probe.core.progress import Progress


@dataclass(frozen=True)
class Timeouts:
    """Timeouts in seconds for connecting, and for a server that stops sending."""

    connect: float = 4.0
    silence: float = 20.0


DEFAULT_TIMEOUTS = Timeouts()


@contextmanager
def downloading(url: str, progress: Progress, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Iterator[None]:
    """Let a library download from ``url`` inside the block, with its own tqdm bar.

    The bar is shown only on a terminal and if the console is not quiet; otherwise ``progress`` gets a task without
    a total. Raises ConnectionError if the server cannot be reached; if it stops sending, TimeoutError is raised inside.
    """
    check_reachable(url, timeouts)
    bars = not getattr(progress, "quiet", True) and sys.stderr.isatty()
    before = socket.getdefaulttimeout()
    with ExitStack() as stack:
        if not bars:
            stack.enter_context(progress.task(f"Downloading {url.rpartition('/')[2]}", None))
            stack.enter_context(redirect_stderr(io.StringIO()))
        stack.callback(socket.setdefaulttimeout, before)
        socket.setdefaulttimeout(timeouts.silence)
        yield


def check_reachable(url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """Raise ConnectionError unless the server (or the proxy) accepts a connection in time.

    DNS look-ups have no timeout, and libraries retry for minutes; so this makes a single attempt, in
    a thread that may be abandoned.
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
        raise ConnectionError(f"{host} did not answer within {timeouts.connect:g} s")
    if outcome[0] is not None:
        raise ConnectionError(f"{host} cannot be reached ({outcome[0].strerror or outcome[0]})")


def _first_hop(url: str) -> tuple[str, int]:
    """Return host and port that a request to ``url`` connects to: those of the proxy if one is set."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConnectionError(f"{url} is not an http address")
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname):
        hop = urllib.parse.urlsplit(proxy if "//" in proxy else f"http://{proxy}")
        if hop.hostname:
            return hop.hostname, hop.port or (443 if hop.scheme == "https" else 80)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
