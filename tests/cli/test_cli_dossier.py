"""``probe dossier`` on a user's own small network and folder: four reports that belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from probe.cli import main as cli
from probe.report.results import schema

NETWORK = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.bn(self.conv(x)))

def net(num_classes=3):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), Block(6), Block(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, num_classes),
    )
    network.input_size = (3, 16, 16)
    return network
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("ant", "bee", "cat")):
        folder = Path("data") / name
        folder.mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 120, (16, 16, 3)) + np.eye(3)[number] * 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return [
        "dossier",
        "-m",
        "net.py:net",
        "--weights",
        "none",
        "-d",
        "data",
        "--quick",
        "-q",
        "--mean",
        "0.5",
        "--std",
        "0.5",
    ]


def results(folder: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema())
    return document


def test_four_reports_that_link_to_each_other(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*words, "--layers", "2", "--eps", "0.1", "--out", "out"]) == 0
    assert capsys.readouterr().out.strip() == str(Path("out") / "report.html")
    found = results("out")
    page = (Path("out") / "report.html").read_text(encoding="utf-8")
    assert found["study"] == "dossier"
    for name in ("filters", "adversarial", "ablation"):
        assert results(f"out/{name}")["study"] == name
        assert f'href="{name}/report.html"' in page
        assert f"{name}/report.html" in found["artifacts"]
    names = [one["name"] for one in found["results"]]
    assert len(names) == len(set(names))
    assert "without_block:2:attacked" in names
    assert any(name.startswith("correlation:2.conv:") for name in names)
    assert found["config"]["measured channels"] == {"2.conv": [0, 1, 2, 3, 4, 5]}
    checks = {check["name"]: check["status"] for check in found["checks"]}
    assert checks["The adversarial study's own checks"] == "warn"
    assert any("Nothing was trained" in line for line in found["headline"])
    assert "Optimised picture that excites channel" in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--eps", "0.1,0.2"], "one --eps"),
        (["--eps", "0"], "one --eps"),
        (["--norm", "L7"], "L7"),
        (["--layers", "head"], "no convolution 'head'"),
    ],
)
def test_bad_words_end_in_one_line(
    words: list[str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*words, *more, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("out").exists()


def test_an_interrupted_dossier_goes_on(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_cache: Path
) -> None:
    words = [word for word in words if word != "-q"]
    assert cli.run([*words, "--out", "straight"]) == 0

    def stopping(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("studies.filters.views.features._part", stopping)
        assert cli.run([*words, "--out", "cut"]) == 130
    assert "finished parts are kept: add --resume" in capsys.readouterr().err

    def attacked_again(*_arguments: object) -> None:
        raise AssertionError("the attack is kept")

    with monkeypatch.context() as patched:
        patched.setattr("studies.adversarial.attack_run.AttackRun._batch", attacked_again)
        assert cli.run([*words, "--out", "resumed", "--resume"]) == 0
    for part in ("", "filters", "adversarial"):
        found = [results(str(Path(name, part)))["results"] for name in ("straight", "resumed")]
        assert [one for one in found[0] if "second" not in one["name"]] == [
            one for one in found[1] if "second" not in one["name"]
        ]
    assert not list((own_cache / "probe" / "runs").glob("*"))
