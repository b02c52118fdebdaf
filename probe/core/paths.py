"""Where data sets that are not part of a package are looked for, and where they are downloaded to."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

VARIABLE = "PROBE_DATA_DIR"
"""Environment variable: the folder searched first, and the one that downloads go to."""

CACHE_VARIABLE = "PROBE_CACHE"
"""Environment variable: the folder in place of the user's cache folder."""


def named_root() -> Path | None:
    """Return the folder that the environment variable names, if it names one."""
    value = os.environ.get(VARIABLE, "").strip()
    return Path(value).expanduser() if value else None


def download_root() -> Path:
    """Return the folder that downloads go to: the named one, else ``data`` in the cache folder."""
    value = os.environ.get(CACHE_VARIABLE, "").strip()
    cache = Path(value).expanduser() if value else user_cache_path("cnn-probe", appauthor=False)
    return named_root() or cache / "data"


def roots() -> tuple[Path, ...]:
    """Return the folders that may hold data sets as torchvision lays them out, in order of search.

    ``$PROBE_DATA_DIR``, ``./data``, ``~/data``, and the folder for downloads.
    """
    named = named_root()
    own = download_root()
    return (*([named] if named else []), Path("data"), Path("~/data").expanduser(), own)
