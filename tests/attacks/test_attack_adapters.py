"""What the adapters mend in the attacks of other libraries."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import torchattacks
from torch import Tensor, nn
from torchattacks.attack import Attack as PeerAttack

from probe.attacks.base import ATTACKS, Traits
from probe.attacks.model import AttackedModel
from probe.attacks.norms import L0, L1, L2, Linf
from probe.attacks.torchattacks_adapter import TorchattacksAttack, WrappedInputs, run_wrapped
from probe.core.errors import UsageError


class Planes(nn.Module):
    """Linear logits: weights (classes, C, H, W) and no more, so that everything can be worked out."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights  # a plain tensor: a network without parameters

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return torch.einsum("nchw,kchw->nk", x - 0.5, self.weights)


def planes(classes: int = 5, side: int = 10) -> tuple[AttackedModel, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(5)
    model = AttackedModel(Planes(torch.randn(classes, 3, side, side, generator=rng)))
    images = torch.rand(6, 3, side, side, generator=rng)
    return model, images, model.verdict(images).argmax(1)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Wanders(PeerAttack):  # type: ignore[misc]
    """Passes ``good`` and returns the images."""

    def __init__(self, model: Any, good: Tensor) -> None:
        super().__init__("Wanders", model)
        self.good = good

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.get_logits(images)
        self.get_logits(self.good)
        return images


@dataclass(frozen=True)
class Wandering(TorchattacksAttack):
    """Finds everything and returns nothing."""

    good: Any = None

    traits: ClassVar[Traits] = Traits(norms=("Linf",), access="white-box", paper="none")

    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        return Wanders(model, self.good)


@pytest.mark.parametrize("reduced", [False, True])
def test_rescue_returns_what_the_attack_passed_inside_the_ball(reduced: bool) -> None:
    model, images, labels = planes()
    model.bf16 = reduced
    good = ATTACKS.get("bim")().perturb(model, images, labels, Linf(), 0.3, rng())
    assert (model.verdict(good).argmax(1) != labels).all()
    assert model.rescued == 0
    good[4] = 1 - images[4]  # outside the ball
    found = Wandering(good=good).perturb(model, images, labels, Linf(), 0.3, rng())
    assert model.rescued == 5
    kept = [0, 1, 2, 3, 5]
    assert torch.equal(found[kept], good[kept])
    assert torch.equal(found[4], images[4])


def test_rescue_is_not_misled_by_a_pass_in_another_order() -> None:
    model, images, labels = planes()
    good = ATTACKS.get("bim")().perturb(model, images, labels, Linf(), 0.1, rng())
    found = Wandering(good=good.flip(0)).perturb(model, images, labels, Linf(), 0.1, rng())
    assert model.rescued == 0
    assert torch.equal(found, images)


class AsksLater(PeerAttack):  # type: ignore[misc]
    """Asks for the targets of a part of the batch."""

    def __init__(self, model: Any) -> None:
        super().__init__("AsksLater", model)
        self.supported_mode = ["default", "targeted"]

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        self.get_target_label(images[1:], labels[1:])
        return images


def test_targets_follow_the_images_they_belong_to() -> None:
    model, images, labels = planes()
    targets = (labels + torch.tensor([1, 2, 3, 4, 1, 2])) % 5
    case = WrappedInputs(model, images, labels, Linf(), 0.3, rng(), targets, seed=0, classes=5)
    rows = torch.tensor([4, 1])
    found = run_wrapped(torchattacks.FGSM(model, eps=0.3), case, rows)
    assert torch.equal(model.verdict(found).argmax(1), targets[rows])
    with pytest.raises(RuntimeError, match="asked for 5 targets of 6"):
        run_wrapped(AsksLater(model), case)


# PGDRS splits its batch, PIFGSM++ and SPSA read the targets where the labels go, the sparse ones go one by one.
@pytest.mark.parametrize(
    ("name", "options", "norm", "epsilon"),
    [
        ("pgdrs", {"noise": 0.05, "draws": 500}, Linf(), 0.3),
        ("pifgsmpp", {}, Linf(), 0.3),
        ("spsa", {"steps": 20}, Linf(), 0.3),
        ("pixle", {"steps": 100}, L0(), 90.0),
        ("jsma", {}, L0(), 60.0),
        ("sparse-l1-descent", {"steps": 20}, L1(), 40.0),
        ("gen-attack", {"steps": 50}, Linf(), 0.3),
        ("ddn", {}, L2(), 0.0),
        ("fmn", {}, L1(), 0.0),
        ("alma", {"steps": 200}, L2(), 0.0),
        ("pointwise", {"starts": 100}, L0(), 0.0),
    ],
)
def test_each_image_reaches_its_own_target(
    name: str, options: dict[str, Any], norm: Any, epsilon: float
) -> None:
    model, images, labels = planes()
    targets = (labels + torch.tensor([1, 2, 3, 4, 1, 2])) % 5
    found = ATTACKS.get(name)(**options).perturb(model, images, labels, norm, epsilon, rng(), targets)
    reached = model.verdict(found).argmax(1) == targets
    assert reached.sum() >= 4, reached


@pytest.mark.parametrize("classes", [3, 5])
def test_jsma_without_targets_aims_at_the_next_of_the_real_classes(classes: int) -> None:
    model, images, labels = planes(classes)
    found = ATTACKS.get("jsma")().perturb(model, images, labels, L0(), 60.0, rng())
    predictions = model.verdict(found).argmax(1)
    assert ((predictions == (labels + 1) % classes) | (predictions == labels)).all()
    assert (predictions != labels).sum() >= 4
    assert (L0().size(found - images) <= 60).all()


def test_jsma_refuses_images_whose_pairs_do_not_fit_in_memory() -> None:
    model, images, labels = planes(side=60)
    with pytest.raises(UsageError, match="10,800"):
        ATTACKS.get("jsma")().perturb(model, images, labels, L0(), 60.0, rng())


FLAT = [
    "mifgsm",
    "sparsefool",
    "newtonfool",
    "virtual-adversarial",
    "fmn",
    "alma",
    "ddn",
    "jitter",
]


@pytest.mark.parametrize("name", FLAT)
def test_flat_network_gives_the_clean_images_where_peers_divide_by_zero(name: str) -> None:
    model = AttackedModel(Planes(torch.zeros(5, 3, 10, 10)))
    images = torch.rand(3, 3, 10, 10, generator=rng())
    labels = torch.zeros(3, dtype=torch.long)
    attack = ATTACKS.get(name)()
    norm = {"Linf": Linf(), "L2": L2(), "L0": L0()}[attack.traits.norms[0]]
    found = attack.perturb(model, images, labels, norm, 0.1, rng())
    assert found.isfinite().all()
    assert norm.size(found - images).max() <= 0.1 + 1e-6


def test_minimum_norm_attacks_find_the_distance_to_a_plane() -> None:
    model = planes()[0]
    labels = torch.arange(6) % 5
    images = 0.5 + 0.03 * model.module.weights[labels]  # far from 0 and 1, so that the formula below holds
    logits = model.verdict(images)
    assert torch.equal(logits.argmax(1), labels)
    weights = model.module.weights.flatten(1)
    gaps = logits.gather(1, labels[:, None]) - logits
    lengths = torch.cdist(weights[labels], weights)
    nearest = torch.where(lengths > 0, gaps / lengths.clamp_min(1e-9), torch.inf).amin(1)
    for name, options, slack in [
        ("ddn", {"steps": 300}, 0.05),
        ("fmn", {"steps": 300}, 0.05),
        ("alma", {"steps": 300}, 0.05),
        ("hopskipjump", {"steps": 30}, 0.3),
    ]:
        attack = ATTACKS.get(name)(**options)
        sizes = L2().size(attack.perturb(model, images, labels, L2(), 10.0, rng()) - images)
        assert (sizes >= nearest * (1 - 1e-3)).all(), name
        assert (sizes <= nearest * (1 + slack) + 1e-3).all(), (name, sizes / nearest)


def test_foolbox_images_without_a_start_come_back_clean_and_the_others_do_not() -> None:
    class Bright(nn.Module):
        """Class 1 where an image is brighter than uniform noise ever is, else class 0 or 2."""

        def forward(self, x: Tensor) -> Tensor:
            mean = x.mean((1, 2, 3))
            return torch.stack([0 * mean + 0.5, 40 * (mean - 0.7), 10 * (mean - 0.4)], 1)

    model = AttackedModel(Bright())
    images = torch.full((3, 3, 10, 10), 0.3)
    labels = torch.tensor([0, 0, 1])
    targets = torch.tensor([2, 1, 2])
    attack = ATTACKS.get("boundary")(steps=50, directions=5)
    found = attack.perturb(model, images, labels, L2(), 1.0, rng(), targets)
    assert torch.equal(model.verdict(found).argmax(1), torch.tensor([2, 0, 2]))
    assert torch.equal(found[1], images[1])


def test_pixle_takes_images_that_are_not_square() -> None:
    for shape in [(3, 8, 14), (3, 14, 8)]:
        model = AttackedModel(Planes(torch.randn(4, *shape, generator=rng())))
        images = torch.rand(4, *shape, generator=rng())
        labels = model.verdict(images).argmax(1)
        found = ATTACKS.get("pixle")().perturb(model, images, labels, L0(), 40.0, rng())
        assert found.shape == images.shape
        assert (L0().size(found - images) <= 40).all()


@pytest.mark.parametrize("name", ["tifgsm", "pifgsm", "pifgsmpp", "difgsm"])
def test_attacks_written_for_square_colour_refuse_the_rest(name: str) -> None:
    shape = (3, 10, 14) if name in ("difgsm", "tifgsm") else (6, 10, 10)
    model = AttackedModel(Planes(torch.randn(4, *shape, generator=rng())))
    images = torch.rand(2, *shape, generator=rng())
    with pytest.raises(UsageError, match=r"10 by 14|channels"):
        ATTACKS.get(name)().perturb(model, images, torch.zeros(2, dtype=torch.long), Linf(), 0.1, rng())


def test_two_channels_are_attacked_as_three_of_which_one_is_not_read() -> None:
    weights = torch.randn(4, 2, 10, 10, generator=rng())
    images = torch.rand(3, 2, 10, 10, generator=rng())
    two = AttackedModel(Planes(weights))
    labels = two.verdict(images).argmax(1)
    three = AttackedModel(Planes(torch.cat([weights, torch.zeros(4, 1, 10, 10)], 1)))
    filled = torch.cat([images, images[:, -1:]], 1)
    for name in ("tifgsm", "pifgsm", "pifgsmpp"):
        attack = ATTACKS.get(name)(**({"probability": 0.0} if name == "tifgsm" else {}))
        one = attack.perturb(two, images, labels, Linf(), 0.1, rng())
        other = attack.perturb(three, filled, labels, Linf(), 0.1, rng())
        assert torch.allclose(one, other[:, :2], atol=1e-6), name


def test_grey_images_are_attacked_as_their_colour_copies_are() -> None:
    weights = torch.randn(4, 1, 10, 10, generator=rng())
    grey = AttackedModel(Planes(weights))
    images = torch.rand(3, 1, 10, 10, generator=rng())
    labels = grey.verdict(images).argmax(1)
    colour = AttackedModel(Planes(weights.expand(-1, 3, -1, -1) / 3))
    attack = ATTACKS.get("tifgsm")(kernel=5, probability=0.0)
    one = attack.perturb(grey, images, labels, Linf(), 0.1, rng())
    three = attack.perturb(colour, images.expand(-1, 3, -1, -1), labels, Linf(), 0.1, rng())
    assert torch.allclose(one.expand_as(three), three)


def test_importing_the_adapters_neither_warns_nor_prints() -> None:
    modules = (
        "probe.attacks.foolbox_adapter, probe.attacks.torchattacks_adapter, probe.attacks.families.descent"
    )
    command = [sys.executable, "-W", "error", "-c", f"import {modules}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
