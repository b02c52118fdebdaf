"""A module in memory: studied as it is, and left as it is."""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import probe
from probe.core.errors import CannotRunError, UsageError
from probe.core.state import fingerprint

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def net(classes: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def data(n: int = 12, side: int = 20, classes: int = 4) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(n, 3, side, side), torch.randint(0, classes, (n,))


class Flat(nn.Module):
    """Takes images of one size only, and says nowhere which."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Linear(4 * side * side, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu().flatten(1))


class Stubborn(nn.Module):
    """A class that cannot be rebuilt: its weights are drawn by nothing that can be called again."""

    def __init__(self, secret: object) -> None:
        super().__init__()
        self.secret = secret
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.bias = nn.Parameter(torch.randn(4))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(F.conv2d(x, self.weight, self.bias, padding=1)).mean((2, 3))


def test_logits_are_those_of_a_plain_loop() -> None:
    module, (x, y) = net().eval(), data()
    model = probe.wrap(module, mean=MEAN, std=STD)
    report = probe.filters(model, (x, y), views=["weights"])
    normalised = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        expected = module(normalised)
    torch.testing.assert_close(model.logits(x), expected)
    assert report["accuracy"].value == (expected.argmax(1) == y).float().mean().item()


@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_left_as_it_is(training: bool) -> None:
    module, (x, y) = net().train(training), data()
    next(module.parameters()).requires_grad_(False)
    before = fingerprint(module)
    model = probe.wrap(module)
    probe.adversarial(model, (x, y), eps=0.1, steps=2, checks=["random-noise"], views=["curve"])
    probe.ablate(module, (x, y), remove="relu", mode="lesion")
    probe.filters(module, x, views=["weights", "activations"])
    probe.anatomy(module)
    probe.doctor(module, (x, y), steps=2, sweep=False)
    probe.attacks.PGD(steps=2)(module, x, y, eps=0.1)
    probe.cut(module, "relu", example=x[:1])
    probe.sites(module, "relu", example=x[:1])
    probe.receptive_field(module, "0", x[:1])
    probe.attribute(module, x[:2], 1, "gradient")
    probe.feature_picture(module, "0:1", steps=2)
    assert fingerprint(module) == before


def test_so_it_is_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    module, (x, y) = net().train(), data()
    before = fingerprint(module)

    def fails(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(probe.attacks.PGD, "_perturb", fails)
    with pytest.raises(RuntimeError, match="on purpose"):
        probe.attacks.PGD()(module, x, y, eps=0.1)
    with pytest.raises(RuntimeError, match="on purpose"):
        probe.adversarial(module, (x, y), attacks="pgd", eps=0.1)
    with pytest.raises(UsageError):
        probe.cut(module, "no-such-structure", example=x[:1])
    assert fingerprint(module) == before


def test_global_generators_are_left_alone() -> None:
    module, (x, y) = net(), data()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4, shuffle=True)
    state = torch.get_rng_state()
    probe.adversarial(module, loader, eps=0.1, steps=2, checks=[], views=["curve"])
    probe.attacks.PGD(steps=2)(module, x, y, eps=0.1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("side", [8, 28, 37])
def test_the_size_of_the_images_is_the_networks_where_nothing_says_it(side: int) -> None:
    module = Flat(side)
    x = torch.rand(6, 3, side, side)
    if side == 37:  # no size that is tried fits
        with pytest.raises(CannotRunError, match="input_size="):
            probe.wrap(module)
        model = probe.wrap(module, input_size=side)
    else:
        model = probe.wrap(module)
    report = probe.filters(model, x, views=["weights"])
    assert report.model.input_size == (3, side, side)


def test_a_fully_convolutional_network_sees_images_as_they_are() -> None:
    model = probe.wrap(net())
    x, y = data(side=20)
    report = probe.filters(model, (x, y), views=["weights"])
    assert (report.model.input_size, model.input.size) == ((3, 20, 20), (3, 224, 224))


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_folder_of_one_size_is_not_resized_where_nothing_says_the_networks_size(
    tmp_path: Path, wrapped: bool
) -> None:
    for number in range(4):
        place = tmp_path / f"class{number}"
        place.mkdir()
        Image.new("RGB", (20, 20), (60 * number, 10, 200)).save(place / "0.png")
    report = probe.filters(probe.wrap(net()) if wrapped else net(), probe.images(tmp_path), views=["weights"])
    assert report.model.input_size == (3, 20, 20)
    assert "neither resized nor cropped" in report.data.preprocessing.text


def test_what_cannot_be_rebuilt_is_looked_at_attacked_and_lesioned() -> None:
    module, (x, y) = Stubborn(object()), data()
    model = probe.wrap(module, input_size=20)
    assert (
        probe.adversarial(model, (x, y), eps=0.1, steps=2, checks=[], views=["curve"])["robust_accuracy"].n
        == 12
    )
    assert probe.filters(model, (x, y), views=["activations"]).sections
    cut = probe.ablate(model, (x, y), remove="relu", mode="lesion")
    assert cut["intact_accuracy"].n == 12
    assert any("relu" in line for line in cut.headline)
    with pytest.raises(CannotRunError, match="factory="):
        model.fresh(0)
    torch.manual_seed(0)
    fresh = probe.wrap(module, input_size=20, factory=lambda: Stubborn(None)).fresh(0)
    assert not torch.equal(fresh.network.weight, module.weight)


def test_fresh_weights_are_drawn_by_the_layers_themselves() -> None:
    module = net()
    model = probe.wrap(module)
    first, again, other = model.fresh(1), model.fresh(1), model.fresh(2)
    assert torch.equal(first.network[0].weight, again.network[0].weight)
    assert not torch.equal(first.network[0].weight, other.network[0].weight)
    assert not torch.equal(first.network[0].weight, module[0].weight)


def test_other_precisions_are_studied_in_float32_with_a_note() -> None:
    module = net().double()
    model = probe.wrap(module)
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    assert any("float64" in note for note in model.provenance.notes)
    assert {p.dtype for p in module.parameters()} == {torch.float64}


def test_a_wrapper_for_devices_is_taken_off() -> None:
    module = net()
    model = probe.wrap(nn.DataParallel(module))
    x = torch.rand(2, 3, 20, 20)
    torch.testing.assert_close(model.logits(x), module.eval()(x).detach())
    assert any("DataParallel" in note for note in model.provenance.notes)


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lock, self.inner = threading.Lock(), net()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: "resnet18", {}, "torch.nn.Module"),
        (net, {"classes": ["a"]}, "1 class names"),
        (net, {"classes": 7}, "4 logits"),
        (net, {"mean": (0.1, 0.2)}, "2 values"),
        (net, {"std": 0}, "above 0"),
        (net, {"input_size": (1, 2, 3, 4)}, "input_size"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(make: object, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        probe.wrap(make(), **options)  # type: ignore[operator,arg-type]
    assert "\n" not in str(error.value)


def test_what_cannot_be_copied_says_why() -> None:
    with pytest.raises(CannotRunError, match="cannot be copied"):
        probe.wrap(Locked())


def test_a_later_change_does_not_reach_the_copy() -> None:
    module = net()
    model, before = probe.wrap(module), copy.deepcopy(module.state_dict())
    with torch.no_grad():
        module[0].weight.zero_()
    assert torch.equal(model.network[0].weight, before["0.weight"])
