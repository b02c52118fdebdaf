"""The words of ``probe train``: what they ask for, what is refused, and what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from probe.cli import main as cli
from probe.core.errors import GateFailedError
from probe.core.subject import Skipped
from probe.train import trainer as training
from probe.train.setup import RecipeOptions
from probe.train.trainer import TrainOptions

HEAVY = ("torch", "timm", "sklearn", "scipy", "torchvision", "rich", "PIL", "numpy")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Record what the train command asks for, instead of doing it."""
    seen: dict[str, Any] = {}

    def train(model: str, data: str, options: TrainOptions, _progress: object) -> None:
        seen.update(model=model, data=data, options=options)
        raise GateFailedError("stop here")

    monkeypatch.setattr(training, "train", train)
    return seen


def test_help_loads_none_of_the_heavy_packages() -> None:
    code = (
        "import sys; from probe.cli import main as cli; code = cli.run(['train', '--help']);"
        f"print('LOADED', [m for m in {HEAVY} if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr
    assert done.returncode == 0


def test_few_words_ask_for_the_defaults(asked: dict[str, Any]) -> None:
    assert cli.run(["train", "zoo:resnet20", "--data", "digits"]) == 1
    assert (asked["model"], asked["data"], asked["options"]) == ("zoo:resnet20", "digits", TrainOptions())


def test_every_word_reaches_the_training(asked: dict[str, Any]) -> None:
    text = (
        "train resnet20?shortcut=False -d dir --adversarial trades --beta 3 --norm L2 --eps 8/255 --steps 4 --epochs 3 --lr 0.5 -b 7 "
        "--optimiser sgd --schedule cosine --weight-decay 0.1 --label-smoothing 0.2 --held-out 0.3 -n 50 "
        "--img-size 32,48 --mean 0.1,0.2,0.3 --std 0.5 --device cpu --seed 5 --out x.safetensors --force --offline "
        "--augment cutout,flip --noise 0.1 --resume"
    )
    assert cli.run(text.split()) == 1
    options = asked["options"]
    assert options == TrainOptions(
        recipe=RecipeOptions(3, 7, "sgd", 0.5, 0.1, "cosine", 0.2, ("cutout", "flip"), 0.1),
        adversarial="trades",
        beta=3.0,
        norm="L2",
        epsilon="8/255",
        steps=4,
        n=50,
        held_out=0.3,
        img_size=(32, 48),
        mean=(0.1, 0.2, 0.3),
        std=(0.5,),
        seed=5,
        device="cpu",
        out=Path("x.safetensors"),
        force=True,
        offline=True,
        resume=True,
    )
    defaults = TrainOptions()
    for field in fields(TrainOptions):
        if field.name == "numbered":  # set for --seeds, which trains several networks
            continue
        assert getattr(options, field.name) != getattr(defaults, field.name), field.name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("lenet", "Missing option '-d'"),
        ("-d digits", "Missing argument 'MODEL'"),
        ("lenet -d digits --adversarial --eps 8", "Did you mean 8/255"),
        ("lenet -d digits --adversarial --eps many", "0.2 or 8/255"),
        ("lenet -d digits --adversarial --norm L2", "--eps"),
        ("lenet -d digits --eps 0.1", "add --adversarial"),
        ("lenet -d digits --epochs 0", "not in the range"),
        ("lenet -d digits --std 0", "--std must be positive"),
        ("lenet -d digits --held-out 0.2", "remove --held-out"),
        (
            "lenet -d digits --augment mirror",
            "There is no augmentation 'mirror'. Available: shift, flip, cutout",
        ),
        ("lenet -d digits --lr -1", "--lr must be"),
        ("lenet -d digits --out x.pt", "x.safetensors"),
        ("lenet -d nosuch", "no data set, folder or image"),
        ("lenet -d flat", "have no labels"),
        ("lenet?depth=3 -d digits", "takes no argument 'depth'"),
        ("lenet -d digits --device gpu", "not a device"),
    ],
)
def test_what_is_refused_is_one_line_and_leaves_nothing(
    words: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_train_and_measure", lambda *_: pytest.fail("trained all the same"))
    Path("flat").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(f"flat/{number}.png")
    assert cli.run(["train", *words.split(), "-q"]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["flat"]


def test_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "lenet", "-d", "digits", "-n", "40", "--epochs", "1", "--device", "cpu"]
    assert cli.run(words) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith("• Held-out accuracy ")
    assert "of 359, 95% interval" in lines[0]
    assert lines[-1] == "lenet-digits.safetensors"
    assert "359 are held out" in captured.err
    assert cli.run([*words, "-q"]) == 2
    assert "--force" in capsys.readouterr().err
    assert cli.run([*words, "-q", "--force"]) == 0
    assert capsys.readouterr() == ("lenet-digits.safetensors\n", "")
    assert cli.run(["models", "lenet"]) == 0


def test_skipped_images_and_interruptions_have_their_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Done:
        headline = ("Held-out accuracy 50%.",)
        path = Path("x.safetensors")
        skipped = (Skipped("a.png", "broken"),)

    monkeypatch.setattr(training, "train", lambda *_: Done())
    assert cli.run(["train", "lenet", "-d", "digits"]) == 4
    capsys.readouterr()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    assert cli.run(["train", "lenet", "-d", "digits"]) == 130
    assert capsys.readouterr().err.strip() == "probe: interrupted; nothing was written."


def test_a_killed_training_goes_on_to_the_same_file(tmp_path: Path, own_cache: Path) -> None:
    def words(out: str, *more: str) -> list[str]:
        text = "train zoo:lenet -d digits -n 200 --epochs 12 --batch-size 8 --device cpu -q --offline --out"
        return [sys.executable, "-m", "probe", *text.split(), str(tmp_path / out), *more]

    killed = subprocess.Popen(words("a.safetensors"))
    kept = own_cache / "probe" / "training"
    deadline = time.monotonic() + 60
    while not list(kept.glob("*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert list(kept.glob("*.pt"))
    assert not (tmp_path / "a.safetensors").exists(), "it finished before it was killed"
    done = subprocess.run(words("a.safetensors", "--resume"), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "a.safetensors")
    assert not list(kept.glob("*.pt"))
    subprocess.run(words("b.safetensors"), check=True, capture_output=True)
    first, second = (load_file(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert all(torch.equal(first[name], second[name]) for name in second)
    histories = [
        json.loads((tmp_path / f"{name}.recipe.json").read_text())["history of the images trained on"]
        for name in "ab"
    ]
    assert len(histories[0]) == 12
    assert histories[0] == histories[1]
