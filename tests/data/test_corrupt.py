"""Common corruptions against independent references: scipy, matplotlib, Pillow, closed forms, the published loops."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom
from scipy.stats import norm, poisson
from torch import Tensor

import probe
from probe.core.errors import NotApplicableError, UsageError
from probe.core.seeds import generator
from probe.data.corruptions import BENCHMARK, CORRUPTIONS, FEW, chosen
from probe.data.corruptions._blurs import disk, enlarged, streaked
from probe.data.corruptions._drops import edges, equalised
from probe.data.corruptions.fog import plasma

SEVERITIES = (1, 2, 3, 4, 5)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
DRAWN = {
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "elastic_transform",
}
DRAWN |= {"speckle_noise", "spatter"}
kinds = pytest.mark.parametrize("kind", tuple(CORRUPTIONS))
LEVEL = 1 / 255


def pixels(*shape: int, seed: int = 0) -> Tensor:
    """Random images whose values are multiples of 1/255."""
    return (torch.rand(shape, generator=generator(seed, "corrupt")) * 255).round() / 255


def scene(channels: int, side: int) -> Tensor:
    """A coloured picture with an edge, ripples, and darker and lighter parts; one image."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    waves = [
        0.35 + 0.2 * torch.sin((9 + 3 * k) * x + k) * torch.cos(7 * y - k) + 0.25 * (x + 0.2 * y > 0.6)
        for k in range(channels)
    ]
    return torch.stack(waves)[None].clamp(0, 1)


def corrupted(kind: str, images: Tensor, severity: int, seed: int = 0) -> NDArray[np.float64]:
    """The corrupted images as (N, H, W, C) float64."""
    draws = [generator(seed, index) for index in range(len(images))]
    found: NDArray[np.float64] = (
        CORRUPTIONS.get(kind)().apply(images, severity, draws).permute(0, 2, 3, 1).double().numpy()
    )
    return found


def arrays(images: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.rint(images.permute(0, 2, 3, 1).double().numpy() * 255) / 255
    return found


def cut_off(values: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.floor(values.clip(0, 1) * 255 + 1e-6) / 255
    return found


# --- what holds for every kind ----------------------------------------------------------------------------------


def test_the_kinds_are_the_published_ones_by_name_and_order() -> None:
    assert (*BENCHMARK, *EXTRA) == tuple(CORRUPTIONS)
    assert {name for name in CORRUPTIONS if CORRUPTIONS.get(name).alexnet is not None} == set(BENCHMARK)
    errors = [CORRUPTIONS.get(name).alexnet or 0 for name in BENCHMARK]
    # The paper's table averages them: AlexNet's mCE is 100 and its mean error without division 78.9, about.
    assert sum(errors) / 15 == pytest.approx(0.788, abs=0.002)
    assert all(CORRUPTIONS.get(name).title.lower().replace(" ", "_") == name for name in CORRUPTIONS)
    assert {CORRUPTIONS.get(name).family for name in FEW} == {"noise", "blur", "weather", "digital"}


def test_names_are_chosen_and_unknown_ones_refused() -> None:
    assert chosen(()) == FEW
    assert chosen(("all", "saturate", "fog")) == (*BENCHMARK, "saturate")
    assert chosen(("Gaussian-Noise",)) == ("gaussian_noise",)
    with pytest.raises(UsageError, match=r"no corruption 'fogg'.*Did you mean 'fog'"):
        chosen(("fogg",))


@kinds
@settings(max_examples=12, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 2), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)),
    severity=st.sampled_from(SEVERITIES),
    level=st.sampled_from([0.0, 0.5, 1.0, None]),
)
def test_gives_8_bit_images_of_the_same_shape_and_leaves_everything_else_alone(
    kind: str, shape: tuple[int, ...], severity: int, level: float | None
) -> None:
    if kind == "saturate" and shape[1] == 1:
        return
    images = pixels(*shape) if level is None else torch.full(shape, level)
    kept = images.clone()
    states: list[Any] = [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]
    draws = [generator(0, index) for index in range(len(images))]
    found = CORRUPTIONS.get(kind)().apply(images, severity, draws)
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert bool(((found >= 0) & (found <= 1)).all())
    assert float((found * 255 - (found * 255).round()).abs().sum()) < 1e-3
    assert torch.equal(images, kept)
    assert states == [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]


@kinds
def test_an_image_does_not_depend_on_its_batch_and_is_the_same_again(kind: str) -> None:
    images = pixels(3, 3, 32, 32)
    together = corrupted(kind, images, 4)
    alone = (
        CORRUPTIONS.get(kind)().apply(images[2:], 4, [generator(0, 2)]).permute(0, 2, 3, 1).double().numpy()
    )
    np.testing.assert_array_equal(together[2], alone[0])
    np.testing.assert_array_equal(together, corrupted(kind, images, 4))
    assert (kind in DRAWN) != np.array_equal(together, corrupted(kind, images, 4, seed=1))


@kinds
@pytest.mark.parametrize("side", [224, 32, 64])
def test_moves_further_from_the_original_at_higher_severities(kind: str, side: int) -> None:
    image = scene(3, side)
    far = [np.abs(corrupted(kind, image, severity) - arrays(image)).mean() for severity in SEVERITIES]
    if kind in (
        "elastic_transform",
        "saturate",
        "frost",
        "spatter",
        "fog",
        "snow",
        "glass_blur",
    ):  # as published: not steady
        assert min(far) > 0.001 or kind in ("spatter", "glass_blur")
    else:
        assert all(after >= before - 1.5e-3 for before, after in pairwise(far))
        assert far[-1] > far[0]


@kinds
def test_refuses_other_severities_shapes_and_numbers_of_generators(kind: str) -> None:
    made = CORRUPTIONS.get(kind)()
    for severity in (0, 6):
        with pytest.raises(ValueError, match="severity must be 1 to 5"):
            made.apply(pixels(1, 3, 8, 8), severity, [generator(0)])
    for shape in ((3, 8, 8), (1, 2, 8, 8), (1, 3, 0, 8)):
        with pytest.raises(ValueError, match="expected images of shape"):
            made.apply(torch.zeros(shape), 1, [generator(0)])
    with pytest.raises(ValueError, match="a generator for each of 2"):
        made.apply(pixels(2, 3, 8, 8), 1, [generator(0)])


def test_parameters_are_those_of_the_nearer_size_and_lengths_scale() -> None:
    blur = CORRUPTIONS.get("gaussian_blur")()
    assert [blur.parameters(5, side) for side in (224, 32)] == [(6, 1.0), (1, 1.0)]
    assert blur.parameters(3, 112) == (3, 0.5)
    assert blur.parameters(3, 85)[0] == 3
    assert blur.parameters(3, 84) == (0.7, 84 / 32)


def test_the_front_door() -> None:
    images = pixels(2, 3, 32, 32)
    found = probe.corrupt(images, "contrast", severity=2)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), corrupted("contrast", images, 2), atol=1e-6)
    for wrong in ({"corruption": "mist"}, {"corruption": "fog", "severity": 7}, {"corruption": "all"}):
        with pytest.raises(UsageError):
            probe.corrupt(images, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot be corrupted: expected images of shape"):
        probe.corrupt(images[0], "fog")
    with pytest.raises(NotApplicableError, match="no saturation"):
        probe.corrupt(images[:, :1], "saturate")


# --- noise: moments of the distributions, after clipping and cutting off ------------------------------------------


def moments(chances: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    mean = float(chances @ values)
    return mean, float(np.sqrt(chances @ (values - mean) ** 2))


def cut_normal(level: float, sigma: float) -> tuple[float, float]:
    steps = np.arange(256) / 255
    below = norm.cdf(np.append(steps[1:], np.inf), level, sigma)
    return moments(np.diff(below, prepend=0.0), steps)


def photons(level: float, white: float) -> tuple[float, float]:
    counts = np.arange(0, 2000)
    return moments(poisson.pmf(counts, level * white), cut_off(counts / white))


NOISE: dict[
    str, tuple[tuple[float, ...], tuple[float, ...], Callable[[float, float], tuple[float, float]]]
] = {
    "gaussian_noise": ((0.08, 0.12, 0.18, 0.26, 0.38), (0.04, 0.06, 0.08, 0.09, 0.1), cut_normal),
    "shot_noise": ((60, 25, 12, 5, 3), (500, 250, 100, 75, 50), photons),
    "impulse_noise": (
        (0.03, 0.06, 0.09, 0.17, 0.27),
        (0.01, 0.02, 0.03, 0.05, 0.07),
        lambda level, share: moments(
            np.array([1 - share, share / 2, share / 2]), np.array([level, 0.0, 1.0])
        ),
    ),
    "speckle_noise": (
        (0.15, 0.2, 0.35, 0.45, 0.6),
        (0.06, 0.1, 0.12, 0.16, 0.2),
        lambda level, share: cut_normal(level, level * share),
    ),
}


@pytest.mark.parametrize("side", [224, 32])
@pytest.mark.parametrize("kind", NOISE)
def test_noise_has_the_moments_of_its_distribution(kind: str, side: int) -> None:
    for severity in SEVERITIES:
        amount = NOISE[kind][0 if side == 224 else 1][severity - 1]
        for level in (51, 204):
            found = corrupted(
                kind, torch.full((1 if side == 224 else 49, 3, side, side), level / 255), severity
            )
            mean, spread = NOISE[kind][2](level / 255, amount)
            assert found.mean() == pytest.approx(mean, abs=5 * spread / found.size**0.5)
            assert found.std() == pytest.approx(spread, rel=0.03)


@pytest.mark.parametrize("kind", NOISE)
def test_noise_is_independent_between_channels_and_neighbours(kind: str) -> None:
    rows = corrupted(kind, torch.full((2, 3, 100, 100), 0.4), 3).transpose(0, 3, 1, 2).reshape(6, -1)
    assert np.abs(np.corrcoef(rows) - np.eye(6)).max() < 0.05
    assert abs(np.corrcoef(rows[:, :-1].ravel(), rows[:, 1:].ravel())[0, 1]) < 0.03


# --- blur -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "sigmas"), [(224, (1, 2, 3, 4, 6)), (32, (0.4, 0.6, 0.7, 0.8, 1))])
def test_gaussian_blur_is_scipys(side: int, sigmas: tuple[float, ...]) -> None:
    images = pixels(1, 3, side, side)
    for severity, sigma in enumerate(sigmas, 1):
        expected = np.stack(
            [gaussian_filter(plane, sigma, mode="nearest") for plane in images[0].double().numpy()], 2
        )
        np.testing.assert_allclose(
            corrupted("gaussian_blur", images, severity)[0], cut_off(expected), atol=LEVEL * 1.01
        )


def test_a_disk_has_sum_1_and_the_radius_that_it_says() -> None:
    for radius, smooth in ((3, 0.1), (4, 0.5), (6, 0.5), (1.5, 0.1), (0.5, 0.6)):
        kernel = disk(radius, smooth)
        place = np.arange(len(kernel)) - len(kernel) // 2
        assert kernel.sum() == pytest.approx(1)
        np.testing.assert_allclose(kernel, kernel[::-1].T)
        second = float((kernel.sum(0) * place**2).sum())
        inside = [(y, x) for y in place for x in place if x * x + y * y <= radius * radius]
        taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * smooth**2))
        added = float((taps / taps.sum() * np.array([1, 0, 1])).sum())
        assert second == pytest.approx(np.mean([x * x for _, x in inside]) + added)


def test_defocus_of_a_point_is_the_disk() -> None:
    image = torch.zeros(1, 1, 224, 224)
    image[0, 0, 100, 120] = 1
    found = corrupted("defocus_blur", image, 4)[0, :, :, 0]
    np.testing.assert_allclose(found[92:109, 112:129], cut_off(disk(8, 0.5)))
    assert found.sum() == pytest.approx(found[92:109, 112:129].sum())


@pytest.mark.parametrize(
    "kind",
    [
        "defocus_blur",
        "motion_blur",
        "zoom_blur",
        "glass_blur",
        "gaussian_blur",
        "elastic_transform",
        "pixelate",
    ],
)
def test_a_grey_wall_stays_a_grey_wall(kind: str) -> None:
    for side in (224, 32):
        for severity in SEVERITIES:
            # The published disks of radius 8 and 10 are cut by their windows: their sums are not quite 1.
            near = 2 * LEVEL if kind == "defocus_blur" else 1e-6
            wall = torch.full((1, 3, side, side), 0.4)
            np.testing.assert_allclose(corrupted(kind, wall, severity), 0.4, atol=near)


def test_motion_smears_a_point_along_half_a_gaussian() -> None:
    point = np.zeros((61, 61, 1))
    point[30, 30] = 1
    for angle, step in ((0.0, (0, -1)), (90.0, (-1, 0)), (45.0, None)):
        found = streaked(point, 10, 3, angle)[:, :, 0]
        weights = np.exp(-(np.arange(21) ** 2) / 18)
        weights /= weights.sum()
        if step is not None:
            line = [found[30 + k * step[0], 30 + k * step[1]] for k in range(21)]
            np.testing.assert_allclose(line, weights)
        assert found.sum() == pytest.approx(1)
        rows, columns = np.mgrid[:61, :61] - 30
        mean = float((weights * np.arange(21)).sum())
        assert (found * columns).sum() == pytest.approx(-mean * np.cos(np.radians(angle)), abs=0.3)
        assert (found * rows).sum() == pytest.approx(-mean * np.sin(np.radians(angle)), abs=0.3)


@pytest.mark.parametrize("factor", [1.0, 1.07, 1.3, 2.0, 4.5])
@pytest.mark.parametrize("side", [224, 32, 33])
def test_enlarging_is_scipys_zoom_of_the_centre(factor: float, side: int) -> None:
    image = pixels(1, 1, side, side)[0, 0].double().numpy()
    kept = int(np.ceil(side / factor))
    start = (side - kept) // 2
    large = zoom(image[start : start + kept, start : start + kept], factor, order=1)
    trim = (len(large) - side) // 2
    expected = large[trim : trim + side, trim : trim + side]
    np.testing.assert_allclose(enlarged(image[:, :, None], factor)[:, :, 0], expected, atol=1e-10)


def test_zoom_blur_is_the_mean_of_the_image_and_its_enlargements() -> None:
    image = pixels(1, 3, 32, 32)
    expected = arrays(image)[0]
    layers = [enlarged(expected, factor) for factor in np.arange(1, 1.16, 0.01)]
    np.testing.assert_allclose(corrupted("zoom_blur", image, 3)[0], cut_off(np.mean([expected, *layers], 0)))


def test_glass_copies_near_pixels_as_the_published_loop_does() -> None:
    """Numpy's views make the swap of the published loop a copy where images have channels."""
    image, severity, (sigma, reach, times) = scene(3, 32), 4, (0.25, 1, 2)
    blurred = np.stack(
        [gaussian_filter(plane, sigma, mode="nearest") for plane in np.moveaxis(arrays(image)[0], 2, 0)], 2
    )
    x = np.uint8(blurred * 255 + 1e-9)
    draws = generator(0, 0)
    for _ in range(times):
        drawn = torch.randint(-reach, reach, (2, 32 - 2 * reach, 32 - 2 * reach), generator=draws).numpy()
        for i, h in enumerate(range(32 - reach, reach, -1)):
            for j, w in enumerate(range(32 - reach, reach, -1)):
                near = h + drawn[0, i, j], w + drawn[1, i, j]
                x[h, w], x[near] = x[near], x[h, w]
    expected = np.stack(
        [gaussian_filter(plane / 255.0, sigma, mode="nearest") for plane in np.moveaxis(x, 2, 0)], 2
    )
    np.testing.assert_allclose(
        corrupted("glass_blur", image, severity)[0], cut_off(expected), atol=LEVEL * 1.01
    )


# --- weather and digital ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "added"), [(224, (0.1, 0.2, 0.3, 0.4, 0.5)), (32, (0.05, 0.1, 0.15, 0.2, 0.3))]
)
def test_brightness_raises_the_value_of_hsv(side: int, added: tuple[float, ...]) -> None:
    images = pixels(1, 3, side, side)
    images[0, :, :4], images[0, :, 4:8] = 0.0, 1.0
    for severity, amount in enumerate(added, 1):
        hsv = rgb_to_hsv(arrays(images))
        hsv[..., 2] = np.clip(hsv[..., 2] + amount, 0, 1)
        np.testing.assert_allclose(
            corrupted("brightness", images, severity), cut_off(hsv_to_rgb(hsv)), atol=LEVEL * 1.01
        )


@pytest.mark.parametrize(
    ("side", "amounts"),
    [
        (224, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
        (32, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
    ],
)
def test_saturate_changes_the_saturation_of_hsv(side: int, amounts: tuple[tuple[float, float], ...]) -> None:
    images = pixels(1, 3, side, side)
    images[0, :, :4], images[0, :, 4:8], images[0, :, 8:9] = 0.0, 1.0, 0.4
    for severity, (factor, addend) in enumerate(amounts, 1):
        hsv = rgb_to_hsv(arrays(images))
        hsv[..., 1] = np.clip(hsv[..., 1] * factor + addend, 0, 1)
        np.testing.assert_allclose(
            corrupted("saturate", images, severity), cut_off(hsv_to_rgb(hsv)), atol=LEVEL * 1.01
        )


@pytest.mark.parametrize(
    ("side", "factors"), [(224, (0.4, 0.3, 0.2, 0.1, 0.05)), (32, (0.75, 0.5, 0.4, 0.3, 0.15))]
)
def test_contrast_scales_the_deviations_from_the_mean(side: int, factors: tuple[float, ...]) -> None:
    images = pixels(2, 3, side, side)
    for severity, factor in enumerate(factors, 1):
        found = corrupted("contrast", images, severity)
        assert found.std((1, 2)) == pytest.approx(factor * arrays(images).std((1, 2)), abs=0.003)
        assert found.mean((1, 2)) == pytest.approx(arrays(images).mean((1, 2)) - LEVEL / 2, abs=LEVEL / 2)


@pytest.mark.parametrize(("side", "qualities"), [(224, (25, 18, 15, 10, 7)), (32, (80, 65, 58, 50, 40))])
def test_jpeg_is_pillows_round_trip(side: int, qualities: tuple[int, ...]) -> None:
    for channels in (1, 3):
        images = pixels(1, channels, side, side)
        eight = np.rint(arrays(images)[0] * 255).astype(np.uint8)
        for severity, quality in enumerate(qualities, 1):
            file = io.BytesIO()
            Image.fromarray(eight.squeeze()).save(file, "JPEG", quality=quality)
            expected = np.asarray(Image.open(file)).reshape(eight.shape) / 255
            np.testing.assert_allclose(
                corrupted("jpeg_compression", images, severity)[0], expected, atol=1e-6
            )


def test_pixelate_of_a_quarter_is_the_mean_of_blocks() -> None:
    image = pixels(1, 3, 224, 224)
    blocks = torch.nn.functional.avg_pool2d(image, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    found = corrupted("pixelate", image, 5)
    np.testing.assert_allclose(found, blocks.permute(0, 2, 3, 1).numpy(), atol=LEVEL * 1.01)
    assert (found == found[:, :1, :1]).mean() < 0.1


@pytest.mark.parametrize("decay", [3.0, 2.0, 1.5])
def test_fog_has_the_levels_of_a_plasma_fractal(decay: float) -> None:
    """The detail that a level adds is uniform: its variance is a⁴/3, with a smaller by the decay at each level."""
    sides = []
    for seed in range(20):
        heights = plasma(128, decay, generator(seed))
        assert (heights.min(), heights.max()) == (0, 1)
        fine = (
            heights[1::2, 1::2]
            - (
                heights[::2, ::2]
                + np.roll(heights[::2, ::2], -1, 0)
                + np.roll(heights[::2, ::2], -1, 1)
                + np.roll(heights[::2, ::2], (-1, -1), (0, 1))
            )
            / 4
        )
        coarse = (
            heights[2::4, 2::4]
            - (
                heights[::4, ::4]
                + np.roll(heights[::4, ::4], -1, 0)
                + np.roll(heights[::4, ::4], -1, 1)
                + np.roll(heights[::4, ::4], (-1, -1), (0, 1))
            )
            / 4
        )
        sides.append(coarse.std() / fine.std())
        assert np.abs(fine).max() / fine.std() < 3**0.5 * 1.1
    assert np.mean(sides) == pytest.approx(decay**2, rel=0.05)


def test_fog_is_a_mixture_with_white_that_keeps_the_range() -> None:
    image = scene(3, 224)
    found, clean = corrupted("fog", image, 1)[0], arrays(image)[0]
    white = clean.max()
    cloud = found * (white + 1.5) / white - clean
    assert np.ptp(cloud, axis=2).max() < 3 * LEVEL * (white + 1.5) / white
    assert cloud.min() + 0.02 >= 0
    assert cloud.max() <= 1.5 + 0.02


def test_frost_is_added_to_a_darkened_image_with_the_photographs_moments() -> None:
    black = corrupted("frost", torch.zeros(30, 3, 224, 224), 1) / 0.4
    lights = black.mean((1, 2, 3))
    assert 0.45 < lights.min() < lights.max() < 0.83
    assert black.mean(3).std((1, 2)).mean() == pytest.approx(0.09, abs=0.01)
    assert (black.mean((1, 2)).argmax(1) == 2).all()
    both = corrupted("frost", torch.full((1, 3, 224, 224), 0.2), 2) - corrupted(
        "frost", torch.zeros(1, 3, 224, 224), 2
    )
    np.testing.assert_allclose(both, 0.8 * 0.2, atol=LEVEL * 1.01)


def test_snow_is_symmetric_flakes_on_a_whitened_image() -> None:
    black = corrupted("snow", torch.zeros(4, 3, 224, 224), 1)
    np.testing.assert_allclose(
        black, black[:, ::-1, ::-1], atol=1e-12
    )  # a layer, and the same turned by 180°
    assert black.min() == pytest.approx(cut_off(np.array(0.2 * 0.5)))
    assert np.ptp(black, axis=3).max() == 0
    assert (black > 0.5).mean() < (corrupted("snow", torch.zeros(4, 3, 224, 224), 5) > 0.5).mean()


def test_elastic_transform_moves_pixels_as_far_as_its_draws() -> None:
    """A ramp shows displacements: where the affine map is small, neighbours stay in order and the mean stays."""
    ramp = torch.linspace(0.2, 0.8, 224).expand(1, 1, 224, 224)
    moved = (corrupted("elastic_transform", ramp, 3)[0, :, :, 0] - arrays(ramp)[0, :, :, 0]) * 223 / 0.6
    assert 0.5 < np.abs(moved[30:-30, 30:-30]).max() < 12
    y, x = torch.meshgrid(torch.linspace(0.2, 0.8, 32), torch.linspace(0.2, 0.8, 32), indexing="ij")
    bent = corrupted("elastic_transform", torch.stack([x, y, y])[None], 1)[
        0, 6:-6, 6:-6
    ]  # only an affine map
    rows, columns = np.mgrid[6:26, 6:26]
    terms = np.stack([rows.ravel(), columns.ravel(), np.ones(400)], 1)
    fitted, *_ = np.linalg.lstsq(terms, bent.reshape(400, 3), rcond=None)
    assert np.abs(terms @ fitted - bent.reshape(400, 3)).max() < 1.5 * LEVEL
    assert np.abs(bent - arrays(torch.stack([x, y, y])[None])[0, 6:-6, 6:-6]).max() > 4 * LEVEL


def test_water_lightens_and_mud_covers() -> None:
    grey_wall = torch.full((2, 3, 224, 224), 0.5)
    water, mud = corrupted("spatter", grey_wall, 3), corrupted("spatter", grey_wall, 5)
    assert water.min() >= cut_off(np.array(0.5))
    wet = (water - 0.5)[water[..., 0] > 0.55]
    assert len(wet) > 100
    assert (wet[:, 0] / wet[:, 1]).mean() == pytest.approx(175 / 238, abs=0.05)
    np.testing.assert_allclose(mud.min((0, 1, 2)), np.array([63, 42, 20]) / 255, atol=0.01)


def test_edges_of_a_square_are_its_outline() -> None:
    square = np.zeros((20, 20), np.uint8)
    square[5:15, 5:15] = 200
    found = edges(square)
    assert 30 <= found.sum() <= 44
    assert not found[8:12, 8:12].any()
    assert not found[:4].any()
    assert not edges(np.full((9, 9), 77, np.uint8)).any()
    assert not edges((square > 0).astype(np.uint8) * 9).any()  # 4 · 9 = 36 is below both thresholds


def test_equalised_histograms_are_flat() -> None:
    ramp = np.repeat(np.arange(0, 64, dtype=np.uint8), 4)[None]
    found = equalised(ramp)
    np.testing.assert_array_equal(found[0, ::4], np.rint(np.arange(64) * 255 / 63))
    wall = np.full((3, 3), 9, np.uint8)
    np.testing.assert_array_equal(equalised(wall), wall)
