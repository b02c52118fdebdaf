from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.weight_files import random_state

from probe.core.errors import CannotRunError, UsageError
from probe.models.load import find_architecture, load_model
from probe.models.measure import choose_device
from probe.models.source import Access


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("resnet20", "zoo:resnet20"),
        ("lenet", "zoo:lenet"),
        ("efficientnet_lite0", "embedded:efficientnet_lite0"),
        ("resnet18", "torchvision:resnet18"),
        ("timm:resnet18", "timm:resnet18"),
        ("resnet26d", "timm:resnet26d"),
        ("resnet26d.bt_in1k", "timm:resnet26d.bt_in1k"),
    ],
)
def test_where_a_bare_name_is_looked_up(name: str, source: str) -> None:
    assert find_architecture(name, Access(offline=True)).source == source


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("resnet181", "resnet18"),
        ("vgg_11", "vgg11"),
        ("zoo:resnet21", "resnet20"),
        ("torchvision:densnet121", "densenet121"),
        ("eficientnet_lite0", "efficientnet_lite0"),
    ],
)
def test_unknown_names_have_close_ones(name: str, close: str) -> None:
    with pytest.raises(UsageError, match=f"'{name.rpartition(':')[2]}'.*{close}"):
        load_model(name)


def test_nonsense_has_none() -> None:
    with pytest.raises(UsageError, match=r"no model 'qqqqzzzz'. `probe models QUERY`"):
        load_model("qqqqzzzz")


def test_random_weights_by_seed() -> None:
    one, same, other = (load_model("lenet", weights="none", seed=seed, device="cpu") for seed in (1, 1, 2))
    assert torch.equal(one.network.get_parameter("fc1.weight"), same.network.get_parameter("fc1.weight"))
    assert not torch.equal(one.network.get_parameter("fc1.weight"), other.network.get_parameter("fc1.weight"))
    assert one.provenance.weights == "random, seed 1"
    assert "learned nothing" in one.provenance.notes[0]
    assert one.provenance.sha256 is None
    assert one.class_names is None


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    load_model("lenet", weights="none", device="cpu").fresh(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_the_task_of_random_weights() -> None:
    assert load_model("squeezenet1_1", weights="none", device="cpu").domain == "imagenet"
    other = load_model("squeezenet1_1", weights="none", num_classes=10, device="cpu")
    assert (other.domain, other.num_classes) == ("unknown", 10)
    assert load_model("lenet", weights="none", device="cpu").domain == "unknown"


@pytest.mark.parametrize(("size", "shape"), [(48, (3, 48, 48)), ((40, 56), (3, 40, 56))])
def test_image_sizes(size: int | tuple[int, int], shape: tuple[int, int, int]) -> None:
    model = load_model("zoo:resnet20", weights="none", img_size=size, device="cpu")
    assert model.input.size == shape
    assert model.logits(torch.zeros(2, *shape)).shape == (2, 10)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match=r"zoo:lenet.*1×40×40.*--img-size"):
        load_model("lenet", weights="none", img_size=40)
    for size in (0, -3, (0, 4)):
        with pytest.raises(UsageError, match="at least 1"):
            load_model("lenet", weights="none", img_size=size)
    with pytest.raises(UsageError, match="at least 1"):
        load_model("lenet", weights="none", num_classes=0)


@pytest.mark.parametrize(
    ("mean", "std", "wanted"),
    [
        (None, None, ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        (0.5, None, ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))),
        ([0.1, 0.2, 0.3], [2], ((0.1, 0.2, 0.3), (2.0, 2.0, 2.0))),
    ],
)
def test_normalisation(
    mean: object, std: object, wanted: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    model = load_model("zoo:resnet20", weights="none", mean=mean, std=std, device="cpu")  # type: ignore[arg-type]
    normalise = model.module.normalise
    np.testing.assert_allclose(normalise.mean.flatten(), wanted[0])
    np.testing.assert_allclose(normalise.std.flatten(), wanted[1])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"mean": [0.1, 0.2]}, "mean has 2 values, but the network has 3 input channels"),
        ({"std": [1, 1, 1, 1]}, "std has 4 values"),
        ({"std": 0.0}, "above 0"),
        ({"std": -1.0}, "above 0"),
        ({"std": float("nan")}, "above 0"),
        ({"labels": ["a", "b"]}, "2 class names, but the model resnet20 has 10"),
        ({"device": "gpu"}, "not a device"),
        ({"device": "meta"}, "not supported"),
    ],
)
def test_words_that_do_not_fit(how: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_model("zoo:resnet20", weights="none", **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "mps"])
def test_devices_that_are_not_here(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(CannotRunError, match="--device cpu"):
        choose_device(device)
    chosen, text = choose_device("auto")
    assert chosen.type == "cpu"
    assert "auto" in text


def test_auto_prefers_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto")[0].type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "X100")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen, text = choose_device("auto")
    assert chosen.type == "cuda"
    assert "X100" in text
    assert choose_device("cuda:1")[0] == torch.device("cuda:1")
    with pytest.raises(CannotRunError, match="2 CUDA devices"):
        choose_device("cuda:2")


def test_labels_give_the_class_names(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(10)]
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(names))
    for labels in (names, path, str(path)):
        assert load_model("lenet", weights="none", labels=labels, device="cpu").class_names == tuple(names)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".th"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    network = load_model("lenet", weights="none", device="cpu").network
    state = random_state(network)
    path = tmp_path / f"w{suffix}"
    torch.save(state, path)
    model = load_model("lenet", weights=path, device="cpu")
    assert all(torch.equal(model.network.state_dict()[key], value) for key, value in state.items())
    assert model.provenance.weights == f"from the file w{suffix}"


def test_partial_loading_is_asked_for(tmp_path: Path) -> None:
    state = random_state(load_model("lenet", weights="none", device="cpu").network)
    del state["fc3.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CannotRunError, match=r"w.pth does not fit zoo:lenet: 1 key missing \(fc3.weight\)"):
        load_model("lenet", weights=tmp_path / "w.pth")
    model = load_model("lenet", weights=tmp_path / "w.pth", allow_partial=True, seed=4, device="cpu")
    again = load_model("lenet", weights=tmp_path / "w.pth", allow_partial=True, seed=4, device="cpu")
    assert any("Loaded partially" in note for note in model.provenance.notes)
    weights = [m.network.get_parameter("fc3.weight") for m in (model, again)]
    assert torch.equal(weights[0], weights[1])


def test_missing_files_and_unknown_weights() -> None:
    with pytest.raises(UsageError, match=r"no weights file nowhere.pth"):
        load_model("lenet", weights="nowhere.pth")
    with pytest.raises(UsageError, match=r"no weights 'V9'.*none, digits"):
        load_model("lenet", weights="V9")


def test_offline_never_tries_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def connect(*args: object, **_: object) -> None:
        tried.append(args)
        raise OSError("no")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    for name in ("resnet50", "timm:resnet50", "hf-hub:a/b"):
        with pytest.raises(CannotRunError):
            load_model(name, offline=True)
    assert tried == []


def test_an_unreachable_network_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def connect(address: object, **_: object) -> None:
        tried.append(address)
        raise OSError(101, "Network is unreachable")

    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(CannotRunError, match=r"Network is unreachable.*--weights none"):
        load_model("timm:resnet50")
    assert [address[0] for address in tried] == ["huggingface.co", "github.com"]  # type: ignore[index]


def test_importing_the_loader_is_light() -> None:
    code = (
        "import sys, probe.models.load\n"
        "heavy = {'timm', 'torchvision', 'sklearn', 'scipy', 'matplotlib', 'captum', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
