"""``probe anatomy``: what it prints, what it writes, which words it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from probe.cli import main as cli

RESNET = ["anatomy", "-m", "torchvision:resnet18", "--img-size", "32", "--offline"]


def test_the_table_lists_layers_and_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(RESNET) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["#", "layer", "kind", "kernel"]
    assert lines[1].split()[:6] == ["1", "conv1", "conv", "7×7", "2", "3"]
    assert sum(line[:1].isdigit() for line in lines) == 23
    assert any("█" in line for line in lines)
    assert any(line.startswith("• resnet18 has 11,689,512 parameters") for line in lines)


def test_json_has_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*RESNET, "--format", "json", "-q"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["totals"]["parameters"] == 11_689_512
    assert values["paths"]["count"] == 256
    assert next(row["name"] for row in values["layers"] if row["layer"]) == "conv1"


def test_json_is_all_that_stdout_gets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*RESNET, "--format", "json", "--out", str(tmp_path / "report")]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["totals"]["parameters"] == 11_689_512
    assert captured.err.splitlines()[-1] == f"Report: {tmp_path / 'report' / 'report.html'}"


def test_a_report_is_written_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "report"
    assert cli.run([*RESNET, "--out", str(folder), "-q"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["study"] == "anatomy"


def test_two_networks_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = "torchvision:resnet18,torchvision:squeezenet1_1"
    words = ["anatomy", "--compare", names, "--img-size", "64", "--offline", "--out", str(tmp_path / "both")]
    assert cli.run(words) == 0
    out = capsys.readouterr().out
    parameters = next(line for line in out.splitlines() if line.startswith("parameters"))
    assert parameters.split()[1:4] == ["11,689,512", "1,235,496", "-10,454,016"]
    assert out.splitlines()[-1].endswith("report.html")


def test_two_builds_of_one_family_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["zoo:resnet?depth=8", "zoo:resnet?depth=8&shortcut=False"]
    assert cli.run(["anatomy", "--compare", ",".join(names), "--offline"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = next(line for line in lines if line.startswith("total"))
    assert all(name in heads for name in names)
    paths = next(line for line in lines if line.startswith("paths "))
    assert paths.split()[1:5] == ["2^3", "=", "8", "1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--compare resnet18", "takes two names"),
        ("--compare a,b,c", "takes two names"),
        ("--compare a,b --model c", "remove --model"),
        ("--model nosuchnetwork", "no model 'nosuchnetwork'"),
        ("--img-size 0", "neither a side length"),
        ("--format yaml", "yaml"),
    ],
)
def test_usage_errors_are_one_line_and_code_2(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["anatomy", "--offline", *words.split()]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""


def test_help_loads_nothing_heavy_and_says_what_flops_are() -> None:
    code = (
        "import sys; from probe.cli import main as cli; cli.run(['anatomy', '--help']);"
        "print('LOADED', [m for m in ('torch', 'numpy', 'timm', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert "FLOPs = 2 × MACs" in done.stdout


def test_charts_are_written_as_files(tmp_path: Path) -> None:
    words = ["anatomy", "-m", "zoo:lenet", "-q", "--out", str(tmp_path / "a"), "--figures", "svg"]
    assert cli.run(words) == 0
    files = sorted(path.name for path in (tmp_path / "a" / "figures").iterdir())
    assert files
    assert all(name.endswith(".svg") for name in files)
