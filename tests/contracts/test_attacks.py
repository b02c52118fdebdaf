"""What every attack keeps to, whoever wrote it."""

from __future__ import annotations

import copy
import importlib.util
import random
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pretended_gpu import pretended_gpu
from torch import Tensor, nn

from probe.attacks.base import ATTACKS, Attack, summary
from probe.attacks.foolbox_adapter import FoolboxAttack
from probe.attacks.judge import judge
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS
from probe.attacks.torchattacks_adapter import TorchattacksAttack
from probe.core.errors import UsageError
from probe.core.state import fingerprint

SIDE = 10
EPSILONS = {"Linf": 0.1, "L2": 1.0, "L1": 8.0, "L0": 6.0}
LARGE = {"Linf": 0.5, "L2": 8.0, "L1": 120.0, "L0": 150.0}

# The fewest steps with which an attack still does all that it does.
FEWER: dict[str, dict[str, Any]] = {
    "boundary": {"steps": 30, "directions": 20},
    "hopskipjump": {"steps": 2, "queries": 10, "directions": 20},
    "brendel-bethge": {"steps": 5, "directions": 20},
    "ead": {"steps": 20, "searches": 2, "constant": 10.0},
    "eaden": {"steps": 10, "searches": 2, "constant": 10.0},
    "eadl1": {"steps": 10, "searches": 2, "constant": 10.0},
    "gen-attack": {"steps": 5, "population": 4},
    "pointwise": {"starts": 20},
    "salt-and-pepper": {"steps": 30},
    "blended-noise": {"directions": 20, "steps": 30},
    "gaussian-blur": {"steps": 30},
    "onepixel": {"steps": 2, "population": 30},
    "pixle": {"steps": 3, "restarts": 3},
    "spsa": {"steps": 3, "samples": 8, "batch": 4},
    "sparsefool": {"steps": 2},
    "vmifgsm": {"steps": 4, "neighbours": 2},
    "vnifgsm": {"steps": 4, "neighbours": 2},
    "sinifgsm": {"steps": 4, "copies": 2},
}
SHORT = {"steps": 5, "queries": 30, "iterations": 5, "restarts": 1}
NEEDS = {"brendel-bethge": "numba"}
"""Attacks that ask for a package which need not be there."""


class SmallNet(nn.Module):
    """Two convolutions, batch normalisation in eval mode, a linear layer."""

    def __init__(self, channels: int = 3, classes: int = 5, size: int = SIDE) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1, stride=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3),
            nn.ReLU(),
        )
        self.head = nn.Linear(8 * (size // 2 - 2) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.head(self.body(x).flatten(1))
        return logits


class Failing(SmallNet):
    """Fails at a pass in the middle of an attack."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.passes = [0]

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``at`` times."""
        self.passes[0] += 1
        if self.passes[0] > self.at:
            raise ArithmeticError("the network broke")
        return super().forward(x)


def network(channels: int = 3, classes: int = 5, net: nn.Module | None = None) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        module = SmallNet(channels, classes) if net is None else net
        for parameter in module.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.35)
    return module.eval()


@cache
def scene(channels: int = 3, classes: int = 5) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, 8 images and their labels, all but one of them as the network has them."""
    module = network(channels, classes)
    images = torch.rand(8, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    images[0, 0, :2] = 0.0
    images[1, 0, :2] = 1.0
    with torch.no_grad():
        labels = module(images).argmax(1)
    labels[2] = (labels[2] + 1) % classes
    return module, images, labels


def built(name: str) -> Attack:
    kind = ATTACKS.get(name)
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    options = FEWER.get(name, {key: value for key, value in SHORT.items() if key in known})
    return kind(**options)


def run(
    attack: Attack,
    norm: str,
    *,
    channels: int = 3,
    classes: int = 5,
    targets: Tensor | None = None,
    seed: int = 0,
    count: int = 8,
    epsilons: Mapping[str, float] = EPSILONS,
) -> tuple[AttackedModel, Tensor]:
    module, images, labels = scene(channels, classes)
    model = AttackedModel(module)
    generator = torch.Generator().manual_seed(seed)
    found = attack.perturb(
        model, images[:count], labels[:count], NORMS[norm], epsilons[norm], generator,
        None if targets is None else targets[:count],
    )  # fmt: skip
    return model, found


def runnable(name: str) -> bool:
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


CASES = [(name, norm) for name in ATTACKS if runnable(name) for norm in ATTACKS.get(name).traits.norms]
TARGETED = [(name, norm) for name, norm in CASES if ATTACKS.get(name).traits.targeted]
FIRST = [(name, ATTACKS.get(name).traits.norms[0]) for name in ATTACKS if runnable(name)]
LOOKING = [(name, norm) for name, norm in CASES if ATTACKS.get(name).traits.access != "none"]
"""Those that ask the network anything."""


def state() -> tuple[bytes, str, str]:
    return torch.get_rng_state().numpy().tobytes(), str(np.random.get_state()), str(random.getstate())


def check(found: Tensor, attack: Attack, norm: str, targets: Tensor | None = None, **which: int) -> None:
    module, images, labels = scene(**which)
    assert found.shape == images.shape
    assert not found.requires_grad
    assert found.isfinite().all()
    assert found.min() >= -1e-6
    assert found.max() <= 1 + 1e-6
    verdict = judge(AttackedModel(module), images, found, labels, NORMS[norm], EPSILONS[norm], targets)
    if not attack.traits.minimum_norm:
        assert not verdict.outside.any(), "a proposal outside the ball"


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_attack_gives_images_inside_the_ball_and_leaves_everything_as_it_was(
    name: str, norm: str, capfd: pytest.CaptureFixture[str]
) -> None:
    attack = built(name)
    before, drawn = fingerprint(scene()[0]), state()
    images = scene()[1].clone()
    _, found = run(attack, norm)
    assert state() == drawn, "a global generator moved"
    assert fingerprint(scene()[0]) == before
    assert torch.equal(scene()[1], images), "the caller's images changed"
    assert capfd.readouterr() == ("", "")
    check(found, attack, norm)
    _, again = run(attack, norm)
    assert torch.equal(found, again), "one seed gave two results"


@pytest.mark.parametrize(("name", "norm"), TARGETED)
def test_targeted_attack_keeps_to_the_ball(name: str, norm: str) -> None:
    attack = built(name)
    targets = (scene()[2] + 2) % 5
    _, found = run(attack, norm, targets=targets)
    check(found, attack, norm, targets)


@pytest.mark.parametrize(("name", "norm"), FIRST)
def test_attack_on_grey_images_with_few_classes(name: str, norm: str) -> None:
    attack = built(name)
    _, found = run(attack, norm, channels=1, classes=3)
    check(found, attack, norm, channels=1, classes=3)


@pytest.mark.parametrize(("name", "norm"), LOOKING)
def test_attack_breaks_an_image_at_a_large_epsilon(name: str, norm: str) -> None:
    module, images, labels = scene()
    attack = built(name)
    # One pixel's candidates are as many as its numbers.
    large = LARGE | ({"L0": 50.0} if name == "onepixel" else {})
    _, found = run(attack, norm, epsilons=large)
    verdict = judge(AttackedModel(module), images, found, labels, NORMS[norm], large[norm])
    correct = module(images).argmax(1) == labels
    assert (verdict.success & correct).any()


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_attack_takes_channels_last_images(name: str, norm: str) -> None:
    attack = built(name)
    module, images, labels = scene()
    model = AttackedModel(module, memory_format=torch.channels_last)
    placed = images.contiguous(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    found = attack.perturb(model, placed, labels, NORMS[norm], EPSILONS[norm], generator)
    check(found, attack, norm)


# eagerpy, on which foolbox rests, asks for the class of a tensor.
@pytest.mark.parametrize(
    ("name", "norm"), [case for case in CASES if not issubclass(ATTACKS.get(case[0]), FoolboxAttack)]
)
def test_attack_works_on_another_device_with_the_same_result(name: str, norm: str) -> None:
    attack, (module, images, labels) = built(name), scene()
    _, here = run(attack, norm, count=4)
    with pretended_gpu() as gpu:
        model = AttackedModel(copy.deepcopy(module).to(gpu))
        generator = torch.Generator().manual_seed(0)
        found = attack.perturb(
            model, images[:4].to(gpu), labels[:4].to(gpu), NORMS[norm], EPSILONS[norm], generator
        )
        assert found.device == gpu
        there = found.cpu()
    # torchattacks draws on the device itself.
    if not isinstance(attack, TorchattacksAttack):
        torch.testing.assert_close(there, here, rtol=0, atol=1e-6)
    assert there.min() >= -1e-6
    assert there.max() <= 1 + 1e-6


@pytest.mark.parametrize(("name", "norm"), FIRST)
def test_attack_that_breaks_off_leaves_everything_as_it_was(name: str, norm: str) -> None:
    _, images, labels = scene()
    attack, module = built(name), Failing(10**9)
    network(net=module)

    def attempt() -> None:
        generator = torch.Generator().manual_seed(0)
        attack.perturb(model, images, labels, NORMS[norm], EPSILONS[norm], generator)

    model = AttackedModel(module)
    attempt()
    passes = module.passes[0]
    module.at, module.passes = passes // 2, [0]
    before, drawn = fingerprint(module), state()
    model = AttackedModel(module)
    with pytest.raises(ArithmeticError, match="the network broke") if passes else nullcontext():
        attempt()
    assert state() == drawn
    assert fingerprint(module) == before
    assert model._seen is None


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attack_refuses_what_it_does_not_know(name: str) -> None:
    attack = built(name)
    for norm in set(NORMS) - set(attack.traits.norms):
        with pytest.raises(UsageError, match="supports"):
            run(attack, norm)
    if not attack.traits.targeted:
        with pytest.raises(UsageError, match="does not support targeted"):
            run(attack, attack.traits.norms[0], targets=scene()[2])


@pytest.mark.parametrize(("name", "norm"), FIRST)
def test_attack_takes_no_images_and_one_image(name: str, norm: str) -> None:
    _, found = run(built(name), norm, count=0)
    assert found.shape == (0, 3, SIDE, SIDE)
    _, found = run(built(name), norm, count=1)
    assert found.shape == (1, 3, SIDE, SIDE)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attack_says_what_it_is(name: str) -> None:
    kind = ATTACKS.get(name)
    assert set(kind.traits.norms) <= set(NORMS)
    assert kind.traits.paper
    assert summary(kind).endswith(".")
    attack = built(name)
    assert replace(attack) == attack  # type: ignore[type-var]
    assert hash(attack) == hash(built(name))


SHAPES = [(1, 10, 10), (2, 10, 10), (6, 10, 10), (3, 12, 20), (1, 20, 12), (6, 7, 9)]


class AnyShape(nn.Module):
    """A small network for images of one shape, which counts its passes."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        self.body = nn.Sequential(nn.Conv2d(channels, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1))
        self.head = nn.Linear(8 * ((height + 1) // 2) * ((width + 1) // 2), 4)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 4)."""
        self.passes += 1
        logits: Tensor = self.head(self.body(x).relu().flatten(1))
        return logits


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "norm"), FIRST)
def test_attack_on_images_of_any_shape_works_or_is_refused_before_any_work(
    name: str, norm: str, shape: tuple[int, int, int]
) -> None:
    attack, module = built(name), network(net=AnyShape(shape))
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(5))
    labels = module(images).argmax(1)
    module.passes = 0

    def attempt(one: Attack) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return one.perturb(AttackedModel(module), images, labels, NORMS[norm], EPSILONS[norm], generator)

    if attack.refusal(shape):
        with pytest.raises(UsageError) as caught:
            attempt(attack)
        assert module.passes == 0
        message = str(caught.value)
        assert message.startswith(f"The attack {name} cannot be used here, because it ")
        assert "\n" not in message
        for instead in message.rpartition(": use ")[2].rstrip(".").split(" or "):
            assert norm in ATTACKS.get(instead).traits.norms
            assert attempt(built(instead)).shape == images.shape
        return
    found = attempt(attack)
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert -1e-6 <= found.min() <= found.max() <= 1 + 1e-6
    verdict = judge(AttackedModel(module), images, found, labels, NORMS[norm], EPSILONS[norm], None)
    if not attack.traits.minimum_norm:
        assert not verdict.outside.any(), "a proposal outside the ball"


def test_only_attacks_that_say_why_refuse_a_shape() -> None:
    refusing = {(name, shape) for name in ATTACKS for shape in SHAPES if built(name).refusal(shape)}
    blurs, resizes = {"pifgsm", "pifgsmpp", "tifgsm"}, {"difgsm", "tifgsm"}
    expected = {(name, shape) for name in blurs for shape in SHAPES if shape[0] > 3}
    expected |= {(name, shape) for name in resizes for shape in SHAPES if shape[1] != shape[2]}
    assert refusing == expected


@pytest.mark.parametrize("name", NEEDS)
def test_entry_that_needs_a_package_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda wanted: None if wanted == NEEDS[name] else find(wanted)
    )
    with pytest.raises(UsageError, match=NEEDS[name]):
        run(built(name), ATTACKS.get(name).traits.norms[0])
