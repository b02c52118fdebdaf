"""The words of ``probe adversarial`` and ``probe attacks``, run for real on a user's own small network and folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from probe.cli import main as cli
from probe.report.results import schema
from studies.adversarial import attack_run as campaign
from studies.adversarial.registries import CHECKS

NETWORK = """
import torch
from torch import nn

def net(num_classes=3):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )
    network.input_size = (3, 16, 16)
    return network
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network in a file, a folder of three classes with a broken picture, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("ant", "bee", "cat")):
        folder = Path("data") / name
        folder.mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 120, (16, 16, 3)) + np.eye(3)[number] * 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return ["adversarial", "-m", "net.py:net", "-d", "data", "--steps", "5", "--images", "1", "-q"]


def results(folder: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(folder) / "results.json").read_text())
    return document


def test_a_users_network_and_folder_end_in_a_report(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (Path("data") / "ant" / "broken.png").write_bytes(b"no picture")
    assert cli.run([*words, "--eps", "0.1", "--out", "out"]) == 4
    assert capsys.readouterr().out.strip().endswith("report.html")
    found = results("out")
    jsonschema.validate(found, schema())
    assert found["study"] == "adversarial"
    assert found["extra"]["verdict"]["text"]
    assert len(found["checks"]) == len(CHECKS.names())
    assert [one["name"] for one in found["data"]["skipped"]] == ["ant/broken.png"]
    assert any("few classes" in check["name"].lower() for check in found["checks"])
    assert "<script" in (Path("out") / "report.html").read_text()


def test_two_runs_with_one_seed_write_the_same_numbers(words: list[str]) -> None:
    texts = []
    for name in ("one", "two"):
        assert cli.run([*words, "--eps", "0.1", "--out", name]) == 0
        found = results(name)
        for key in ("created", "seconds", "command"):
            found.pop(key)
        texts.append(json.dumps(found))
    assert texts[0] == texts[1]


def test_an_interrupted_run_says_so_and_goes_on(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words[:-1], "--eps", "0.1", "-b", "4", "--views", "attacks", "--no-checks"]
    assert cli.run([*words, "--out", "straight"]) == 0
    batch, made = campaign.AttackRun._batch, []

    def stopping(self: Any, *arguments: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return batch(self, *arguments)

    monkeypatch.setattr(campaign.AttackRun, "_batch", stopping)
    assert cli.run([*words, "--out", "cut"]) == 130
    assert "2 finished batches are kept" in capsys.readouterr().err
    assert not Path("cut").exists()
    made.clear()
    assert cli.run([*words, "--out", "resumed", "--resume"]) == 0
    assert len(made) == 1
    one, other = results("straight"), results("resumed")
    assert one["results"] == other["results"]


def test_a_finished_run_leaves_no_journal(
    words: list[str], own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = [*words[:-1], "--eps", "0.1", "--views", "attacks", "--no-checks", "--out", "out"]
    assert cli.run(quick) == 0
    assert not list((own_cache / "probe" / "runs").glob("*"))
    assert cli.run([*quick, "--resume"]) == 0
    assert "no interrupted run" in capsys.readouterr().err


def test_another_network_can_be_compared_and_carried_over_to(words: list[str]) -> None:
    more = ["--eps", "0.1", "--against", "net.py:net", "--transfer-to", "net.py:net", "--no-checks"]
    assert cli.run([*words, *more, "--out", "out"]) == 0
    names = [one["name"] for one in results("out")["results"]]
    assert any(name.startswith("difference@") for name in names)
    assert any(name.startswith("transfer:") for name in names)
    difference = next(r for r in results("out")["results"] if r["name"].startswith("difference@0.1"))
    assert difference["value"] == 0.0


def test_a_network_given_twice_gets_the_same_pixels_twice(words: list[str]) -> None:
    """Its size and normalisation are given once; size and brightness change its answers."""
    text = NETWORK.replace("AdaptiveAvgPool2d(1)", "AdaptiveMaxPool2d(1)")
    Path("net.py").write_text(text.replace("    network.input_size = (3, 16, 16)\n", ""))
    more = ["--eps", "0.02,0.1", "--mean", "0.7", "--std", "0.05", "--no-checks", "--views", "against"]
    assert cli.run([*words, *more, "--against", "net.py:net", "--out", "out"]) == 0
    found = results("out")
    compared = [one for one in found["results"] if one["name"].startswith("difference@")]
    assert len(compared) >= 3
    assert all(one["value"] == 0 and one["unit"] == "points" for one in compared)
    assert any("net" in line and "input size and normalisation" in line for line in found["warnings"])


def test_the_weights_of_the_second_network_have_their_own_option(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("random.py").write_text(NETWORK.replace("    torch.manual_seed(0)\n", ""))
    assert cli.run([*words, "--eps", "0.1", "--against", "random.py:net", "--out", "out"]) == 3
    message = capsys.readouterr().err
    assert "--against-weights FILE" in message
    assert " --weights" not in message


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--eps", "8"], "8/255"),
        (["--eps", "a"], "is not an epsilon"),
        (["--norm", "L3"], "no norm 'L3'"),
        (["--attack", "pgdd"], "Did you mean 'pgd'"),
        (["--attack", "pgd?steps=many"], "an int such as"),
        (["--attack", "cw"], "supports L2"),
        (["--target", "dog"], "no class 'dog'"),
        (["--views", "nosuch"], "no view 'nosuch'"),
        (["--checks", "nosuch"], "no check 'nosuch'"),
    ],
)
def test_what_does_not_fit_is_one_line_and_code_2(
    words: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*words, *more, "--out", "out"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not Path("out").exists()


def test_help_is_light_and_lists_views_and_checks() -> None:
    code = (
        "import sys; from probe.cli import main as cli; code = cli.run(['adversarial', '--help']);"
        "print('LOADED', [m for m in ('torch', 'scipy', 'numpy', 'PIL', 'captum', 'foolbox') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr
    for word in ("curve", "zero-gradients", "probe adversarial --eps 0.03"):
        assert word in done.stdout


def test_attacks_are_listed_and_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["attacks"]) == 0
    whole = capsys.readouterr().out
    assert "apgd-ce" in whole
    assert "hopskipjump" in whole
    assert cli.run(["attacks", "L0"]) == 0
    sparse = capsys.readouterr().out
    assert "onepixel" in sparse
    assert "apgd-ce" not in sparse
