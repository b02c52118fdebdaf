"""What every test shares: hypothesis without deadlines, a cache of its own, no downloads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The first call of a test may import scipy or torch; a deadline would measure that.
settings.register_profile("probe", deadline=None, derandomize=True)
settings.load_profile("probe")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep caches of the person who runs the tests out of them, and what tests cache out of theirs."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PROBE_CACHE", str(folder / "probe"))
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    return folder


@pytest.fixture(scope="session")
def trained_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for slow tests of the zoo with its weights on digits: each network is trained once for all processes."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained-digits"
