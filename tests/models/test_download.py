from __future__ import annotations

import hashlib
import io
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from helpers.loopback_server import Server, sends
from helpers.recording_console import Console

from probe.cli.console import Console as CommandLine
from probe.core.network import Timeouts, check_reachable
from probe.core.progress import SILENT
from probe.models.weights.fetch import UnobtainableError, download, hash_in_name

BODY = bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Timeouts(connect=2.0, silence=5.0)
IMPATIENT = Timeouts(connect=2.0, silence=0.3)
"""For servers that say nothing; on a busy machine others are silent for as long."""


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def refused(url: str, target: Path, prefix: str | None = SHA[:8], timeouts: Timeouts = QUICK) -> str:
    with pytest.raises(UnobtainableError) as caught:
        download(url, target, prefix, SILENT, timeouts)
    assert left_in(target.parent) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_file(
    server: Server, tmp_path: Path, console: Console, capfd: pytest.CaptureFixture[str]
) -> None:
    server.routes["/net-a.pth"] = sends(BODY)
    target = tmp_path / "deep" / "folder" / "net-a.pth"
    download(f"{server.url}/net-a.pth", target, SHA[:8], console, QUICK)
    assert target.read_bytes() == BODY
    assert left_in(tmp_path) == ["net-a.pth"]
    assert console.tasks == [["Downloading net-a.pth", None, 0.0]]
    assert capfd.readouterr() == ("", "")


def test_a_file_without_a_length(server: Server, tmp_path: Path, console: Console) -> None:
    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(BODY)
        handler.close_connection = True

    server.routes["/a"] = route
    download(f"{server.url}/a", tmp_path / "a", None, console, QUICK)
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_wrong_hash(server: Server, tmp_path: Path) -> None:
    server.routes["/a"] = sends(BODY[:-1] + b"x")
    message = refused(f"{server.url}/a", tmp_path / "a")
    assert SHA[:8] in message
    assert "discarded" in message


def test_a_wrong_hash_leaves_the_old_file(server: Server, tmp_path: Path) -> None:
    server.routes["/a"] = sends(b"other")
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(UnobtainableError):
        download(f"{server.url}/a", tmp_path / "a", SHA[:8], SILENT, QUICK)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert left_in(tmp_path) == ["a"]


def test_a_connection_that_is_cut(server: Server, tmp_path: Path) -> None:
    server.routes["/a"] = sends(BODY[:5000], length=len(BODY))
    assert "damaged in transit" in refused(f"{server.url}/a", tmp_path / "a")


def test_a_server_that_hangs(server: Server, tmp_path: Path) -> None:
    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[:1000])
        handler.wfile.flush()
        server.release.wait(20)
        handler.close_connection = True

    server.routes["/a"] = route
    started = time.monotonic()
    assert "timed out" in refused(f"{server.url}/a", tmp_path / "a", timeouts=IMPATIENT)
    assert time.monotonic() - started < 10


def test_a_server_that_never_answers(server: Server, tmp_path: Path) -> None:
    server.routes["/a"] = lambda handler: (
        server.release.wait(20),
        setattr(handler, "close_connection", True),
    )[1]
    assert "timed out" in refused(f"{server.url}/a", tmp_path / "a", timeouts=IMPATIENT)


@pytest.mark.parametrize(("code", "word"), [(404, "404"), (500, "500"), (403, "403")])
def test_errors_of_the_server(server: Server, tmp_path: Path, code: int, word: str) -> None:
    server.routes["/a"] = lambda handler: handler.send_error(code)
    assert word in refused(f"{server.url}/a", tmp_path / "a")


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert "cannot be reached" in refused(f"http://127.0.0.1:{port}/a", tmp_path / "a")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "nonsense", "http://"])
def test_only_http(tmp_path: Path, url: str) -> None:
    assert "http" in refused(url, tmp_path / "a")


def test_a_name_lookup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def connect(*_: object, **__: object) -> socket.socket:
        release.wait(20)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    started = time.monotonic()
    with pytest.raises(ConnectionError, match=r"did not answer within 0\.2 s"):
        check_reachable("https://example.invalid/a", Timeouts(connect=0.2))
    release.set()
    assert time.monotonic() - started < 10


def test_a_proxy_is_what_must_be_reachable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def connect(hop: object, **_: object) -> socket.socket:
        seen.append(hop)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    check_reachable("https://example.invalid/a", QUICK)
    monkeypatch.setenv("no_proxy", "example.invalid")
    check_reachable("https://example.invalid/a", QUICK)
    assert seen == [("proxy.invalid", 3128), ("example.invalid", 443)]


def test_an_interrupt_leaves_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting:
        def read(self, *_: object) -> bytes:
            raise KeyboardInterrupt

    server.routes["/a"] = sends(BODY)
    monkeypatch.setattr("http.client.HTTPResponse.read", Interrupting.read)
    with pytest.raises(KeyboardInterrupt):
        download(f"{server.url}/a", tmp_path / "a", SHA[:8], SILENT, QUICK)
    assert left_in(tmp_path) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_bars_are_drawn_on_a_terminal_that_is_not_quiet(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    server.routes["/a"] = sends(BODY)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    download(f"{server.url}/a", tmp_path / "a", None, CommandLine(quiet), QUICK)
    assert ("100%" in terminal.getvalue()) != quiet
    assert socket.getdefaulttimeout() is None


def test_a_folder_that_cannot_be_written_to(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server.routes["/a"] = sends(BODY)
    with pytest.raises(UnobtainableError, match=r"could not download .*: .*(exists|directory)"):
        download(f"{server.url}/a", tmp_path / "file" / "a", None, SILENT, QUICK)


def test_a_disk_that_is_full(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.routes["/a"] = sends(BODY)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.move", full)
    assert "No space left" in refused(f"{server.url}/a", tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("resnet18-f37072fd.pth", "f37072fd"),
        ("mnasnet0.5_top1_67.823-3ffadce67e.pth", "3ffadce67e"),
        ("efficientnet-lite0-57934424.pth", "57934424"),
        ("resnet18.pth", None),
        ("tv-resnet.pth", None),
        ("a-1234.pth", None),
    ],
)
def test_hashes_in_names(name: str, prefix: str | None) -> None:
    assert hash_in_name(name) == prefix


def test_hashes_of_all_torchvision_weights_are_found() -> None:
    from torchvision import models

    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            assert hash_in_name(weights.url.rpartition("/")[2]), weights.url
