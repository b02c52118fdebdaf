"""Fixtures of the tests of models: a server, a console and a network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.loopback_server import Server
from helpers.recording_console import Console
from helpers.weight_files import Net

from probe.core.seeds import scoped


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture
def net() -> Net:
    with scoped(0, "net"):
        return Net()
