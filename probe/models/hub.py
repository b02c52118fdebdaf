"""Files from the Hugging Face hub, through huggingface_hub and its cache."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from probe.core.progress import Advance, Progress
from probe.models.checkpoint import CheckpointError, sha256_of
from probe.models.download import DEFAULT_TIMEOUTS, Timeouts, UnobtainableError, check_reachable
from probe.models.source import Access, HubFile

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
            return _checked(Path(found))
    return None


def fetch(file: HubFile, access: Access, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Path:
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
    return _checked(_download(file, access.progress, timeouts))


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


def _checked(path: Path) -> Path:
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
