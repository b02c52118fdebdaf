"""Full disks, places that cannot be written, and stdout and stderr of every kind: nothing that was computed is lost."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from probe.cli import main as cli
from probe.cli.shared import check_place
from probe.core.errors import CannotRunError
from tests.helpers import cli_networks

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
WORDS = ["filters", *cli_networks.MODEL, "-d", "data", "--views", "weights", "--out", "out"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cli_networks.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(folder: Path, redirection: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = " ".join([sys.executable, "-m", "probe", *WORDS[:-2], "--out", "out"])
    return subprocess.run(
        ["sh", "-c", f"{words} {redirection}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )


@pytest.mark.parametrize("redirection", [">&- 2>&-", "2>/dev/full"])
def test_a_closed_stdout_or_a_full_stderr_is_no_error(folder: Path, redirection: str) -> None:
    done = started(folder, redirection)
    assert done.returncode == 0
    assert (folder / "out" / "report.html").is_file()


def test_a_stdout_of_ascii_gets_the_report_too(folder: Path) -> None:
    done = started(folder, "", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "out/report.html"
    assert done.stdout.isascii()


def test_a_full_stdout_is_said_once(folder: Path) -> None:
    done = started(folder, ">/dev/full")
    assert done.returncode == 3
    assert "out/report.html" in done.stderr
    assert "No space left" in done.stderr
    assert (folder / "out" / "report.html").is_file()


def test_a_report_that_cannot_be_written_is_written_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from probe.report import render

    write = render.write_together

    def only_elsewhere(place: Path, contents: Any) -> None:
        if place.name == "out":
            raise FULL
        write(place, contents)

    monkeypatch.setattr(render, "write_together", only_elsewhere)
    assert cli.run(WORDS) == 3
    error = capsys.readouterr().err
    found = re.search(r"written to (\S+report\.html) instead", error)
    assert found is not None, error
    assert "No space left" in error
    assert "filters" in Path(found[1]).read_text()


def test_an_unwritable_place_is_refused_before_anything_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("probe.models.pair.load_both", lambda *_, **__: pytest.fail("it was loaded"))
    (folder / "file").write_text("x")
    for out in ("file/below", "/proc/nothing"):
        assert cli.run([*WORDS[:-1], out]) == 3
        error = capsys.readouterr().err
        assert out in error
        assert "--out" in error


def test_checking_a_place_leaves_nothing_behind(tmp_path: Path) -> None:
    check_place(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CannotRunError):
        check_place(Path("/proc/nothing"))


def test_digits_weights_are_used_where_they_cannot_be_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROBE_CACHE", "/proc/nothing")
    words = ["filters", "-m", "zoo:lenet", "--weights", "digits", "--views", "weights", "--out", "out"]
    assert cli.run(words) == 0
    assert "PROBE_CACHE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [(FULL, "No space left"), (MemoryError(), "memory"), (RuntimeError("CUDA out of memory."), "memory")],
)
def test_the_ends_of_the_machine_are_no_bugs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fails)
    assert cli.run(["models"]) == 3
    shown = capsys.readouterr().err
    assert words in shown
    assert "bug in probe" not in shown
    assert "own code" not in shown
