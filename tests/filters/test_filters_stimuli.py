"""Tuning to stimuli, on channels whose answers are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.filters_models import loaded, pictures
from torch import Tensor, nn

import probe
from probe.core.blocks import Gallery, Series, Table
from studies.filters import FiltersConfig, forms, run, stimuli
from studies.filters.cards import card, tuning_picture

SIDE, KERNEL = 32, 15


def gabor(orientation: float, frequency: float, phase: float) -> Tensor:
    """A Gabor filter (KERNEL, KERNEL) without a mean, from its textbook formula, stripes at ``orientation``."""
    grid = torch.arange(KERNEL, dtype=torch.float64) - KERNEL // 2
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    angle = math.radians(orientation)
    across = x * math.sin(angle) + y * math.cos(angle)
    envelope = torch.exp(-(x**2 + y**2) / (2 * 3.0**2))
    wave = torch.cos(2 * math.pi * frequency * across + math.radians(phase))
    return envelope * (wave - (envelope * wave).sum() / envelope.sum())


def middle(images: Tensor, kernel: Tensor) -> Tensor:
    maps = F.conv2d(images.double(), kernel[None, None], padding=KERNEL // 2)
    return maps[:, 0, SIDE // 2, SIDE // 2]


@pytest.mark.parametrize("orientation", [0.0, 45.0, 90.0, 150.0])
def test_gabor_filters_are_tuned_as_they_were_made(orientation: float) -> None:
    size = (1, SIDE, SIDE)
    frequency = stimuli.frequencies(size[1:])[3]
    even, odd = (gabor(orientation, frequency, phase) for phase in (0, 90))

    def respond(images: Tensor) -> Tensor:
        first, second = middle(images, even), middle(images, odd)
        blob = images.double()[:, 0].mean((1, 2)) * 0
        return torch.stack([first, first.clamp_min(0), first**2 + second**2, blob], 1)

    found = stimuli.measure(respond, size, 50)
    linear, simple, complex_, blind = range(4)
    for channel in (linear, simple, complex_):
        assert found.orientation[channel] == orientation
        assert found.frequency[channel] == pytest.approx(frequency)
        assert found.selectivity[channel] > 0.5
    # A linear filter answers a moving grating with a sine; half of it, seen at eight phases, has this ratio (π/2 at all).
    half = np.maximum(np.cos(np.radians(stimuli.PHASES)), 0)
    expected = 2 * (half * np.cos(np.radians(stimuli.PHASES))).mean() / half.mean()
    assert found.modulation[simple] == pytest.approx(expected, rel=1e-6)
    assert found.modulation[linear] == pytest.approx(expected, rel=1e-6)
    assert found.modulation[complex_] < 0.1
    np.testing.assert_allclose(
        found.contrasts[linear] / found.contrasts[linear, -1], stimuli.CONTRASTS, rtol=1e-5
    )
    np.testing.assert_allclose(
        found.contrasts[complex_] / found.contrasts[complex_, -1], np.square(stimuli.CONTRASTS), rtol=1e-5
    )
    assert np.isnan(found.orientation[blind])
    assert np.isnan(found.selectivity[blind])
    assert found.hue is None


def test_stripes_stand_lie_and_are_bright_in_the_middle() -> None:
    standing = stimuli.grating((2, 12, 16), 90, 0.25, 0)
    assert standing.shape == (2, 12, 16)
    assert torch.equal(standing[:, :1].expand_as(standing), standing)
    lying = stimuli.grating((1, 12, 16), 0, 0.25, 0)
    assert torch.equal(lying[..., :1].expand_as(lying), lying)
    assert standing[0, 6, 8] == pytest.approx(1)
    assert standing[0, 6, 10] == pytest.approx(0)  # half a cycle of four pixels on
    weak = stimuli.grating((1, 12, 16), 30, 0.1, 0, contrast=0.2)
    assert 0.4 - 1e-6 <= float(weak.min()) < float(weak.max()) <= 0.6 + 1e-6


def test_a_channel_that_takes_red_from_the_others_prefers_red() -> None:
    def respond(images: Tensor) -> Tensor:
        red, green, blue = images.double().mean((2, 3)).unbind(1)
        return torch.stack([red - (green + blue) / 2, blue - (red + green) / 2, red + green + blue], 1)

    found = stimuli.measure(respond, (3, 16, 16), 64)
    assert found.hue is not None
    assert found.hue_selectivity is not None
    assert found.hue[:2].tolist() == [0, 240]
    assert found.hue_selectivity[:2].min() > 0.5
    for hue in stimuli.HUES:
        field = stimuli.colour((3, 4, 4), hue)
        assert float(field.mean()) == pytest.approx(0.5)
        assert float(field.min()) >= 0
        assert float(field.max()) <= 1 + 1e-6
        assert float((field - 0.5)[:, 0, 0].norm()) == pytest.approx(0.5 / math.sqrt(2 / 3))


def test_a_colour_channel_answers_saturation_in_proportion() -> None:
    found = stimuli.measure(lambda x: (x[:, :1] - x[:, 1:2]).double().mean((2, 3)), (3, 16, 16), 64)
    assert found.saturations is not None
    np.testing.assert_allclose(
        found.saturations[0] / found.saturations[0, -1], stimuli.SATURATIONS, rtol=1e-4
    )
    assert stimuli.KINDS[int(found.kinds[0].argmax())] == "colour"


@pytest.mark.parametrize(("kind", "angle"), [("dot", 0.0), ("corner", 135.0), ("curve", 90.0), ("bar", 45.0)])
def test_a_channel_that_is_a_form_answers_that_form_most(kind: str, angle: float) -> None:
    """The channel falls with the distance from the form, so that nothing else excites it more."""
    size = (1, SIDE, SIDE)
    drawn = forms.form(size, kind, 1 / 8, angle, True)[0].double()

    def respond(images: Tensor) -> Tensor:
        return torch.exp(-10 * (images.double()[:, 0] - drawn).square().mean((1, 2)))[:, None]

    found = stimuli.measure(respond, size, 64)
    assert stimuli.KINDS[int(found.kinds[0].argmax())] == kind


def test_forms_are_around_the_middle_and_turn() -> None:
    for kind, (_, turns, period) in forms.KINDS.items():
        bright, dark = (forms.form((2, 40, 48), kind, 1 / 4, 0, light)[0] for light in (True, False))
        assert torch.equal(bright - 0.5, 0.5 - dark)
        assert bright[20, 24] == 1
        quarter = forms.form((2, 40, 40), kind, 1 / 4, 90, True)[0]
        whole = forms.form((2, 40, 40), kind, 1 / 4, period, True)[0]
        # The middle is not in the middle of an even number of pixels: only what is away from the edge can be turned.
        plain = forms.form((2, 40, 40), kind, 1 / 4, 0, True)[0]
        assert float((torch.rot90(plain[1:, 1:], 1) != quarter[1:, 1:]).float().mean()) < 0.05
        if turns > 1:  # edges of checks lie on pixels, and round to either side
            assert float((plain != whole).float().mean()) < 0.1
    assert len(list(forms.forms((1, 32, 32)))) == 29 * 3 * 2


def test_the_width_of_a_tuning_curve() -> None:
    angles = np.radians(stimuli.ORIENTATIONS)
    squared, one = np.cos(angles - angles[4]) ** 2, np.eye(12)[3]
    np.testing.assert_allclose(stimuli.half_width(np.stack([squared, one, np.ones(12)])), [90, 15, 180])


def test_equal_responses_have_no_selectivity_and_one_has_all() -> None:
    angles = np.array(stimuli.ORIENTATIONS)
    assert stimuli.selectivity(np.ones((1, 12)), angles, 2)[0] == pytest.approx(0, abs=1e-12)
    assert stimuli.selectivity(np.eye(12), angles, 2) == pytest.approx(np.ones(12))
    opposite = np.zeros((1, 12))
    opposite[0, [0, 6]] = 1  # at right angles to one another
    assert stimuli.selectivity(opposite, angles, 2)[0] == pytest.approx(0, abs=1e-12)


def test_the_view_finds_a_vertical_channel_that_was_planted() -> None:
    network = loaded().network
    upright = gabor(90.0, stimuli.frequencies((16, 16))[4], 0)[4:11, 4:11].float()
    network.conv1 = nn.Conv2d(3, 6, 7, padding=3)
    with torch.no_grad():
        network.conv1.weight[2] = upright / 3
    model = loaded(network)
    report = run(model, pictures(8), FiltersConfig(views=("stimuli",), layers=("conv1",)))
    section = report.sections[0]
    assert not section.reason
    table = next(block for block in section.blocks if isinstance(block, Table))
    row = next(row for row in table.rows if row[0] == 2)
    assert row[1] == 90
    assert len(table.rows) == 6
    assert float(report["stimuli.conv1.oriented"]) >= 1 / 6


@pytest.mark.parametrize("channels", [1, 6])
def test_two_classes_and_any_number_of_channels(channels: int) -> None:
    net = nn.Sequential(
        nn.Conv2d(channels, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    pixels = torch.rand(6, channels, 12, 12, generator=torch.Generator().manual_seed(0))
    report = probe.filters(net, probe.images(pixels, torch.arange(6) % 2), views=["stimuli"])
    assert [section.reason for section in report.sections] == [""]


def test_cards_show_a_channel_that_was_planted_by_picture_tuning_and_patches() -> None:
    network = loaded().network
    network.conv1 = nn.Conv2d(3, 6, 7, padding=3)
    with torch.no_grad():
        network.conv1.weight[2] = gabor(90.0, stimuli.frequencies((16, 16))[4], 0)[4:11, 4:11].float() / 3
    options = FiltersConfig(
        views=("patches", "features", "stimuli"), layers=("conv1",), channels=(2, 4), steps=4
    )
    report = run(loaded(network), pictures(8), options)
    assert [section.id for section in report.sections] == ["cards", "patches", "features", "stimuli"]
    gallery = report.sections[0].blocks[0]
    assert isinstance(gallery, Gallery)
    first, second = gallery.strips
    assert (first.anchor, second.anchor) == ("conv1/ch2", "conv1/ch4")
    assert [picture.alt for picture in card(report.sections, "conv1", 2)] == [
        picture.alt for picture in first.pictures
    ]
    captions = [picture.caption for picture in first.pictures]
    assert captions[:2] == ["optimised", "tuning"]
    assert 3 <= len(first.pictures) <= 11
    # Far from the middle the curve of an upright filter is wide upwards and empty sideways.
    dark = first.pictures[1].pixels.astype(int).sum(2) < 450
    assert dark[8:20, 50:62].any()
    assert not dark[50:62, 8:20].any()


def test_cards_need_tuning_and_pictures() -> None:
    options = FiltersConfig(views=("patches", "stimuli"), layers=("conv1",), channels=(2,))
    assert run(loaded(), pictures(8), options).sections[0].id == "cards"
    only = run(loaded(), pictures(8), FiltersConfig(views=("stimuli",), layers=("conv1",), channels=(2,)))
    assert [section.id for section in only.sections] == ["stimuli"]


def test_a_tuning_picture_has_the_area_of_its_curve() -> None:
    """A circle of radius r has π r²; one that answers half of the angles alike has half of it."""
    angles = tuple(np.arange(0, 360, 0.5).tolist())
    for values, share in (([1.0] * 720, 1.0), ([1.0] * 360 + [-1.0] * 360, 0.5)):
        shape = tuning_picture(Series("ch 0", angles, tuple(values)))
        part = (shape < 200).any(2).mean() / (math.pi / 4 * 0.94**2)
        assert part == pytest.approx(share, abs=0.03)
