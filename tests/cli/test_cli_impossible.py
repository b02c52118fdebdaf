"""What cannot be meant ends with exit code 2 and a sentence, before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.cli.main import run
from probe.core import memory
from probe.core.errors import UsageError
from probe.models.measure import check_affordable
from tests.helpers import cli_networks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cli_networks.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("zoo:lenet?num_classes=abc", "lenet cannot be built"),
        ("zoo:lenet?num_classes=-1", "negative"),
        ("zoo:lenet?in_channels=2.5", "in_channels"),
        ("zoo:lenet?num_classes=999999999999999", "memory"),
        ("timm:resnet18?output_stride=abc", "resnet18 cannot be built"),
    ],
)
def test_options_of_a_wrong_type_or_size(
    folder: Path, capsys: pytest.CaptureFixture[str], model: str, words: str
) -> None:
    assert run(["filters", "-m", model, "--weights", "none", "-d", "data", "-q"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "bug" not in error


@pytest.mark.parametrize(
    "command",
    [
        ["filters", "-m", "zoo:lenet"],
        ["filters", "-m", "zoo:lenet", "--weights", "none"],
        ["anatomy", "-m", "zoo:lenet"],
        ["doctor", "-m", "zoo:lenet"],
        ["train", "zoo:lenet", "--data", "digits"],
    ],
)
@pytest.mark.parametrize(("size", "words"), [("3", "1×3×3"), ("100000", "GiB")])
def test_an_impossible_input_size(
    capsys: pytest.CaptureFixture[str], command: list[str], size: str, words: str
) -> None:
    assert run([*command, "--img-size", size]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "--img-size" in error


def test_the_bound_on_the_input_size_is_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.models.measure.total_memory", lambda: 8 * 2 * 4 * 3 * 224 * 224)
    check_affordable((3, 224, 224))
    with pytest.raises(UsageError, match="3×225×224"):
        check_affordable((3, 225, 224))


def test_there_is_memory_and_its_end_is_known() -> None:
    assert memory.total_memory() > 1 << 28
    assert memory.is_out_of_memory(MemoryError())
    assert memory.is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"))
    assert not memory.is_out_of_memory(RuntimeError("shapes"))


def test_a_layer_that_there_is_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ablate", *cli_networks.MODEL, "-d", "data", "--remove", "filter?layer=nix", "--out", "out"]
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "nix" in error
    assert "1.body.0" in error
    assert not (folder / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--model", "zoo:nothing"], 2), (["--img-size", "abc"], 2), (["-m", "net.py:broken"], 3)],
)
def test_debug_keeps_the_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    with (folder / "net.py").open("a") as file:
        file.write("\ndef broken():\n    raise KeyError('x')\n")
    assert run(["filters", *arguments]) == code
    assert "Traceback" not in capsys.readouterr().err
    assert run(["filters", *arguments, "--debug"]) == code
