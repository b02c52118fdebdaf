"""Files of weights, a server on the loopback interface, and a console that remembers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from probe.core.progress import Advance
from probe.core.seeds import scoped

Route = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A web server whose every path is a function; ``hits`` counts the requests."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.hits: list[str] = []
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.hits.append(f"{self.command} {self.path}")
                route = outer.routes.get(self.path)
                if route is None:
                    self.send_error(404)
                else:
                    route(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def sends(body: bytes, length: int | None = None, **headers: str) -> Route:
    """A route that answers with ``body``; ``length`` is what it claims to send, if not that."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Connection", "close")
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body)
        handler.close_connection = True

    return route


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    try:
        yield running
    finally:
        running.close()


class Console:
    """Progress that remembers its tasks (label, total, done) and sentences."""

    def __init__(self) -> None:
        self.tasks: list[list[object]] = []
        self.said: list[str] = []

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Advance]:
        entry: list[object] = [label, total, 0.0]
        self.tasks.append(entry)

        def advance(units: float) -> None:
            entry[2] = float(entry[2]) + units  # type: ignore[arg-type]

        yield advance

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def console() -> Console:
    return Console()


class Net(nn.Module):
    """A small network with batch normalisation, for files of weights."""

    def __init__(self, num_classes: int = 3, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def random_state(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of the network's shapes, every value drawn anew (variances positive)."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator) * 0.1
            state[key] = drawn.abs() + 0.5 if "var" in key else drawn
        else:
            state[key] = value.clone()
    return state


@pytest.fixture
def net() -> Net:
    with scoped(0, "net"):
        return Net()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
