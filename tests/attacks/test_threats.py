"""Threat models, on networks for which the worst change is known."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.threat_subjects import subject
from torch import Tensor, nn

from probe.attacks.norms import L0, L2
from probe.attacks.threats import THREATS
from probe.attacks.threats.choose import parse_threats
from probe.attacks.threats.colour import Colour, hsv, rgb
from probe.attacks.threats.patch import Patch
from probe.attacks.threats.spatial import Spatial
from probe.attacks.threats.universal import Universal
from probe.core.errors import NotApplicableError, UsageError


class Linear(nn.Module):
    """Two classes, with logits ±(⟨weight, x⟩ − threshold)."""

    def __init__(self, weight: Tensor, threshold: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 2)."""
        value = (x * self.weight).flatten(1).sum(1) - self.threshold
        return torch.stack([value, -value], 1)


def random(*size: int) -> Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(0))


def test_a_quarter_turn_and_whole_pixel_shifts_are_exact() -> None:
    images = random(2, 3, 8, 8)
    turned = Spatial(degrees=90).change(images, torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]))
    assert torch.allclose(turned[0], torch.rot90(images[0], 1, (1, 2)), atol=1e-5)
    assert torch.allclose(turned[1], torch.rot90(images[1], -1, (1, 2)), atol=1e-5)
    moved = Spatial(shift=0.25).change(images, torch.tensor([[0.0, 1, 0], [0.0, 0, -1]]))
    assert torch.allclose(moved[0, :, 2:], images[0, :, :-2], atol=1e-5)
    assert torch.allclose(moved[1, :, :, :-2], images[1, :, :, 2:], atol=1e-5)
    assert float(moved[0, :, :2].abs().max()) < 1e-6


def test_turned_pictures_keep_their_shape_where_sides_differ() -> None:
    """A square in a wide image is turned by 45° into one of the same area, not into a rhombus."""
    image = torch.zeros(1, 1, 40, 80)
    image[..., 10:30, 30:50] = 1
    turned = Spatial(degrees=45).change(image, torch.tensor([[1.0, 0, 0]]))
    assert float(turned.sum()) == pytest.approx(400, rel=0.02)
    rows, columns = turned[0, 0].sum(1) > 0.5, turned[0, 0].sum(0) > 0.5
    assert int(rows.sum()) == pytest.approx(20 * math.sqrt(2), abs=2)
    assert int(columns.sum()) == pytest.approx(int(rows.sum()), abs=1)


def test_the_smallest_shift_that_breaks_is_found() -> None:
    """A bright pixel that has to cross the middle: one column away it takes a shift of one pixel, four away of four."""
    weight = torch.ones(1, 1, 10, 10)
    weight[..., 5:] = -1
    images = torch.zeros(2, 1, 10, 10)
    images[0, 0, 5, 4], images[1, 0, 5, 1] = 1, 1
    threat = Spatial(degrees=0, shift=0.4, rotations=1, shifts=9)
    found = threat.attack(subject(Linear(weight, 0.0), images, torch.zeros(2, dtype=torch.long)))
    assert found.smallest.tolist() == pytest.approx([0.25, 1.0])
    assert found.robust(0.25).tolist() == [False, True]
    assert set(found.examples) == {0, 1}


def test_images_that_are_wrong_before_need_nothing() -> None:
    images = random(4, 1, 8, 8)
    found = Spatial(rotations=3, shifts=1).attack(
        subject(Linear(torch.ones(1, 1, 8, 8), 0.0), images, torch.ones(4, dtype=torch.long))
    )
    assert found.smallest.tolist() == [0.0] * 4
    assert found.control.shape == (4, 4)


def test_hue_saturation_and_value_are_those_of_the_standard_library() -> None:
    images = random(1, 3, 20, 20)
    images[0, :, 0, :4] = torch.tensor([[0.0, 1, 0.5, 0.5], [0.0, 1, 0.5, 0.5], [0.0, 1, 0.5, 0.2]])
    ours = torch.stack(hsv(images), 1)[0].flatten(1).T
    theirs = [colorsys.rgb_to_hsv(*pixel) for pixel in images[0].flatten(1).T.tolist()]
    assert np.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(rgb(*hsv(images)), images, atol=1e-5)


def test_a_network_that_looks_for_red_is_broken_by_hue_only() -> None:
    weight = torch.tensor([1.0, -0.5, -0.5])[:, None, None].expand(3, 6, 6)[None]
    images = torch.zeros(1, 3, 6, 6)
    images[:, 0] = 1
    labels = torch.zeros(1, dtype=torch.long)
    network = Linear(weight, 0.0)
    found = Colour(hues=19).attack(subject(network, images, labels))
    # Red against green and blue falls to none at 90°: within 135° it is broken, within 90° it is not.
    assert float(found.smallest[0]) == 0.75
    assert torch.isinf(Colour(hues=1).attack(subject(network, images, labels)).smallest).all()


def test_grey_images_have_no_hue() -> None:
    with pytest.raises(NotApplicableError, match="three channels"):
        Colour().attack(
            subject(Linear(torch.ones(1, 1, 6, 6), 0.0), random(2, 1, 6, 6), torch.zeros(2, dtype=torch.long))
        )


@pytest.mark.parametrize("norm", [None, L2()])
def test_one_perturbation_for_all_is_the_best_of_a_linear_network(norm: L2 | None) -> None:
    """All images of one class of a linear network are broken by one perturbation as soon as any is by its own."""
    weight = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    images = 0.4 + 0.02 * random(8, 1, 6, 6)
    scores = (images * weight).flatten(1).sum(1)
    dual = float(weight.abs().sum()) if norm is None else float(weight.norm())
    # The threshold lies where the run's epsilon breaks half of the images.
    for place in (2, 5):
        threshold = float(scores.sort().values[place : place + 2].mean()) - 0.1 * dual
        labels = torch.zeros(8, dtype=torch.long)
        assert (scores > threshold).all()
        given = subject(Linear(weight, threshold), images, labels, epsilon=0.1)
        given = given if norm is None else replace(given, norm=norm)
        found = Universal(steps=30).attack(given)
        assert found.budgets == pytest.approx((0.05, 0.1, 0.2))
        margins = (scores - threshold)[found.rows]
        for budget in found.budgets:
            left = margins - budget * dual
            assert float(left.abs().min()) > 1e-4  # rounding decides nothing
            assert found.robust(budget).tolist() == (left > 0).tolist()


def test_a_perturbation_for_all_images_needs_two_of_them_and_a_norm() -> None:
    network, labels = Linear(torch.ones(1, 1, 6, 6), 0.0), torch.zeros(1, dtype=torch.long)
    with pytest.raises(NotApplicableError, match="second half"):
        Universal().attack(subject(network, random(1, 1, 6, 6), labels))
    with pytest.raises(NotApplicableError, match="L0"):
        Universal().attack(replace(subject(network, random(1, 1, 6, 6), labels), norm=L0()))


def test_the_best_patch_on_a_network_that_averages_is_black() -> None:
    """Grey images of brightness 0.5, class 0 above a mean of t: a black patch of area a leaves 0.5 (1 − a)."""
    images = torch.full((6, 1, 20, 20), 0.5)
    weight = torch.full((1, 1, 20, 20), 1 / 400)
    for threshold, smallest in ((0.49, 0.0225), (0.47, 0.09), (0.4, math.inf)):
        network = Linear(weight, threshold)
        found = Patch(steps=60, largest=0.09).attack(
            subject(network, images, torch.zeros(6, dtype=torch.long))
        )
        assert found.smallest.tolist() == pytest.approx([smallest] * 3)
        # A patch of noise has the images' brightness on average.
        assert not found.control[:, 0].any()


def test_a_patch_that_does_not_fit_is_refused() -> None:
    network = Linear(torch.ones(1, 1, 6, 6), 0.0)
    with pytest.raises(NotApplicableError, match="do not fit"):
        Patch(largest=1.0).attack(subject(network, random(2, 1, 6, 6), torch.zeros(2, dtype=torch.long)))


def test_the_same_seed_gives_the_same_outcome() -> None:
    network = Linear(torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(3)), 0.0)
    images = random(6, 1, 8, 8)
    labels = network(images).argmax(1)
    for name in THREATS:
        if name == "colour":
            continue
        threat = parse_threats([name])[name]
        first, second = (threat.attack(subject(network, images, labels)) for _ in range(2))
        assert first.smallest.tolist() == second.smallest.tolist()
        assert first.control.tolist() == second.control.tolist()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["rain"], "rain"),
        (["spatial?degree=3"], "degree"),
        (["spatial", "spatial?degrees=3"], "twice"),
        (["patch?steps=x"], "steps"),
    ],
)
def test_unknown_names_and_options_are_refused(texts: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_threats(texts)


def test_all_are_chosen_in_order() -> None:
    assert list(parse_threats(["all"])) == ["spatial", "colour", "universal", "patch"]
    assert parse_threats(["spatial?degrees=10"])["spatial"] == Spatial(degrees=10)
