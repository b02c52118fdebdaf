"""The words of ``probe doctor``, run for real on a user's own small networks, losses and folders."""

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

class Scale(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)

def build(middle, num_classes=3):
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, num_classes),
    )
    network.input_size = (3, 16, 16)
    return network

def net():
    return build(nn.Identity())

def two():
    return build(nn.Identity(), 2)

def divides():
    return build(Scale(lambda x: x / (x - x)))

def broken():
    network = build(nn.Identity())
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] = float("nan")
    return network

def dark():
    torch.manual_seed(0)
    network = build(nn.Identity())
    with torch.no_grad():
        network[0].bias.fill_(-50.0)
    return network

def raises():
    def refuse(x):
        if torch.is_grad_enabled():
            raise RuntimeError("not in training")
        return x
    return build(Scale(refuse))
"""

LOSSES = """
import torch

def entropy(logits, labels):
    p = torch.softmax(logits, 1)
    return -torch.log(p - p)[torch.arange(len(labels)), labels].mean()

def each(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Networks and losses in files, a folder of three classes, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)
    Path("losses.py").write_text(LOSSES)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("ant", "bee", "cat")):
        folder = Path("data") / name
        folder.mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 60, (16, 16, 3)) + np.eye(3)[number] * 180
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    normal = ("--mean", "0.25", "--std", "0.3")
    return ["doctor", "-d", "data", "-q", "--steps", "25", "--train-batch", "8", "--lr", "0.02", *normal]


def run(words: list[str], *more: str) -> dict[str, Any]:
    assert cli.run([*words, *more, "--out", "out"]) == 0
    document: dict[str, Any] = json.loads((Path("out") / "results.json").read_text())
    jsonschema.validate(document, schema())
    assert document["study"] == "doctor"
    return document


def test_a_healthy_network_has_a_report_that_says_so(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(words, "-m", "net.py:net")
    assert found["extra"]["cause"] is None
    assert found["extra"]["healthy"] is True
    assert found["headline"][0].startswith("No fault found in 25 steps")
    assert {one["verdict"] for one in found["extra"]["diagnoses"]} <= {"not found", "not tested"}
    names = [one["name"] for one in found["results"]]
    assert {"loss_before", "loss_after", "largest_stable_learning_rate", "dead_units_after"} <= set(names)
    page = (Path("out") / "report.html").read_text()
    for title in (
        "Loss of each batch",
        "Gradient norms during the run",
        "Dead units",
        "learning rate",
    ):
        assert title in page
    assert capsys.readouterr().out.strip().endswith("report.html")


@pytest.mark.parametrize(
    ("model", "more", "cause"),
    [
        ("net.py:two", (), "labels"),
        ("net.py:divides", (), "undefined-operation"),
        ("net.py:broken", (), "weights-not-finite"),
        ("net.py:dark", (), "dead-relus"),
        ("net.py:net", ("--loss", "losses.py:entropy"), "undefined-loss"),
        ("net.py:net", ("--std", "0.0001", "--optimiser", "sgd"), "input-scale"),
        ("net.py:net", ("--optimiser", "sgd", "--lr", "100"), "learning-rate"),
    ],
)
def test_a_planted_cause_is_named_first(
    words: list[str], model: str, more: tuple[str, ...], cause: str
) -> None:
    found = run(words, "-m", model, *more)
    assert found["extra"]["cause"] == cause, found["headline"]
    assert found["headline"][0].startswith("Cause: ")
    assert found["headline"][1].startswith("What to change: ")
    assert found["extra"]["diagnoses"][0]["verdict"] in ("cause", "probable cause")


def test_the_place_in_the_users_file_is_told(words: list[str]) -> None:
    line = 1 + NETWORK.splitlines().index("    return build(Scale(lambda x: x / (x - x)))")
    assert f"(net.py, line {line})" in run(words, "-m", "net.py:divides")["headline"][0]
    line = 1 + LOSSES.splitlines().index(next(one for one in LOSSES.splitlines() if "torch.log" in one))
    found = run(words, "-m", "net.py:net", "--loss", "losses.py:entropy")
    assert f"(losses.py, line {line})" in found["headline"][0]


def test_without_a_sweep_no_rate_is_tried(words: list[str]) -> None:
    found = run(words, "-m", "net.py:net", "--no-sweep")
    assert "suggested_learning_rate" not in [one["name"] for one in found["results"]]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--lr", "-1"), 2, "above 0"),
        (("--lr", "nan"), 2, "above 0"),
        (("--optimiser", "adam"), 2, "adam"),
        (("--loss", "losses.py"), 2, "path/to/file.py:FUNCTION"),
        (("--loss", "losses.py:missing"), 2, "missing"),
        (("--loss", "none.py:loss"), 2, "none.py"),
        (("--loss", "losses.py:each"), 2, "not one number"),
        (("-d", "flat"), 3, "no labels"),
        (("-m", "net.py:raises"), 3, "not in training"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], more: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("flat").mkdir()
    Image.new("RGB", (16, 16)).save(Path("flat") / "one.png")
    assert cli.run([*words, "-m", "net.py:net", *more, "--out", "out"]) == code
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert not Path("out").exists()


def test_a_skipped_picture_is_told_by_the_exit_code(words: list[str]) -> None:
    (Path("data") / "ant" / "broken.png").write_bytes(b"no picture")
    assert cli.run([*words, "-m", "net.py:net", "--no-sweep", "--out", "out"]) == 4


def test_help_lists_every_cause_without_loading_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from probe.cli.commands.doctor import command; import click; "
        "print(command.get_help(click.Context(command))); print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "undefined-loss" in said
    assert said.strip().endswith("False")
