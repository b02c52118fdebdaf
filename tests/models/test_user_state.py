"""What a user's factory changes in the process is undone; TorchScript and NaN are called what they are."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from probe.cli.main import run
from probe.core.contained import contained
from probe.core.errors import CannotRunError, UsageError
from probe.models.load import load_model
from tests.helpers import cli_networks

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")

FACTORIES = """
import os, random
import numpy as np

BEFORE = torch.get_num_threads()
torch.set_num_threads(1 if BEFORE > 1 else 2)

def wild():
    torch.set_default_dtype(torch.float64)
    os.chdir(os.path.abspath(os.sep))
    torch.set_num_threads(3)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    random.seed(1); np.random.seed(1)
    network = net()
    torch.set_default_device("meta")
    return network

def meta():
    torch.set_default_device("meta")
    return net()

def nan():
    network = net()
    network[0].weight.data[1, 0, 0] = float("nan")
    return network

def scripted():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return torch.jit.script(network)

def compiled():
    return torch.compile(net())
"""


def state() -> tuple[object, ...]:
    return (
        os.getcwd(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # type: ignore[union-attr]
        torch.get_rng_state().tolist(),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cli_networks.make(tmp_path)
    (tmp_path / "net.py").write_text(cli_networks.NETWORK + FACTORIES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_factory_changes_nothing_for_the_rest_of_the_process(folder: Path) -> None:
    before = state()
    model = load_model("net.py:wild", device="cpu")
    assert state() == before
    assert {value.dtype for value in model.network.parameters()} == {torch.float32}
    assert any("float64" in note for note in model.provenance.notes)
    assert model.logits(torch.rand(2, 3, 16, 16)).shape == (2, 3)


def test_an_exception_restores_too() -> None:
    before = state()

    def wild() -> None:
        torch.set_default_dtype(torch.float16)
        torch.manual_seed(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), contained():
        wild()
    assert state() == before


def test_a_folder_that_is_removed_meanwhile_is_no_error(folder: Path) -> None:
    (folder / "gone").mkdir()
    os.chdir(folder / "gone")
    with contained():
        os.chdir(folder)
        (folder / "gone").rmdir()
    assert Path.cwd() == folder


def test_nan_weights_are_called_nan_and_not_random(folder: Path) -> None:
    with pytest.raises(CannotRunError, match=r"NaN in 0\.weight \(3 of 162 values\)") as caught:
        load_model("net.py:nan", device="cpu")
    assert "returns random weights" not in str(caught.value)


def test_tensors_without_values_are_refused(folder: Path) -> None:
    with pytest.raises(CannotRunError, match="meta device"):
        load_model("net.py:meta", device="cpu")


def test_torchscript_answers_and_is_refused_where_layers_are_needed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model("net.py:scripted", device="cpu", img_size=16)
    assert model.input.size == (1, 16, 16)
    assert model.logits(torch.rand(2, 1, 16, 16)).shape == (2, 3)
    for command in ("filters", "doctor"):
        assert run([command, "-m", "net.py:scripted", "-d", "data", "-q", "--out", "out"]) == 3
        error = capsys.readouterr().err
        assert "TorchScript" in error
        assert "torch.jit.script" in error
        assert "bug" not in error
    assert run(["anatomy", "-m", "net.py:scripted", "-q", "--out", "out"]) == 3
    assert "TorchScript" in capsys.readouterr().err
    words = ["adversarial", "-m", "net.py:scripted", "-d", "data", "-q", "--out", "out", "--eps", "0.01"]
    assert run([*words, "--views", "attacks,channels", "--attack", "fgsm"]) == 0


def test_the_interpreters_own_words_are_shown(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"[Kk]ernel size") as caught:
        load_model("net.py:scripted", device="cpu", img_size=1)
    assert "interpreter" not in str(caught.value)


def test_a_compiled_network_is_studied_as_it_was(folder: Path) -> None:
    words = ["filters", "-m", "net.py:compiled", "-d", "data", "-q", "--out", "out", "--views", "activations"]
    assert run(words) == 0
    assert "as it was before torch.compile" in (folder / "out" / "results.json").read_text()


ODD = """

class Constant(nn.Module):
    input_size = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.arange(3.0))

    def forward(self, x):
        return self.logits.expand(len(x), 3)


class Odd(nn.Module):
    input_size = (3, 16, 16)

    def __init__(self, what):
        super().__init__()
        self.network, self.what = net(), what

    def forward(self, x):
        logits = self.network(x)
        if self.what == "sparse":
            return logits.to_sparse()
        if self.what == "some":
            logits = logits.clone()
            logits[x.mean((1, 2, 3)) > 0.3] = float("nan")
        return logits


def sparse():
    return Odd("sparse")


def some():
    return Odd("some")


def nothing():
    return nn.Flatten()


def maps():
    torch.manual_seed(0)
    return nn.Conv2d(3, 5, 3)
"""


@pytest.mark.parametrize(
    ("factory", "words"),
    [("sparse", "dense"), ("some", "NaN"), ("maps", "segmentation"), ("nothing", "no layer")],
)
def test_networks_that_are_no_classifiers_are_refused_in_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], factory: str, words: str
) -> None:
    (folder / "net.py").write_text(cli_networks.NETWORK + ODD)
    (folder / "data" / "ant").rename(folder / "flat")
    assert run(["filters", "-m", f"net.py:{factory}", "-d", "flat", "-q", "--out", "out"]) == 3
    error = capsys.readouterr().err
    assert words in error
    assert "bug" not in error


def test_a_constant_network_is_measured(folder: Path) -> None:
    (folder / "net.py").write_text(cli_networks.NETWORK + ODD)
    model = load_model("net.py:Constant", device="cpu")
    assert model.logits(torch.rand(4, 3, 16, 16)).tolist() == [[0.0, 1.0, 2.0]] * 4
