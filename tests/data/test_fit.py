"""Fitting equals torchvision's transforms to the last bit, and a closed form where torchvision has none."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tf

from probe.core.errors import CannotRunError, UsageError
from probe.data.images import InputSpec, UnreadableError
from probe.data.preprocess import MAX_PIXELS, check_channels, covering_size, fit

MODES = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}


def noise(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "F":
        return Image.fromarray(rng.random((height, width), dtype=np.float32))
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def torchvisions(image: Image.Image, spec: InputSpec, first: list[int]) -> torch.Tensor:
    """Resize to ``first`` (one number: the shorter side), cut the centre, scale to [0, 1]."""
    if image.mode != "F":
        image = image.convert("RGB" if spec.size[0] == 3 else "L")
    steps = transforms.Compose(
        [transforms.Resize(first, MODES[spec.interpolation]), transforms.CenterCrop(spec.size[1:])]
    )
    found = tf.to_tensor(steps(image))
    return found.clamp(0, 1).expand(spec.size[0], -1, -1)


@settings(deadline=None, max_examples=150)
@given(
    mode=st.sampled_from(["L", "RGB", "F"]),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    side=st.integers(1, 64),
    channels=st.sampled_from([1, 3]),
    crop=st.sampled_from([0.875, 1.0, 0.95, 0.5, 224 / 248]),
    interpolation=st.sampled_from(list(MODES)),
)
def test_square_inputs_equal_torchvisions_resize_and_centre_crop(
    mode, width, height, side, channels, crop, interpolation
):
    spec = InputSpec((channels, side, side), crop, interpolation)
    image = noise(mode, width, height)
    found = torch.from_numpy(fit(image, spec, framed=False))
    assert torch.equal(found, torchvisions(image, spec, [int(side / crop + 1e-6)]))


@settings(deadline=None, max_examples=80)
@given(
    mode=st.sampled_from(["L", "RGB", "F"]),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.tuples(st.sampled_from([1, 3]), st.integers(1, 64), st.integers(1, 64)),
    interpolation=st.sampled_from(list(MODES)),
)
def test_framed_images_equal_torchvisions_resize_to_both_sides(mode, width, height, size, interpolation):
    spec = InputSpec(size, 0.875, interpolation)
    image = noise(mode, width, height)
    found = torch.from_numpy(fit(image, spec, framed=True))
    assert torch.equal(found, torchvisions(image, spec, list(size[1:])))


@settings(deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    crop=st.sampled_from([0.875, 1.0, 0.5]),
)
def test_oblong_inputs_are_covered_as_tightly_as_the_aspect_allows(width, height, size, crop):
    across, down = covering_size((width, height), InputSpec((3, *size), crop))
    needed_down, needed_across = (int(side / crop + 1e-6) for side in size)
    scale = max(Fraction(needed_across, width), Fraction(needed_down, height))
    assert across >= needed_across
    assert down >= needed_down
    assert (across, down)[needed_down * width >= needed_across * height] in (needed_across, needed_down)
    assert 0 <= width * scale - across < 1 or across == needed_across
    assert 0 <= height * scale - down < 1 or down == needed_down


@pytest.mark.parametrize("image_size", [(100, 60), (60, 100), (64, 48), (31, 200)])
def test_oblong_inputs_are_cut_from_the_centre(image_size):
    spec = InputSpec((3, 48, 64), 0.875)
    image = noise("RGB", *image_size)
    width, height = covering_size(image_size, spec)
    expected = tf.to_tensor(tf.center_crop(tf.resize(image, [height, width]), [48, 64]))
    assert torch.equal(torch.from_numpy(fit(image, spec, framed=False)), expected)


def test_pixels_of_the_right_size_are_exact():
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = fit(Image.fromarray(array), InputSpec((1, 16, 16), 1.0), framed=True)
    assert np.array_equal(found[0], array.astype(np.float32) / np.float32(255))
    assert found.dtype == np.float32


def test_grey_is_repeated_for_colour_models():
    found = fit(noise("L", 9, 9), InputSpec((3, 9, 9), 1.0), framed=True)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_grey_models_see_the_luma_of_itu_r_601():
    image = noise("RGB", 9, 9)
    found = fit(image, InputSpec((1, 9, 9), 1.0), framed=True)
    luma = np.asarray(image, dtype=float) @ [0.299, 0.587, 0.114]
    assert np.abs(found[0] * 255 - luma).max() <= 0.51


@pytest.mark.parametrize("mode", ["L", "RGB", "F"])
def test_the_result_can_be_written_to(mode):
    for channels in (1, 3):
        found = fit(noise(mode, 8, 8), InputSpec((channels, 8, 8), 1.0), framed=True)
        assert found.flags.writeable
        assert found.flags.c_contiguous


def test_bicubic_overshoot_stays_within_zero_and_one():
    step = np.zeros((8, 8), dtype=np.float32)
    step[:, 4:] = 1
    found = fit(Image.fromarray(step), InputSpec((1, 64, 64), 1.0, "bicubic"), framed=True)
    raw = np.asarray(Image.fromarray(step).resize((64, 64), Image.Resampling.BICUBIC))
    assert raw.max() > 1
    assert raw.min() < 0
    assert (found.min(), found.max()) == (0, 1)


@pytest.mark.parametrize("size", [(50_000, 1), (1, 50_000), (20_000, 20)])
def test_images_too_elongated_to_resize_are_refused(size):
    width, height = covering_size(size, InputSpec())
    assert width * height > MAX_PIXELS
    with pytest.raises(
        UnreadableError, match=f"too elongated to be resized \\({size[0]} × {size[1]} pixels\\)"
    ):
        fit(Image.new("L", size), InputSpec(), framed=False)


@pytest.mark.parametrize("channels", [2, 4, 12])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(CannotRunError, match=f"has {channels} input channels"):
        check_channels(InputSpec((channels, 8, 8)))


@pytest.mark.parametrize(
    "options",
    [
        {"size": (3, 0, 8)},
        {"size": (0, 8, 8)},
        {"size": (8, 8)},
        {"crop": 0.0},
        {"crop": 1.01},
        {"interpolation": "x"},
    ],
)
def test_a_spec_without_meaning_is_a_usage_error(options):
    with pytest.raises(UsageError):
        InputSpec(**options)
