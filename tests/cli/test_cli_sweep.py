"""``probe sweep``: what a plan means, what is made again, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import yaml

from probe.cli import main as cli
from probe.cli.commands import sweep
from probe.cli.sweep_plan import STUDIES, SweepRun, read_plan
from probe.core.errors import UsageError

COMMANDS = {name: cli.cli.get_command(click.Context(cli.cli), name) for name in STUDIES}


def plan(tmp_path: Path, content: object) -> list[SweepRun]:
    path = tmp_path / "sweep.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return read_plan(path, COMMANDS)  # type: ignore[arg-type]


def test_every_combination_is_a_command_line(tmp_path: Path) -> None:
    runs = plan(
        tmp_path,
        """
studies:
  adversarial: {eps: [0.05, 8/255], no-checks: true, resume: false}
models: [zoo:lenet, {model: "my_net.py:net", weights: my.pth}]
data: digits
options: {seed: 3, img_size: null}
""",
    )
    expected = [
        ("adversarial", "--seed", "3", "--eps", eps, "--no-checks", *model, "--data", "digits")
        for model in (("--model", "zoo:lenet"), ("--model", "my_net.py:net", "--weights", "my.pth"))
        for eps in ("0.05", "8/255")
    ]
    assert [run.words for run in runs] == expected
    assert len({run.name for run in runs}) == 4
    assert [run.name[:4] for run in runs] == ["001-", "002-", "003-", "004-"]
    assert "lenet" in runs[0].name
    assert "8-255" in runs[1].name
    assert plan(tmp_path, {"studies": "filters"})[0].words == ("filters",)
    assert [r.study for r in plan(tmp_path, {"studies": ["anatomy", "filters", "anatomy"]})] == [
        "anatomy",
        "filters",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("studies: [filters", "line 1: not YAML"),
        ("filters", "'name: value' lines"),
        ("{}", "studies is missing"),
        ("studies: filter", "no study 'filter'. Did you mean 'filters'"),
        ("study: filters", "no 'study' in a sweep. Did you mean 'studies'"),
        ("studies: {filters: {stepz: 3}}", "no option 'stepz'. Did you mean 'steps'"),
        ("studies: {filters: {out: x}}", "sets 'out' itself"),
        ("studies: {filters: {format: json}}", "sets 'format' itself"),
        ("studies: {adversarial: {no-checks: 1}}", "true or false"),
        ("studies: {adversarial: {eps: yes}}", "in quotes"),
        ("studies: {filters: 3}", "studies: filters must be"),
        ("{studies: filters, models: [[a]]}", "'model' must be a word"),
    ],
)
def test_a_plan_that_is_not_understood_ends_in_one_line(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(content)
    assert cli.run(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError):
        plan(tmp_path, content)


@pytest.mark.parametrize("name", ["nothing.yaml", "."])
def test_a_plan_that_cannot_be_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sweep", str(tmp_path / name)]) == 2
    assert "cannot be read" in capsys.readouterr().err


LENET = {"studies": {"anatomy": {"html": True}}, "models": ["zoo:lenet", "zoo:nin"]}


@pytest.mark.parametrize("more", [[], ["--jobs", "2"]])
def test_what_is_done_is_not_made_again(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(yaml.safe_dump(LENET))
    words = ["sweep", "sweep.yaml", "--out", "out", "-q", *more]
    assert cli.run(words) == 0
    assert capsys.readouterr().out.strip() == "out/index.html"
    pages = sorted(Path("out").glob("0*/results.json"))
    assert [json.loads(page.read_text())["model"]["name"] for page in pages] == ["lenet", "nin"]
    before = [page.stat().st_mtime_ns for page in pages]
    page = Path("out/index.html").read_text(encoding="utf-8")
    assert page.count("001-anatomy-zoo-lenet") >= 1
    assert cli.run(words) == 0
    assert [page.stat().st_mtime_ns for page in pages] == before
    # Another option, and a run whose report is gone, are made; the other is not.
    pages[0].unlink()
    assert cli.run(words) == 0
    assert [page.stat().st_mtime_ns == time for page, time in zip(pages, before, strict=True)] == [
        False,
        True,
    ]
    assert cli.run([*words, "--fresh"]) == 0
    assert pages[1].stat().st_mtime_ns != before[1]


def test_a_run_that_fails_is_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(yaml.safe_dump({**LENET, "models": ["zoo:lenet", "mine.py:net"]}))
    assert cli.run(["sweep", "sweep.yaml"]) == 4
    captured = capsys.readouterr()
    assert "1 of 2 runs failed" in captured.err
    assert "mine.py" in captured.err
    assert captured.out.strip() == "reports/sweep/index.html"
    Path("mine.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    made: list[str] = []
    plain = sweep.make_run
    monkeypatch.setattr(sweep, "make_run", lambda words: made.append(words[0]) or plain(words))  # type: ignore[func-returns-value]
    cli.run(["sweep", "sweep.yaml"])
    assert made[0] == "anatomy"
    assert made.count("anatomy") == 1


def test_nothing_that_can_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(yaml.safe_dump({"studies": "filters", "models": "nothing.py:net"}))
    assert cli.run(["sweep", "sweep.yaml", "--out", "out"]) == 3
    assert "nothing.py" in capsys.readouterr().err
