"""Networks from the user's own files, and every way in which these can be wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from probe.core.errors import CannotRunError, ProbeError, UsageError
from probe.models.load import load_model

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=5, width=4, channels=1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
    def forward(self, x):
        return self.body(x)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "net.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(name: str, *words: str, kind: type[ProbeError] = ProbeError, **how: object) -> str:
    path = list(sys.path)
    with pytest.raises(kind) as caught:
        load_model(name, device="cpu", **how)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    assert sys.path == path
    return message


@pytest.mark.parametrize("factory", ["Net", "make"])
def test_random_weights_are_refused_by_default(folder: Path, factory: str) -> None:
    write(folder, NET + "\ndef make():\n    return Net()\n")
    message = refused(f"net.py:{factory}", "random weights", "--weights FILE", kind=CannotRunError)
    assert "--weights none" in message
    assert "--weights digits" in message


def test_asked_for_they_are_drawn_by_the_seed(folder: Path) -> None:
    write(folder, NET)
    models = [
        load_model("net.py:Net", weights="none", seed=seed, img_size=16, device="cpu") for seed in (0, 0, 1)
    ]
    weights = [model.network.get_parameter("body.0.weight") for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert "random" in models[0].provenance.weights
    assert any("learned nothing" in note for note in models[0].provenance.notes)


def test_the_data_sets_the_number_of_classes_unless_the_user_does(folder: Path) -> None:
    write(folder, NET + "\ndef fixed():\n    return Net(6)\n")
    assert load_model("net.py:Net", weights="none", num_classes=9, device="cpu").num_classes == 9
    assert (
        load_model("net.py:Net?num_classes=3", weights="none", num_classes=9, device="cpu").num_classes == 3
    )
    assert load_model("net.py:fixed", weights="none", num_classes=9, device="cpu").num_classes == 6


def test_options_and_channels(folder: Path) -> None:
    write(folder, NET)
    model = load_model("net.py:Net?width=7&channels=3", weights="none", img_size=20, device="cpu")
    assert model.network.get_submodule("body.0").out_channels == 7
    assert model.input.size == (3, 20, 20)
    assert load_model("net.py:Net", weights="none", device="cpu").input.size == (1, 224, 224)


def test_weights_from_a_file(folder: Path) -> None:
    write(folder, NET)
    sys.path.insert(0, str(folder))
    try:
        import net
    finally:
        sys.path.remove(str(folder))
        del sys.modules["net"]
    reference: nn.Module = net.Net(num_classes=8).eval()
    torch.save({"model_state_dict": reference.state_dict()}, "w.pth")
    model = load_model(
        "net.py:Net", weights="w.pth", img_size=16, mean=0.4, std=[0.2], labels=list("abcdefgh"), device="cpu"
    )
    pixels = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = reference((pixels - 0.4) / 0.2)
    torch.testing.assert_close(model.logits(pixels), wanted)
    assert model.class_names == tuple("abcdefgh")
    assert model.provenance.notes == ()
    assert model.provenance.file.endswith("w.pth")
    assert model.fresh(0).num_classes == 8


def test_unknown_normalisation_is_said(folder: Path) -> None:
    write(folder, NET)
    model = load_model("net.py:Net", weights="none", device="cpu")
    assert any("normalisation of this network is not known" in note for note in model.provenance.notes)
    known = load_model("net.py:Net", weights="none", mean=0.5, std=0.5, device="cpu")
    assert not any("normalisation of this network is not known" in note for note in known.provenance.notes)


LOADING = (
    NET
    + """
def trained():
    net = Net()
    net.load_state_dict(torch.load("w.pth", weights_only=True))
    return net
"""
)


def save_trained(folder: Path) -> dict[str, torch.Tensor]:
    write(folder, LOADING)
    model = load_model("net.py:Net", weights="none", seed=5, device="cpu")
    state = {key: value.clone() for key, value in model.network.state_dict().items()}
    torch.save(state, folder / "w.pth")
    return state


def test_a_function_that_loads_its_weights(folder: Path) -> None:
    state = save_trained(folder)
    model = load_model("net.py:trained", device="cpu")
    assert all(torch.equal(model.network.state_dict()[key], value) for key, value in state.items())
    assert "as net.py:trained returns them" in model.provenance.weights


def test_fresh_weights_of_a_function_that_loads_them(folder: Path) -> None:
    state = save_trained(folder)
    model = load_model("net.py:trained", device="cpu")
    first, again, other = (model.fresh(seed).network.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in state)
    assert not torch.equal(first["body.0.weight"], state["body.0.weight"])
    assert not torch.equal(first["body.5.bias"], other["body.5.bias"])
    random = load_model("net.py:trained", weights="none", device="cpu").network.state_dict()
    assert not torch.equal(random["body.0.weight"], state["body.0.weight"])


def test_weights_that_cannot_be_redrawn_are_named(folder: Path) -> None:
    write(
        folder,
        NET
        + """
class Scaled(Net):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.arange(5.0))
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).view_as(p))
    def forward(self, x):
        return self.body(x) * self.scale
""",
    )
    model = load_model("net.py:Scaled", device="cpu")
    with pytest.raises(CannotRunError, match=r"scale \(1 in all\).*reset_parameters"):
        model.fresh(0)


def test_modules_beside_the_file_can_be_imported(folder: Path) -> None:
    write(folder, NET, "deep/parts_of_net.py")
    write(
        folder,
        "from parts_of_net import Net\ndef late():\n    import parts_of_net\n    return parts_of_net.Net()\n",
        "deep/net.py",
    )
    before = list(sys.path)
    assert load_model("deep/net.py:late", weights="none", device="cpu").num_classes == 5
    assert sys.path == before
    del sys.modules["parts_of_net"]


def test_a_module_by_its_dotted_name(folder: Path) -> None:
    write(folder, NET, "mypackage_x/inner.py")
    write(folder, "", "mypackage_x/__init__.py")
    model = load_model("mypackage_x.inner:Net?width=2", weights="none", device="cpu")
    assert model.provenance.source == "mypackage_x.inner:Net?width=2"
    refused("mypackage_x.missing:Net", "mypackage_x.missing", kind=UsageError)
    refused("nowhere_at_all.inner:Net", "no module 'nowhere_at_all'", kind=UsageError)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_module_x\n", ("net.py, line 1", "ModuleNotFoundError", "no_such_module_x")),
        ("x = 1\ny = 1 / 0\n", ("net.py, line 2", "ZeroDivisionError")),
        ("def make(:\n", ("net.py, line 1", "SyntaxError")),
        ("raise SystemExit(3)\n", ("net.py, line 1", "SystemExit")),
        ("raise ValueError('one\\ntwo')\n", ("net.py, line 1", "ValueError: one")),
    ],
)
def test_files_that_fail_when_imported(folder: Path, text: str, words: tuple[str, ...]) -> None:
    write(folder, text)
    modules = set(sys.modules)
    refused("net.py:make", *words, kind=CannotRunError, weights="none")
    assert not any(name.startswith("probe_user") for name in set(sys.modules) - modules)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def make():\n    x = 2\n    return x.nothing\n", ("net.py, line 3", "AttributeError")),
        ("def make():\n    raise RuntimeError\n", ("net.py, line 2", "RuntimeError")),
        (
            "import torch\ndef make():\n    return torch.zeros(2, 2).view(7)\n",
            ("net.py, line 3", "RuntimeError"),
        ),
        ("def make():\n    return 3\n", ("returns an int", "torch.nn.Module")),
        ("def make():\n    pass\n", ("returns nothing",)),
        (
            "def make(depth, width):\n    pass\n",
            ("needs arguments (depth, width)", "net.py:make?depth=…&width=…"),
        ),
        ("def make(depth):\n    pass\n", ("needs an argument (depth)",)),
        ("make = 3\n", ("is not a function", "int")),
        ("def mke(): ...\ndef other(): ...\n", ("no function in net.py 'make'", "mke")),
        ("", ("It defines no functions",)),
    ],
)
def test_functions_that_are_wrong(folder: Path, text: str, words: tuple[str, ...]) -> None:
    write(folder, text)
    for weights in ("none", "default"):
        refused("net.py:make", *words, weights=weights)


def test_wrong_options_and_missing_files(folder: Path) -> None:
    write(folder, NET)
    refused("net.py:Net?dept=3", "no argument 'dept'", "num_classes, width, channels", kind=UsageError)
    refused("other.py:Net", "no Python file other.py", kind=UsageError)
    refused("net.py", "It defines Net", kind=UsageError)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        ("return x, x", ("segmentation", "1×224×224")),
        ("return {'out': x}", ("segmentation",)),
        ("return x", ("segmentation", "logits (N, classes)")),
        ("return None", ("NoneType",)),
        ("return x.flatten(1)[:, :3], x.flatten(1)[:, :4]", ("(N, 3)", "(N, 4)", "--output 0")),
        ("return x.flatten(1)[:, :3].argmax(1, keepdim=True)", ("int64",)),
        ("return x.flatten(1)[:1, :3]", ("(1, 3)",)),
    ],
)
def test_outputs_that_are_no_logits(folder: Path, forward: str, words: tuple[str, ...]) -> None:
    text = (
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    )
    text += "        self.conv = nn.Conv2d(1, 1, 1)\n    def forward(self, x):\n        " + forward + "\n"
    write(folder, text)
    refused("net.py:Net", *words, kind=CannotRunError, weights="none")


def test_a_size_that_does_not_fit(folder: Path) -> None:
    text = NET.replace(
        "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)",
        "nn.Flatten(), nn.Linear(width * 100, num_classes)",
    )
    write(folder, text)
    refused("net.py:Net", "1×224×224", "--img-size", weights="none", kind=CannotRunError)
    assert load_model("net.py:Net", weights="none", img_size=10, device="cpu").input.size == (1, 10, 10)


@pytest.mark.parametrize(
    ("attribute", "size"),
    [
        ("self.input_size = 40", (1, 40, 40)),
        ("self.input_size = (40, 50)", (1, 40, 50)),
        ("self.input_size = (1, 40, 50)", (1, 40, 50)),
        (
            "self.default_cfg = {'input_size': (1, 30, 30), 'mean': (0.1,), 'std': (0.2,), 'crop_pct': 1.0}",
            (1, 30, 30),
        ),
        ("self.input_size = 'large'", (1, 224, 224)),
    ],
)
def test_networks_that_state_their_size(folder: Path, attribute: str, size: tuple[int, int, int]) -> None:
    write(folder, NET.replace("super().__init__()", f"super().__init__()\n        {attribute}"))
    model = load_model("net.py:Net", weights="none", device="cpu")
    assert model.input.size == size
    stated = "mean" in attribute
    assert (
        any("normalisation of this network is not known" in note for note in model.provenance.notes) != stated
    )
    assert round(float(model.module.normalise.mean), 6) == (0.1 if stated else 0.0)


def test_a_user_s_random_network_leaves_the_global_generators_alone(folder: Path) -> None:
    write(folder, NET)
    before = torch.get_rng_state()
    model = load_model("net.py:Net", weights="none", device="cpu")
    model.fresh(1)
    refused("net.py:Net", "random")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_made_by_the_file_is_taken_as_it_is(folder: Path) -> None:
    write(folder, NET + "\nimport torch\ntorch.manual_seed(0)\nmodel = Net()\n")
    first, second = (load_model("net.py:model", offline=True, device="cpu") for _ in range(2))
    pixels = first.example(2)
    assert torch.equal(first.logits(pixels), second.logits(pixels))


def test_a_file_in_a_package_may_import_relatively(folder: Path) -> None:
    package = folder / "mine" / "nets"
    package.mkdir(parents=True)
    for place in (folder / "mine", package):
        (place / "__init__.py").write_text("")
    (package / "layers.py").write_text("width = 4\n")
    (package / "net.py").write_text(NET + "\nfrom .layers import width as _width\n")
    assert load_model("mine/nets/net.py:Net", weights="none", offline=True, device="cpu").num_classes > 1


def test_a_file_may_import_a_module_beside_the_working_folder(folder: Path) -> None:
    (folder / "my_utils_here.py").write_text("width = 4\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "net.py").write_text("from my_utils_here import width as _width\n" + NET)
    assert load_model("sub/net.py:Net", weights="none", offline=True, device="cpu").num_classes > 1
