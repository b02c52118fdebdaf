"""Finding a weights file: cached, in a package, or downloaded; with the reason if it is not available."""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
from dataclasses import dataclass, replace
from pathlib import Path

import torch.hub

from probe.core.errors import CannotRunError
from probe.core.network import DEFAULT_TIMEOUTS, Timeouts, downloading
from probe.core.progress import Progress
from probe.models.source import Access, HubFile, Origin, PackagedFile, Published, UrlFile
from probe.models.weights.checkpoint import CheckpointError, sha256_of

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


class UnobtainableError(CannotRunError):
    """Weights are not available, neither locally nor by download; the message is the reason."""


def hash_in_name(name: str) -> str | None:
    """Return the first digits of the sha256 at the end of a file's name (``resnet18-f37072fd.pth``)."""
    match = _HASH_IN_NAME.search(name)
    return match[1] if match else None


def download(
    url: str,
    target: Path,
    sha256_prefix: str | None,
    progress: Progress,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> None:
    """Download ``url`` to ``target`` with torch.hub: to a temporary file, renamed when the hash is correct.

    Raises UnobtainableError when the connection, the server, the disk or the hash check fails. A partial file is never
    left behind, not even after an interrupt.
    """
    try:
        with downloading(url, progress, timeouts):
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(target), sha256_prefix)
    except urllib.error.HTTPError as error:
        error.close()
        raise UnobtainableError(f"{url}: the server answered {error.code} {error.reason}") from error
    except RuntimeError as error:
        raise UnobtainableError(f"{url} was modified or damaged in transit and discarded: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UnobtainableError(f"could not download {url}: {reason or type(error).__name__}") from error


@dataclass(frozen=True)
class LocalFile:
    """A weights file on this machine, and the URL that it comes from."""

    path: Path
    url: str = ""


def torch_home() -> Path:
    """Return the folder in which PyTorch keeps downloaded weights (``$TORCH_HOME/hub/checkpoints``)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def find_local(published: Published) -> LocalFile | None:
    """Return the weights file if it is on this machine, else None.

    Raises CheckpointError if the sha256 of the file does not match its name.
    """
    for origin in published.origins:
        file = _local(origin)
        if file is not None:
            return file
    return None


def fetch(published: Published, access: Access, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> LocalFile:
    """Return the weights file, downloaded if it is not on this machine.

    Raises UnobtainableError, with the reasons, if it cannot be downloaded.
    """
    file = find_local(published)
    if file is not None:
        return file
    reasons = [] if published.origins else ["no file is published for them"]
    # All servers together may take as long as a single one.
    timeouts = replace(timeouts, connect=timeouts.connect / max(1, len(published.origins)))
    for origin in published.origins:
        try:
            return _remote(origin, access, timeouts)
        except UnobtainableError as error:
            reasons.append(str(error))
    raise UnobtainableError("; ".join(dict.fromkeys(reasons)))


def where_published(published: Published) -> str:
    """Return where the user can put the file by hand, in words."""
    names = [str(torch_home() / origin.name) for origin in published.origins if isinstance(origin, UrlFile)]
    repos = [origin.repo for origin in published.origins if isinstance(origin, HubFile)]
    return " or ".join(names + [f"the Hugging Face cache ({repo})" for repo in repos])


def _local(origin: Origin) -> LocalFile | None:
    if isinstance(origin, HubFile):
        path = cached(origin)
        return LocalFile(path, _hub_url(origin, path)) if path else None
    if isinstance(origin, PackagedFile):
        return LocalFile(_check_hash(origin.path, origin.sha256_prefix)) if origin.path.is_file() else None
    path = torch_home() / origin.name
    return LocalFile(_check_hash(path, hash_in_name(origin.name)), origin.url) if path.is_file() else None


def _remote(origin: Origin, access: Access, timeouts: Timeouts) -> LocalFile:
    if isinstance(origin, HubFile):
        path = fetch_from_hub(origin, access, timeouts)
        return LocalFile(path, _hub_url(origin, path))
    if isinstance(origin, PackagedFile):
        raise UnobtainableError(f"the package {origin.package}, which contains the file, is not installed")
    target = torch_home() / origin.name
    if access.offline:
        raise UnobtainableError(f"{target} does not exist, and --offline forbids downloads")
    download(origin.url, target, hash_in_name(origin.name), access.progress, timeouts)
    return LocalFile(target, origin.url)


def _check_hash(path: Path, prefix: str | None) -> Path:
    if prefix:
        digest = sha256_of(path)
        if not digest.startswith(prefix):
            raise CheckpointError(
                f"{path} is damaged or a different file: its sha256 begins with {digest[: len(prefix)]}, not "
                f"{prefix}. Delete it and run again, or give another file with --weights."
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
    """Return whether ``HF_HUB_OFFLINE`` forbids downloads."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def cached(file: HubFile) -> Path | None:
    """Return the path of the first of the file's names that is cached, or None; a damaged file raises."""
    from huggingface_hub import try_to_load_from_cache

    for name in file.names:
        path = try_to_load_from_cache(file.repo, name, cache_dir=hub_cache(), revision=file.revision)
        if isinstance(path, str):
            return _check_hub_hash(Path(path))
    return None


def fetch_from_hub(file: HubFile, access: Access, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Path:
    """Return the file from the cache or else from the hub.

    Raises UnobtainableError when the file is not cached and downloads are forbidden, the hub cannot be
    reached in a few seconds, or has no such file; CheckpointError when the file's hash is wrong.
    """
    path = cached(file)
    if path is not None:
        return path
    if access.offline or hub_offline():
        raise UnobtainableError(f"{file.repo} is not in the Hugging Face cache ({hub_cache()})")
    return _check_hub_hash(_from_hub(file, access.progress, timeouts))


def _from_hub(file: HubFile, progress: Progress, timeouts: Timeouts) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in file.names:
        try:
            with downloading(f"{constants.ENDPOINT}/{name}", progress, timeouts):
                return Path(
                    hf_hub_download(
                        file.repo,
                        name,
                        revision=file.revision,
                        cache_dir=hub_cache(),
                        etag_timeout=timeouts.connect,
                    )
                )
        except LocalEntryNotFoundError as error:
            raise UnobtainableError(f"{file.repo}: could not reach the Hugging Face hub") from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # the errors of its HTTP library differ between versions
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnobtainableError(
                f"could not get {file.repo} from the Hugging Face hub: {reason}"
            ) from error
    raise UnobtainableError(f"{file.repo} on the Hugging Face hub does not contain {', '.join(file.names)}")


def _check_hub_hash(path: Path) -> Path:
    """Return the path; raises CheckpointError if the content's sha256 does not match the name in the cache."""
    expected = path.resolve().name
    if _SHA256.fullmatch(expected) and sha256_of(path) != expected:
        raise CheckpointError(f"{path} in the Hugging Face cache is damaged: delete it and run again.")
    return path
