"""Where a weights file is: cached, packaged, or downloaded; and the sentence when it cannot be had."""

from __future__ import annotations

import hashlib
import http.client
import inspect
import os
import re
import socket
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import torch.hub

from probe.core.errors import CannotRunError
from probe.core.progress import Advance, Progress
from probe.models.source import Access, HubFile, Origin, PackagedFile, Published, UrlFile
from probe.models.weights.checkpoint import CheckpointError, sha256_of

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


@dataclass(frozen=True)
class LocalFile:
    """A weights file on this machine, and the address it comes from."""

    path: Path
    url: str = ""


def torch_home() -> Path:
    """Return the folder in which PyTorch keeps downloaded weights (``$TORCH_HOME/hub/checkpoints``)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def find_local(published: Published) -> LocalFile | None:
    """Return the weights' file if it is on this machine, or None.

    A file whose sha256 is not what its name promises raises CheckpointError.
    """
    for origin in published.origins:
        found = _local(origin)
        if found is not None:
            return found
    return None


def fetch(published: Published, access: Access, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> LocalFile:
    """Return the weights' file: the one on this machine, or else downloaded.

    Raises UnobtainableError with the reasons when it is not here and the network does not give it.
    """
    found = find_local(published)
    if found is not None:
        return found
    reasons = [] if published.origins else ["no file of them is published"]
    # Several servers that hang share the time that one would have.
    timeouts = replace(timeouts, connect=timeouts.connect / max(1, len(published.origins)))
    for origin in published.origins:
        try:
            return _remote(origin, access, timeouts)
        except UnobtainableError as error:
            reasons.append(str(error))
    raise UnobtainableError("; ".join(dict.fromkeys(reasons)))


def where_published(published: Published) -> str:
    """Return where the file may be put by hand, in words."""
    names = [str(torch_home() / origin.name) for origin in published.origins if isinstance(origin, UrlFile)]
    repos = [origin.repo for origin in published.origins if isinstance(origin, HubFile)]
    return " or ".join(names + [f"the Hugging Face cache ({repo})" for repo in repos])


def _local(origin: Origin) -> LocalFile | None:
    if isinstance(origin, HubFile):
        path = cached(origin)
        return LocalFile(path, _hub_url(origin, path)) if path else None
    if isinstance(origin, PackagedFile):
        return LocalFile(_checked(origin.path, origin.sha256_prefix)) if origin.path.is_file() else None
    path = torch_home() / origin.name
    return LocalFile(_checked(path, hash_in_name(origin.name)), origin.url) if path.is_file() else None


def _remote(origin: Origin, access: Access, timeouts: Timeouts) -> LocalFile:
    if isinstance(origin, HubFile):
        path = fetch_from_hub(origin, access, timeouts)
        return LocalFile(path, _hub_url(origin, path))
    if isinstance(origin, PackagedFile):
        raise UnobtainableError(f"the package {origin.package}, which carries the file, is not installed")
    target = torch_home() / origin.name
    if access.offline:
        raise UnobtainableError(f"{target} does not exist, and offline work was asked for")
    download(origin.url, target, hash_in_name(origin.name), access.progress, timeouts)
    return LocalFile(target, origin.url)


def _checked(path: Path, prefix: str | None) -> Path:
    if prefix:
        digest = sha256_of(path)
        if not digest.startswith(prefix):
            raise CheckpointError(
                f"{path} is damaged or another file: its sha256 begins {digest[: len(prefix)]}, not "
                f"{prefix}. Delete it and run again, or give a file with --weights."
            )
    return path


def _hub_url(origin: HubFile, path: Path) -> str:
    return f"https://huggingface.co/{origin.repo}/blob/{origin.revision or 'main'}/{path.name}"


_SHA256 = re.compile(r"[0-9a-f]{64}")
_TRUE = {"1", "ON", "YES", "TRUE"}


def hub_cache() -> Path:
    """Return the folder of the hub's cache (``HF_HUB_CACHE``, ``HF_HOME``)."""
    named = os.environ.get("HF_HUB_CACHE")
    home = os.environ.get("HF_HOME")
    if named or home:
        return Path(named).expanduser() if named else Path(str(home)).expanduser() / "hub"
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def hub_offline() -> bool:
    """Return whether ``HF_HUB_OFFLINE`` forbids the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def cached(file: HubFile) -> Path | None:
    """Return the first of the file's names that is in the cache, or None; a damaged one raises."""
    from huggingface_hub import try_to_load_from_cache

    for name in file.names:
        found = try_to_load_from_cache(file.repo, name, cache_dir=hub_cache(), revision=file.revision)
        if isinstance(found, str):
            return _hub_checked(Path(found))
    return None


def fetch_from_hub(file: HubFile, access: Access, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Path:
    """Return the file from the cache or else from the hub.

    Raises UnobtainableError when it is not cached and offline work was asked for, the hub cannot be
    reached in a few seconds, or has no such file; CheckpointError when the file's hash is wrong.
    """
    found = cached(file)
    if found is not None:
        return found
    if access.offline or hub_offline():
        raise UnobtainableError(f"{file.repo} is not in the Hugging Face cache ({hub_cache()})")
    from huggingface_hub import constants

    check_reachable(constants.ENDPOINT, timeouts)
    return _hub_checked(_download(file, access.progress, timeouts))


def _download(file: HubFile, progress: Progress, timeouts: Timeouts) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in file.names:
        try:
            with _bar(progress, f"{file.repo}/{name}") as options:
                path = hf_hub_download(
                    file.repo,
                    name,
                    revision=file.revision,
                    cache_dir=hub_cache(),
                    etag_timeout=timeouts.connect,
                    **options,
                )
            return Path(path)
        except LocalEntryNotFoundError as error:
            raise UnobtainableError(f"{file.repo}: the Hugging Face hub cannot be reached") from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # the errors of its HTTP library differ between versions
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnobtainableError(
                f"{file.repo} cannot be had from the Hugging Face hub: {reason}"
            ) from error
    raise UnobtainableError(f"{file.repo} on the Hugging Face hub has none of {', '.join(file.names)}")


def _hub_checked(path: Path) -> Path:
    """Return the path when the content's sha256 is the name under which the cache keeps it."""
    expected = path.resolve().name
    if _SHA256.fullmatch(expected) and sha256_of(path) != expected:
        raise CheckpointError(f"{path} in the Hugging Face cache is damaged: delete it and run again.")
    return path


@contextmanager
def _bar(progress: Progress, label: str) -> Iterator[dict[str, Any]]:
    """Yield the keyword arguments that make huggingface_hub report to our progress, where it can."""
    from huggingface_hub import hf_hub_download

    tqdm: Any = import_module("tqdm").tqdm
    if "tqdm_class" not in inspect.signature(hf_hub_download).parameters:
        yield {}
        return
    with progress.task(f"downloading {label}", None) as advance:
        yield {"tqdm_class": _forwarding(tqdm, advance)}


def _forwarding(base: Any, advance: Advance) -> Any:
    class Forwarding(base):  # type: ignore[misc]
        """A bar that draws nothing and passes its steps on."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            advance(float(n or 0))

    return Forwarding
