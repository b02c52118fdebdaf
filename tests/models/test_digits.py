"""Weights trained on digits: only small networks here; resnet18 is trained in a slow test."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.recording_console import Console
from helpers.weight_files import sha256
from safetensors import safe_open
from sklearn.datasets import load_digits

from probe.core.errors import CannotRunError, UsageError
from probe.core.paths import CACHE, cache_root
from probe.core.progress import SILENT
from probe.data.load import load_images
from probe.data.sources.digits import digits_split
from probe.models.load import find_architecture, load_model
from probe.models.loaded import LoadedModel
from probe.models.source import Access
from probe.models.weights import choose as weights
from probe.models.weights import digits
from probe.models.weights.cache import write_state
from probe.models.weights.reinitialise import random_builder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def trained(cache: Path) -> tuple[LoadedModel, Console]:
    """A lenet, trained once for this module's tests."""
    console = Console()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(cache))
        model = load_model("lenet", device="cpu", offline=True, progress=console)
    return model, console


@pytest.fixture
def kept(cache: Path, trained: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module's cache, with the trained lenet in it."""
    monkeypatch.setenv(CACHE, str(cache))
    return cache


def setting(name: str, size: tuple[int, int] | None = None) -> digits.DigitsSetting:
    architecture = find_architecture(name, Access(offline=True))
    return digits.digits_setting(architecture, random_builder(architecture), size)


def test_accuracy_on_digits_that_training_did_not_see(trained: tuple[LoadedModel, Console]) -> None:
    """Counted anew through the data layer's images and scikit-learn's own labels."""
    model, _ = trained
    images = load_images("digits")
    answers = torch.cat([model.logits(batch.images).argmax(1) for batch in images.batches(model.input, 100)])
    _, test = digits_split()
    correct = int((answers.numpy() == load_digits().target[test]).sum())
    assert correct / len(test) >= 0.97
    assert (
        f"{100 * correct / len(test):.1f}% accuracy on {len(test)} held-out digits"
        in model.provenance.weights
    )


def test_what_is_said(trained: tuple[LoadedModel, Console], cache: Path) -> None:
    model, console = trained
    assert "digits" in model.provenance.weights
    assert "NOT ImageNet weights" in model.provenance.notes[0]
    assert (model.domain, model.class_names, model.num_classes) == ("digits", tuple("0123456789"), 10)
    assert model.input.size == (1, 32, 32)
    assert model.input.crop == 1.0
    (file,) = cache.rglob("*.safetensors")
    assert model.provenance.sha256 == sha256(file)
    label, total, done = console.tasks[0]
    assert "digits" in str(label)
    assert total == done
    assert any("once" in sentence for sentence in console.said)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata["n"] == "359"
    assert "epochs" in metadata["recipe"]


def test_the_second_time_nothing_is_trained(
    kept: Path, trained: tuple[LoadedModel, Console], console: Console
) -> None:
    model = load_model("lenet", weights="digits", device="cpu", progress=console)
    assert console.tasks == []
    assert model.provenance == trained[0].provenance
    first, second = model.network.state_dict(), trained[0].network.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_training_is_reproducible(trained: tuple[LoadedModel, Console]) -> None:
    again = load_model("lenet", weights="digits", device="cpu")
    first, second = again.network.state_dict(), trained[0].network.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_training_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    network = setting("zoo:lenet?pooling=average")
    network = digits.DigitsSetting(
        network.network, network.framing, network.facts, digits.Recipe(epochs=1), network.key
    )
    digits.train_or_load(network, "lenet", torch.device("cpu"), SILENT)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert not any(parameter.requires_grad for parameter in network.network.parameters())


def test_a_damaged_kept_file_is_trained_again(kept: Path, console: Console) -> None:
    (file,) = kept.rglob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])
    try:
        model = load_model("lenet", device="cpu", progress=console)
        assert "cannot be used" in console.said[0]
        assert model.provenance.sha256 == sha256(file)
        assert len(console.tasks) == 1
    finally:
        file.write_bytes(whole)


def test_the_key_covers_what_the_weights_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = [
        setting(name).key
        for name in ("lenet", "lenet", "zoo:lenet?pooling=average", "zoo:lenet?in_channels=3")
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    text = (
        "from torch import nn\n"
        "def net(num_classes=10):\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.{}(), nn.Flatten(), nn.LazyLinear(num_classes))\n"
    ).replace("LazyLinear(", "Linear(4 * 31 * 31, ")
    found = []
    for number, activation in enumerate(("ReLU", "GELU")):
        Path(f"net{number}.py").write_text(text.format(activation))
        os.replace(f"net{number}.py", "net.py")
        found.append(setting("net.py:net", (64, 64)).key)
    assert found[0] != found[1]


def test_the_rule_for_small() -> None:
    small = [
        setting(name).small for name in ("resnet18", "zoo:resnet56", "mobilenet_v3_small", "squeezenet1_1")
    ]
    assert all(small)
    large = [setting(name).small for name in ("resnet34", "vgg11", "torchvision:alexnet")]
    assert not any(large)
    resnet18 = setting("resnet18")
    assert resnet18.framing.input.size == (3, 64, 64)
    assert resnet18.facts.macs <= digits.SMALL_MACS


def test_a_network_that_needs_larger_images() -> None:
    """inception_v3 takes nothing below 75 pixels, so digits are brought to its own size, and it is not small."""
    found = setting("inception_v3")
    assert found.framing.input.size == (3, 299, 299)
    assert not found.small


def test_a_size_that_was_asked_for() -> None:
    assert setting("zoo:resnet20", (40, 40)).framing.input.size == (3, 40, 40)
    with pytest.raises(CannotRunError, match="--img-size"):
        setting("lenet", (40, 40))


def test_users_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "from torch import nn\n"
        "def net(num_classes=4):\n"
        "    return nn.Sequential(nn.Conv2d(1, 8, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, num_classes))\n"
        "def four():\n    return net()\n"
    )
    with pytest.raises(UsageError, match="4 classes, but digits have 10"):
        load_model("net.py:four", weights="digits", img_size=64)
    model = load_model("net.py:net", weights="digits", img_size=64, device="cpu")
    assert model.domain == "digits"
    assert int(model.provenance.weights.partition("(")[2].partition(".")[0]) >= 85
    assert model.fresh(0).num_classes == 10


def test_normalisation_stays_as_trained(kept: Path) -> None:
    model = load_model("lenet", mean=0.3, std=0.3, device="cpu")
    assert float(model.module.normalise.mean) == 0.5
    assert any("--mean and --std were ignored" in note for note in model.provenance.notes)


def test_falling_back_says_why(kept: Path, monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    """A small network whose published weights are not available: digits weights, and the reason among the notes."""

    def quickly(setting: digits.DigitsSetting, *_: object) -> digits.DigitsWeights:
        return digits.DigitsWeights(350, 359, kept / "x.safetensors", "00")

    monkeypatch.setattr(digits, "train_or_load", quickly)
    model = load_model("mobilenet_v3_small", offline=True, device="cpu", progress=console)
    assert model.domain == "digits"
    assert any("NOT ImageNet" in note for note in model.provenance.notes)
    assert any("offline" in note and "mobilenet_v3_small" in note for note in model.provenance.notes)
    monkeypatch.setattr(
        digits, "train_or_load", lambda *_: digits.DigitsWeights(100, 359, kept / "x.safetensors", "00")
    )
    with pytest.raises(CannotRunError, match=r"27.9% accuracy on 359 held-out digits.*--weights none"):
        load_model("mobilenet_v3_small", offline=True)
    assert weights._LEAST_ACCURACY == 0.9


def test_a_cache_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE, str(tmp_path / "file"))
    monkeypatch.setattr(digits, "_train", lambda *_: (1, 2, 3.0))
    console = Console()
    model = load_model("lenet", weights="digits", progress=console)
    assert any(CACHE in said for said in console.said)
    assert model.class_names is not None
    assert len(model.class_names) == 10


def test_writing_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_state(tmp_path / "deep" / "w.safetensors", {"a": torch.zeros(3)}, {"b": "c"})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv(CACHE)
    assert cache_root().name == "cnn-probe"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_resnet18_reaches_what_is_promised(console: Console) -> None:
    started = time.monotonic()
    model = load_model("resnet18", offline=True, device="cpu", progress=console)
    seconds = time.monotonic() - started
    images = load_images("digits")
    correct = 0
    for batch in images.batches(model.input, 100):
        assert batch.labels is not None
        correct += int((model.logits(batch.images).argmax(1) == batch.labels).sum())
    print(f"resnet18 on digits: {correct} of {len(images)} in {seconds:.0f} s")
    assert correct / len(images) >= 0.97
    assert model.input.size == (3, 64, 64)
