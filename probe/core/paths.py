"""Folders: the cache, and the folders that data sets are searched in and downloaded to."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

DATA_DIR = "PROBE_DATA_DIR"
"""Environment variable: the folder that is searched first for data sets, and the folder for downloads."""

CACHE = "PROBE_CACHE"
"""Environment variable: the folder that replaces the user's cache folder."""


def cache_root() -> Path:
    """Return the cache folder (``$PROBE_CACHE``, else the user's cache)."""
    return _from_environment(CACHE) or user_cache_path("cnn-probe", appauthor=False)


def named_data_root() -> Path | None:
    """Return the folder in ``$PROBE_DATA_DIR``, None if it is not set."""
    return _from_environment(DATA_DIR)


def download_root() -> Path:
    """Return the folder for downloads of data sets: ``$PROBE_DATA_DIR``, else ``data`` in the cache."""
    return named_data_root() or cache_root() / "data"


def data_roots() -> tuple[Path, ...]:
    """Return the folders that are searched for data sets in torchvision's layout, in order.

    ``$PROBE_DATA_DIR``, ``./data``, ``~/data``, and the folder for downloads.
    """
    named = named_data_root()
    return (*([named] if named else []), Path("data"), Path("~/data").expanduser(), download_root())


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable, "").strip()
    return Path(value).expanduser() if value else None
