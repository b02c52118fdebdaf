"""What becomes of a finished report: --format json, --fail-under, exit codes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from helpers.cli_networks import MODEL, break_one, make, strict, values

from probe.cli import main as cli
from probe.cli.gates import ResultGate, check_gates
from probe.core.document import Report, Result, Section
from probe.core.errors import GateFailedError, UsageError
from probe.core.subject import DataInfo, ModelInfo

QUICK = ["filters", *MODEL, "-d", "data", "--views", "weights", "--out", "out"]
LOUD = [word for word in QUICK if word != "-q"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path)


def report(*results: Result, section: tuple[Result, ...] = ()) -> Report:
    model = ModelInfo("net", "net", "none", None, 1, None, (3, 4, 4), 2)
    return Report(
        study="filters",
        title="t",
        model=model,
        data=DataInfo("data", 1, 1, True),
        config={},
        environment={},
        seed=0,
        command="",
        created="",
        seconds=0.0,
        headline=(),
        sections=(Section("s", "S", results=section),),
        results=results,
    )


FOUND = report(
    Result("accuracy", 0.5, 20, (0.3, 0.7), "proportion", True),
    Result("success_rate", 0.4, 10, (0.2, 0.6), "proportion", False),
    Result("nothing", None, 0),
    Result("nan", math.nan, 3),
    Result("infinite", math.inf, 3),
    Result("count", 7),
    Result("verdict", "reliable"),
    section=(Result("robust_accuracy:pgd?steps=100", 0.25, 8, (0.1, 0.6), "proportion", True),),
)


@pytest.mark.parametrize(
    ("name", "threshold", "on", "passes"),
    [
        ("accuracy", 0.5, "value", True),
        ("accuracy", 0.5000001, "value", False),
        ("accuracy", 0.3, "interval", True),
        ("accuracy", 0.31, "interval", False),
        ("success_rate", 0.4, "value", True),
        ("success_rate", 0.39, "value", False),
        ("success_rate", 0.6, "interval", True),
        ("success_rate", 0.59, "interval", False),
        ("nothing", -1.0, "value", False),
        ("nan", -1.0, "value", False),
        ("infinite", 1e300, "value", True),
        ("count", 7.0, "value", True),
        ("count", 8.0, "value", False),
        ("robust_accuracy:pgd?steps=100", 0.25, "value", True),
    ],
)
def test_a_gate_compares_the_value_or_the_worse_end(
    name: str, threshold: float, on: Any, passes: bool
) -> None:
    if passes:
        check_gates(FOUND, [ResultGate(name, threshold)], on)
        return
    with pytest.raises(GateFailedError) as caught:
        check_gates(FOUND, [ResultGate(name, threshold)], on)
    assert name in str(caught.value)
    assert f"{threshold:g}" in str(caught.value)


def test_what_fails_is_told_with_value_interval_n_and_threshold() -> None:
    with pytest.raises(GateFailedError) as caught:
        check_gates(
            FOUND, [ResultGate("accuracy", 0.9), ResultGate("count", 7), ResultGate("success_rate", 0.1)]
        )
    assert str(caught.value) == (
        "accuracy = 0.5 [0.3, 0.7] (n = 20) is below 0.9; "
        "success_rate = 0.4 [0.2, 0.6] (n = 10) is above 0.1, and lower is better."
    )


@pytest.mark.parametrize(
    ("name", "on", "says"),
    [
        ("acuracy", "value", "no result 'acuracy'. Did you mean 'accuracy'"),
        ("verdict", "value", "'reliable', and cannot be compared"),
        ("count", "interval", "has no interval"),
    ],
)
def test_what_cannot_be_compared_is_a_usage_error(name: str, on: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_gates(FOUND, [ResultGate("accuracy", 0.9), ResultGate(name, 0)], on)
    assert says in str(caught.value)


@pytest.mark.usefixtures("here")
def test_json_is_the_file_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*LOUD, "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert captured.out == Path("out/results.json").read_text(encoding="utf-8")
    assert strict(captured.out)["study"] == "filters"
    assert captured.err.splitlines()[-1] == "Report: out/report.html"
    assert cli.run([*QUICK, "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == Path("out/results.json").read_text(encoding="utf-8")


@pytest.mark.usefixtures("here")
def test_a_failed_gate_is_one_line_and_code_1_and_the_report_stays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    break_one(Path())
    assert cli.run([*QUICK, "--fail-under", "accuracy=0"]) == 4
    capsys.readouterr()
    # A gate goes before skipped inputs.
    assert cli.run([*QUICK, "--fail-under", "accuracy=0", "--fail-under", "accuracy=1.5"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "out/report.html\n"
    assert captured.err.startswith(f"probe: accuracy = {values('out')['accuracy']:.6g} [")
    assert captured.err.count("\n") == 1
    assert "(n = 12) is below 1.5" in captured.err


@pytest.mark.usefixtures("here")
def test_an_unknown_result_keeps_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*QUICK, "--fail-under", "acuracy=0.1"]) == 2
    error = capsys.readouterr().err
    assert "accuracy" in error
    assert "The report was written: out/report.html" in error
    assert Path("out/report.html").exists()


@pytest.mark.usefixtures("here")
def test_the_gate_of_an_attack_leaves_no_journal_behind(own_cache: Path) -> None:
    words = [
        "adversarial",
        *MODEL,
        "-d",
        "data",
        "--eps",
        "0.1",
        "--steps",
        "2",
        "--views",
        "attacks",
        "--no-checks",
    ]
    assert cli.run([*words, "--out", "out", "--fail-under", "robust_accuracy=2"]) == 1
    assert not list((own_cache / "probe" / "runs").glob("*"))


@pytest.mark.parametrize("words", ["accuracy", "accuracy=", "=0.5", "accuracy=half", "accuracy=nan", "a=inf"])
def test_what_is_no_gate_is_refused_before_anything_is_loaded(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["filters", "--fail-under", words]) == 2
    captured = capsys.readouterr()
    assert "is not NAME=VALUE" in captured.err
    assert captured.out == ""
