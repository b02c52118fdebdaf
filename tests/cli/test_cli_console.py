"""What is seen while and after a study runs: on a terminal, in a pipe, and when quiet."""

from __future__ import annotations

import dataclasses
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.cli_networks import make
from rich.console import Console as RichConsole

from probe.cli.console import Console, summary
from probe.core.document import Check, Report, Result
from probe.core.subject import DataInfo, ModelInfo

REPORT = Report(
    study="adversarial",
    title="t",
    model=ModelInfo("net", "net", "none", None, 1, None, (3, 4, 4), 2),
    data=DataInfo("data", 20, 20, True),
    config={},
    environment={},
    seed=0,
    command="",
    created="",
    seconds=0.0,
    headline=("Half of the images stand.",),
    sections=(),
    results=(
        Result("robust_accuracy", 0.5, 20, (0.299, 0.701), "proportion", True),
        Result("size", 0.0123456, 1234, None, "Linf"),
        Result("nothing", None, 0),
        Result("verdict", "reliable"),
        *(Result(f"further {i}", i) for i in range(9)),
    ),
    checks=(Check("noise", "warn", 1, "d"), Check("steps", "pass", 1, "d")),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(text: str) -> str:
    """The text without the codes that colour and move."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def told(report: Report, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal shows at the end."""
    out = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setenv("COLUMNS", "100")
        patch.setenv("TERM", "xterm")
        summary(report, "out/report.html", Console())
    return drawn(out.getvalue())


def test_a_terminal_gets_the_numbers_with_n_intervals_and_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = told(REPORT, monkeypatch).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert lines[0] == "• Half of the images stand."
    assert rows["robust_accuracy"] == ["50.0%", "29.9%", "to", "70.1%", "20"]
    assert rows["size"] == ["0.01235", "Linf", "–", "1,234"]
    assert rows["nothing"] == ["–", "–", "0"]
    assert "verdict" not in rows
    assert "and 4 more in results.json" in lines
    assert lines[-2].startswith("With reservations – 1 of 2 checks warns – noise")
    assert lines[-1] == "out/report.html"


def test_names_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    report = dataclasses.replace(REPORT, results=(Result("[red]a[/nothing]", 1.0),))
    assert "[red]a[/nothing]" in told(report, monkeypatch)


def test_a_pipe_gets_sentences_and_the_path(capsys: pytest.CaptureFixture[str]) -> None:
    summary(REPORT, "out/report.html", Console())
    assert capsys.readouterr().out == "• Half of the images stand.\nout/report.html\n"


def test_quiet_says_the_path_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    with console.task("Attacking", 3) as advance:
        advance(3)
        console.say("something")
    summary(REPORT, "out/report.html", console)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("out/report.html\n", "")


def test_a_pipe_gets_one_line_a_step() -> None:
    err = io.StringIO()
    console = Console(err=err)
    with console.task("Checking", 2) as advance:
        advance(1)
        with console.task("Transfer", 1) as inner:
            inner(1)
        advance(1)
    assert err.getvalue() == "Checking …\nTransfer …\n"


def test_a_step_inside_another_has_its_own_bar_and_sentences_stay_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    err = io.StringIO()

    def rich(**how: Any) -> RichConsole:
        return RichConsole(**{**how, "file": err}, force_terminal=True, width=100, legacy_windows=False)

    monkeypatch.setattr("rich.console.Console", rich)
    console = Console(err=err)
    seen: list[tuple[str, float]] = []

    def work() -> None:
        with console.task("Outer", 2) as advance:
            advance(1)
            with console.task("Inner", 4) as inner:
                inner(4)
                seen.extend((task.description, task.completed) for task in console._bars.tasks)  # type: ignore[union-attr]
                console.say("a sentence between")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == [("Outer", 1), ("Inner", 4)]
    assert console._bars is None
    assert "a sentence between\n" in drawn(err.getvalue()).replace("\r", "")
    with console.task("Next", 1):
        assert console._bars is not None
        assert [task.description for task in console._bars.tasks] == ["Next"]


def test_a_real_terminal_shows_bars_and_the_table(tmp_path: Path) -> None:
    make(tmp_path)
    leader, follower = pty.openpty()
    words = "filters -m net.py:net --mean 0.5 --std 0.5 -d data --views weights --out out"
    code = "import sys; from probe.cli import main as cli; sys.exit(cli.run(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, *words.split()],
        cwd=tmp_path,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as run:
        os.close(follower)
        parts = []
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(leader)
    text = drawn(b"".join(parts).decode())
    assert run.returncode == 0
    assert re.search(r"Running the images\s+━+\s+100%", text)
    assert re.search(r"accuracy\s+33\.3%\s+13\.8% to 60\.9%\s+12", text)
    assert text.rstrip().endswith("out/report.html")


def test_output_that_nobody_reads_any_more_is_no_defect() -> None:
    code = "import sys; from probe.cli import main as cli; sys.exit(cli.run(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        errors = run.stderr.read()
    assert run.returncode == 141
    assert errors == b""
