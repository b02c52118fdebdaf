"""Folders: the cache, and where data sets are looked for and downloaded to."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

DATA_DIR = "PROBE_DATA_DIR"
"""Environment variable: the folder searched first for data sets, and the one that downloads go to."""

CACHE = "PROBE_CACHE"
"""Environment variable: the folder in place of the user's cache folder."""


def cache_root() -> Path:
    """Return the folder for what is computed once and kept (``$PROBE_CACHE``, else the user's cache)."""
    return _named(CACHE) or user_cache_path("cnn-probe", appauthor=False)


def named_data_root() -> Path | None:
    """Return the folder that ``$PROBE_DATA_DIR`` names, if it names one."""
    return _named(DATA_DIR)


def download_root() -> Path:
    """Return the folder that data sets are downloaded to: ``$PROBE_DATA_DIR``, else ``data`` in the cache."""
    return named_data_root() or cache_root() / "data"


def data_roots() -> tuple[Path, ...]:
    """Return the folders that may hold data sets as torchvision lays them out, in order of search.

    ``$PROBE_DATA_DIR``, ``./data``, ``~/data``, and the folder for downloads.
    """
    named = named_data_root()
    return (*([named] if named else []), Path("data"), Path("~/data").expanduser(), download_root())


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable, "").strip()
    return Path(value).expanduser() if value else None
