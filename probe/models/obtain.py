"""Where a weights file is: cached, packaged, or downloaded; and the sentence when it cannot be had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch.hub

from probe.models import hub
from probe.models.checkpoint import CheckpointError, sha256_of
from probe.models.download import (
    DEFAULT_TIMEOUTS,
    Timeouts,
    UnobtainableError,
    download,
    hash_in_name,
)
from probe.models.source import Access, HubFile, Origin, PackagedFile, Published, UrlFile


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


def obtain(published: Published, access: Access, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> LocalFile:
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


def places(published: Published) -> str:
    """Return where the file may be put by hand, in words."""
    names = [str(torch_home() / origin.name) for origin in published.origins if isinstance(origin, UrlFile)]
    repos = [origin.repo for origin in published.origins if isinstance(origin, HubFile)]
    return " or ".join(names + [f"the Hugging Face cache ({repo})" for repo in repos])


def _local(origin: Origin) -> LocalFile | None:
    if isinstance(origin, HubFile):
        path = hub.cached(origin)
        return LocalFile(path, _hub_url(origin, path)) if path else None
    if isinstance(origin, PackagedFile):
        return LocalFile(_checked(origin.path, origin.sha256_prefix)) if origin.path.is_file() else None
    path = torch_home() / origin.name
    return LocalFile(_checked(path, hash_in_name(origin.name)), origin.url) if path.is_file() else None


def _remote(origin: Origin, access: Access, timeouts: Timeouts) -> LocalFile:
    if isinstance(origin, HubFile):
        path = hub.fetch(origin, access, timeouts)
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
