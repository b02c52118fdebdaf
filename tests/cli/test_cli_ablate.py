"""The words of ``probe ablate`` and ``probe structures``, run for real on a user's own small network and folder."""

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
from studies.ablation import arms, retrain

NETWORK = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
        )

    def forward(self, x):
        return torch.relu(x + self.body(x))

def net(num_classes=3, depth=2):
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), *[Block(6) for _ in range(depth)],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(6, num_classes),
    )
    network.input_size = (3, 16, 16)
    return network
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network in a file, a folder of three classes, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("ant", "bee", "cat")):
        folder = Path("data") / name
        folder.mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 120, (16, 16, 3)) + np.eye(3)[number] * 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return [
        *(
            "ablate",
            "-m",
            "net.py:net",
            "--weights",
            "none",
            "-d",
            "data",
            "-q",
            "--mean",
            "0.5",
            "--std",
            "0.5",
        ),
        *("--epochs", "2", "--seeds", "2", "--jobs", "1", "--train-batch", "8", "--draws", "2"),
    ]


def results(folder: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(folder) / "results.json").read_text())
    return document


def numbers(folder: str) -> str:
    found = results(folder)
    for key in ("created", "seconds", "command"):
        found.pop(key)
    return json.dumps(found)


def test_a_users_network_and_folder_end_in_a_report(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (Path("data") / "ant" / "broken.png").write_bytes(b"no picture")
    code = cli.run(
        [
            *words,
            "--remove",
            "shortcut,dropout,lrn",
            "--also",
            "robustness,calibration,landscape",
            "--out",
            "out",
        ]
    )
    assert code == 4
    assert capsys.readouterr().out.strip().endswith("report.html")
    found = results("out")
    jsonschema.validate(found, schema())
    assert found["study"] == "ablation"
    names = [one["name"] for one in found["results"]]
    assert len(names) == len(set(names))
    for name in (
        "intact_accuracy",
        "lesion_accuracy:shortcut:all",
        "lesion_p_holm:shortcut:1",
        "recalibrated_accuracy:shortcut:all",
        "retrain_accuracy:intact",
        "retrain_worth:shortcut",
        "retrain_worth:dropout",
        "retrain_accuracy:shortcut+dropout",
        "retrain_robust_accuracy:intact",
        "retrain_calibration_error:shortcut",
        "retrain_landscape_rise:shortcut",
        "voting_accuracy:mean_of_100_masks",
        "voting_trained_loss:weight_scaling",
        "ensemble_accuracy:without_dropout:2_networks",
        "coadaptation_correlation:difference",
    ):
        assert name in names, name
    values = {one["name"]: one for one in found["results"]}
    worth = values["retrain_worth:shortcut"]
    lost = values["retrain_accuracy:intact"]["value"] - values["retrain_accuracy:shortcut"]["value"]
    assert worth["unit"] == "points"
    assert worth["value"] == pytest.approx(100 * lost)
    page = (Path("out") / "report.html").read_text()
    assert "has no lrn to remove" in page
    assert "Dropout works while a network is trained" in page
    assert "measurably better than guessing" in page


def test_two_runs_with_one_seed_write_the_same_numbers(words: list[str]) -> None:
    for name in ("one", "two"):
        assert cli.run([*words, "--out", name]) == 0
    assert numbers("one") == numbers("two")


def test_two_processes_give_the_numbers_of_one(words: list[str]) -> None:
    jobs = words.index("--jobs") + 1
    for count in ("1", "2"):
        words[jobs] = count
        assert cli.run([*words, "--mode", "retrain", "--out", f"jobs{count}"]) == 0
    one, two = (json.loads(numbers(f"jobs{count}")) for count in (1, 2))
    assert one["results"] == two["results"]


def test_an_interrupted_run_goes_on_to_the_same_numbers(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, "--mode", "retrain"]
    assert cli.run([*words, "--out", "whole"]) == 0
    done: list[str] = []
    train = retrain.train_arm

    def interrupted(job: tuple[arms.Setting, arms.Arm]) -> arms.TrainedArm:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job[1].key)
        return train(job)

    with monkeypatch.context() as patch:
        patch.setattr(retrain, "train_arm", interrupted)
        assert cli.run([*words, "--out", "cut"]) == 130
    assert not Path("cut").exists()
    again: list[str] = []

    def counted(job: tuple[arms.Setting, arms.Arm]) -> arms.TrainedArm:
        again.append(job[1].key)
        return train(job)

    monkeypatch.setattr(retrain, "train_arm", counted)
    assert cli.run([*words, "--resume", "--out", "resumed"]) == 0
    assert len(again) == 2
    assert not set(again) & set(done)
    assert results("whole")["results"] == results("resumed")["results"]
    capsys.readouterr()


def test_depths_sweep_the_factorys_argument(words: list[str]) -> None:
    assert cli.run([*words, "--mode", "retrain", "--depths", "1,3", "--seeds", "1", "--out", "deep"]) == 0
    found = {one["name"]: one["value"] for one in results("deep")["results"]}
    assert {"retrain_accuracy:intact@1", "retrain_accuracy:shortcut@3"} <= found.keys()


def test_unlabelled_images_are_judged_by_the_networks_own_answer(words: list[str]) -> None:
    flat = Path("flat")
    flat.mkdir()
    for path in Path("data").rglob("*.png"):
        path.rename(flat / f"{path.parent.name}{path.name}")
    words[words.index("data")] = "flat"
    assert cli.run([*words, "--out", "out"]) == 0
    found = {one["name"]: one["value"] for one in results("out")["results"]}
    assert found["intact_agreement"] == 1.0
    assert not any(name.startswith("retrain") for name in found)
    assert "no labels" in (Path("out") / "report.html").read_text()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--remove", "shortcuts"], 2, "Did you mean 'shortcut'"),
        (["--remove", "pool?to=median"], 2, "median"),
        (["--sites", "9"], 2, "There is no shortcut '9'"),
        (["--also", "speed"], 2, "robustness, calibration and landscape"),
        (["--depths", "0x"], 2, "not a list of numbers"),
        (["--eps", "8", "--also", "robustness"], 2, "8/255"),
        (["--mode", "retrain", "--remove", "lrn"], 3, "no lrn to remove"),
        (["--cluster", "tcp://127.0.0.1:1", "--mode", "retrain"], 3, "scheduler"),
        (["--held-out", "0.9"], 2, "at most 0.5"),
    ],
)
def test_bad_words_end_in_one_line(
    words: list[str], more: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*words, *more, "--out", "out"]) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not Path("out").exists()


def test_structures_lists_every_site(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["structures", "-m", "net.py:net", "--weights", "none", "-d", "data", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines]
    assert [row[1] for row in rows if row[:1] == ["shortcut"]] == ["1", "2"]
    block = next(row for row in rows if row[:1] == ["block"])
    assert block[-2] == f"{2 * (9 * 36 + 6 + 12):,}"
    assert block[-1] == f"{2 * 9 * 36 * 64:,}"


def test_help_loads_none_of_the_heavy_packages() -> None:
    heavy = ("torch", "timm", "sklearn", "scipy", "torchvision", "joblib", "numpy")
    code = (
        "import sys; from probe.cli import main as cli; code = cli.run(['ablate', '--help']);"
        f"print('LOADED', [m for m in {heavy} if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr
    assert "shortcut" in done.stdout
    assert done.returncode == 0
