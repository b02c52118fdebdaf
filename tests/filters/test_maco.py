"""MACO: the magnitude stays, the phase moves, and what the channel wants is found in it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import probe
from probe.core.errors import UsageError
from probe.core.seeds import scoped
from probe.core.state import fingerprint
from studies.filters.optimise import (
    Channel,
    Crops,
    FixedMagnitude,
    FourierBasis,
    Parametrisation,
    PictureRecipe,
    PictureSubject,
    Transforms,
    UnitObjective,
    mean_magnitude,
    power_law,
    render,
)
from studies.filters.optimise.maco import odd_phases, periodic_spectrum

SIZES = [(16, 14), (15, 17), (12, 12), (9, 16)]
sizes = st.tuples(st.integers(3, 17), st.integers(3, 17))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.rand(count, channels, *size, generator=seeded(seed)) * 0.8 + 0.1


def network(channels: int = 3) -> nn.Sequential:
    with scoped(3):
        return nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2)).eval()


def classifier() -> nn.Sequential:
    return nn.Sequential(*network(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def spectrum_of(parametrisation: Parametrisation, pictures: Tensor) -> np.ndarray:
    """The magnitude of the planes of pictures, by numpy: the sigmoid is undone first."""
    planes = parametrisation.uncoloured(pictures.double()).numpy()
    return np.abs(np.fft.rfft2(planes, norm="ortho"))


@given(sizes, st.integers(0, 99), st.sampled_from([1, 3, 6]))
def test_planes_have_the_magnitude_whatever_the_phases(
    size: tuple[int, int], seed: int, channels: int
) -> None:
    plain = Parametrisation(FourierBasis(*size), channels)
    # Little contrast, so that no pixel is so near to black or white that the logit cuts it off.
    magnitude = mean_magnitude(plain, noise(3, channels, size, seed)) * 0.3
    fixed = FixedMagnitude(plain.basis, channels, False, magnitude)
    phases = torch.randn(2, channels, *magnitude.shape[1:], generator=seeded(seed), dtype=torch.float64) * 3
    found = spectrum_of(plain, fixed.pictures(phases))
    np.testing.assert_allclose(
        found, np.broadcast_to(magnitude.abs().numpy(), found.shape), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("size", SIZES)
def test_optimised_pictures_have_the_magnitude_too(size: tuple[int, int]) -> None:
    plain = Parametrisation(FourierBasis(*size))
    magnitude = mean_magnitude(plain, noise(4, 3, size)) * 0.3
    found = render(
        PictureSubject(network()), [Channel(0), Channel(2)], size, PictureRecipe(15, magnitude=magnitude)
    )
    np.testing.assert_allclose(
        spectrum_of(plain, found.pictures)[1], magnitude.abs().numpy(), rtol=1e-3, atol=1e-3
    )


def test_saturated_pixels_are_all_that_breaks_the_magnitude() -> None:
    plain = Parametrisation(FourierBasis(32, 32))
    magnitude = power_law(plain)
    fixed = FixedMagnitude(plain.basis, 3, False, magnitude)
    found = spectrum_of(plain, fixed.pictures(fixed.start(seeded(0))[None]))[0]
    assert np.median(np.abs(found - magnitude.numpy())[:, 1:, 1:] / magnitude.numpy()[:, 1:, 1:]) < 0.05


@given(sizes, st.integers(0, 99))
def test_edge_columns_have_the_phases_of_a_real_plane(size: tuple[int, int], seed: int) -> None:
    height, width = size
    phases = torch.randn(height, width // 2 + 1, generator=seeded(seed), dtype=torch.float64)
    odd = odd_phases(phases, width)
    again = torch.fft.rfft2(
        torch.fft.irfft2(torch.polar(torch.ones_like(odd), odd), s=size, norm="ortho"), norm="ortho"
    )
    torch.testing.assert_close(again.abs(), torch.ones_like(odd))
    torch.testing.assert_close(torch.exp(1j * odd), again)


def test_gradients_reach_the_phases_and_nothing_else() -> None:
    size = (12, 10)
    module = network()
    magnitude = mean_magnitude(Parametrisation(FourierBasis(*size)), noise(2, 3, size)).requires_grad_(False)
    fixed = FixedMagnitude(FourierBasis(*size), 3, False, magnitude)
    phases = fixed.start(seeded(1))[None].double().requires_grad_(True)
    module.double()
    value = module(fixed.pictures(phases))[0, 1].mean()
    (gradient,) = torch.autograd.grad(value, phases)
    assert gradient.abs().max() > 0
    assert gradient[..., 0, 0].abs().max() == 0  # the mean colour has no phase
    assert magnitude.grad is None
    along = torch.randn(phases.shape, generator=seeded(2), dtype=torch.float64)
    with torch.no_grad():
        up, down = (module(fixed.pictures(phases + step * along))[0, 1].mean() for step in (1e-5, -1e-5))
    assert ((up - down) / 2e-5).item() == pytest.approx((gradient * along).sum().item(), rel=1e-5)


@pytest.mark.parametrize(("channels", "grey"), [(1, False), (3, False), (3, True), (6, False)])
def test_mean_magnitude_is_the_mean_over_images(channels: int, grey: bool) -> None:
    size = (10, 12)
    plain = Parametrisation(FourierBasis(*size), channels, grey)
    images = noise(3, channels, size)
    found = mean_magnitude(plain, images)
    expected = np.zeros(found.shape)
    means = np.zeros(found.shape[0])
    for image in images:
        planes = plain.uncoloured(image[None].double())[0]
        spectrum = periodic_spectrum(planes).numpy()
        expected += np.abs(spectrum) / len(images)
        means += planes.mean((1, 2)).numpy() * math.sqrt(120) / len(images)
    expected[:, 0, 0] = means
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_mean_colour_is_that_of_the_images() -> None:
    size = (8, 8)
    images = torch.tensor([0.8, 0.3, 0.2]).view(1, 3, 1, 1).expand(2, 3, *size)
    plain = Parametrisation(FourierBasis(*size))
    fixed = FixedMagnitude(plain.basis, 3, False, mean_magnitude(plain, images))
    found = fixed.pictures(fixed.start(seeded(0))[None])
    torch.testing.assert_close(found, images[:1], rtol=0, atol=1e-4)


def test_the_periodic_component_loses_jumps_and_keeps_waves() -> None:
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(20.0), indexing="ij")
    wave = torch.cos(2 * math.pi * (3 * rows / 24 + 5 * columns / 20)).double()
    torch.testing.assert_close(
        periodic_spectrum(wave).abs()[3, 5], torch.tensor(math.sqrt(480) / 2).double(), rtol=0.05, atol=0
    )
    ramp = (columns / 20).double()
    plain = torch.fft.rfft2(ramp, norm="ortho")
    assert periodic_spectrum(ramp).abs()[0, 1:].sum() < 0.3 * plain.abs()[0, 1:].sum()
    torch.testing.assert_close(periodic_spectrum(ramp)[0, 0], plain[0, 0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("planes", [1, 3, 6])
def test_the_power_law_falls_with_frequency_and_has_one_contrast(size: tuple[int, int], planes: int) -> None:
    law = power_law(Parametrisation(FourierBasis(*size), planes)).double()
    assert law.shape == (planes, size[0], size[1] // 2 + 1)
    assert law[0, 0, 2].item() == pytest.approx(law[0, 0, 1].item() / 2)
    fixed = torch.polar(law, odd_phases(torch.rand(law.shape, generator=seeded(0)).double() * 6, size[1]))
    plane = torch.fft.irfft2(fixed, s=size, norm="ortho")
    torch.testing.assert_close(
        plane.square().mean((1, 2)).sqrt(), torch.full((planes,), 7.0).double(), rtol=1e-4, atol=0
    )


def stripes(horizontal: bool) -> nn.Conv2d:
    """A channel that answers stripes with a period of 6 pixels, in windows of 24."""
    wave = torch.cos(2 * math.pi * (torch.arange(24.0) - 11.5) / 6).expand(24, 24)
    conv = nn.Conv2d(1, 1, 24, bias=False)
    conv.weight.data.copy_((wave.T if horizontal else wave)[None, None] / 576)
    return conv


def dominant(window: Tensor) -> tuple[float, float]:
    """Return the orientation (0°: stripes stand upright) and size of the strongest frequency, in cycles a pixel, relative to 1 / f."""
    tapered = (window - window.mean()).numpy() * np.outer(np.hanning(len(window)), np.hanning(len(window)))
    rows, columns = np.meshgrid(*[np.fft.fftfreq(len(window))] * 2, indexing="ij")
    power = np.abs(np.fft.fft2(tapered)) ** 2 * np.hypot(rows, columns) ** 2
    at = power.argmax()
    orientation = np.degrees(np.arctan2(np.abs(rows), np.abs(columns))).flat[at]
    return float(orientation), float(np.hypot(rows, columns).flat[at])


@pytest.mark.parametrize("horizontal", [False, True])
def test_stripes_are_found_for_their_detector(horizontal: bool) -> None:
    # The magnitude of the whole picture is fixed: what phases can do is to gather upright frequencies where the unit looks.
    size = (64, 64)
    law = power_law(Parametrisation(FourierBasis(*size), 1)) * 0.3
    recipe = PictureRecipe(60, rate=0.3, magnitude=law, transforms=Transforms.none())
    subject = PictureSubject(stripes(horizontal))
    found = render(subject, [UnitObjective(0)], size, recipe, channels=1)
    middle = found.pictures[0, 0, 20:44, 20:44]
    orientation, frequency = dominant(middle)
    assert orientation == (90 if horizontal else 0)
    assert frequency == pytest.approx(1 / 6)
    assert found.values[0] > 5 * found.history[0, 0].abs()
    whole = spectrum_of(Parametrisation(FourierBasis(*size), 1), found.pictures)[0, 0]
    np.testing.assert_allclose(whole, law[0].numpy(), rtol=1e-3, atol=1e-3)


def test_importance_is_where_the_channel_looks() -> None:
    kernel = torch.zeros(1, 1, 16, 16)
    kernel[:, :, 4:8, 8:12] = torch.randn(1, 1, 4, 4, generator=seeded(0))
    module = nn.Conv2d(1, 1, 16, bias=False)
    module.weight.data.copy_(kernel)
    parametrisation = Parametrisation(FourierBasis(16, 16), 1)
    recipe = PictureRecipe(7, magnitude=power_law(parametrisation), transforms=Transforms.none())
    found = render(PictureSubject(module), [UnitObjective(0)], (16, 16), recipe, channels=1)
    assert found.importance is not None
    # The gradient of a linear unit is its filter at every step.
    torch.testing.assert_close(found.importance[0], 7 * kernel[0, 0].abs())
    assert render(PictureSubject(module), [], (16, 16), recipe).importance is None
    assert (
        render(PictureSubject(module), [Channel(0)], (16, 16), PictureRecipe(1), channels=1).importance
        is None
    )


@given(st.tuples(st.floats(0.2, 0.9), st.floats(0.0, 0.1)), st.integers(0, 99))
def test_crops_lie_inside_the_picture(shares: tuple[float, float], seed: int) -> None:
    low, wider = shares
    windows = Crops(share=(low, low + wider), spread=0.4).draw(50, (20, 30), seeded(seed))
    assert windows.shape == (50, 2, 3)
    share, centre = windows[:, 0, 0], windows[:, :, 2]
    assert (share >= low - 1e-6).all()
    assert (share <= low + wider + 1e-6).all()
    assert (centre.abs() + share[:, None] <= 1 + 1e-6).all()
    torch.testing.assert_close(windows[:, 1, 1], share)
    assert windows[:, 0, 1].abs().max() == windows[:, 1, 0].abs().max() == 0


def test_noise_is_added_to_what_the_network_sees() -> None:
    identity = nn.Conv2d(1, 1, 1, bias=False)
    identity.weight.data.fill_(1)
    seen: list[Tensor] = []
    identity.register_forward_hook(lambda _m, arguments, _o: seen.append(arguments[0].detach().clone()))
    magnitude = torch.zeros(1, 40, 21)
    still = Crops(share=(1.0, 1.0), spread=0.0, noise=0.1)
    found = render(
        PictureSubject(identity),
        [Channel(0)],
        (40, 40),
        PictureRecipe(2, magnitude=magnitude, transforms=still),
        channels=1,
    )
    assert found.pictures.min() == found.pictures.max() == 0.5
    steps = [pixels - 0.5 for pixels in seen[1:3]]
    for added in steps:
        assert added.std().item() == pytest.approx(0.1, rel=0.1)
    assert not torch.equal(*steps)


def test_the_same_seed_gives_the_same_pictures_in_any_company() -> None:
    size = (12, 10)
    magnitude = mean_magnitude(Parametrisation(FourierBasis(*size)), noise(2, 3, size))

    def made(channels: list[int], batch_size: int = 8, seed: int = 0) -> Tensor:
        recipe = PictureRecipe(6, magnitude=magnitude, batch_size=batch_size)
        subject = PictureSubject(network(), "layer")
        return render(subject, [Channel(c) for c in channels], size, recipe, seed=seed).pictures

    together = made([0, 1, 4])
    assert torch.equal(together, made([0, 1, 4]))
    torch.testing.assert_close(made([0, 1, 4], 1), together, rtol=0, atol=1e-4)
    torch.testing.assert_close(made([4])[0], together[2], rtol=0, atol=1e-4)
    assert (together - made([0, 1, 4], seed=1)).abs().mean() > 1e-2


@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("failing", [False, True])
def test_the_network_is_left_as_it_was(channels: int, failing: bool) -> None:
    module = network(channels)
    before, state = fingerprint(module), torch.get_rng_state()
    magnitude = power_law(Parametrisation(FourierBasis(12, 10), channels))

    def advance(_units: float) -> None:
        if failing:
            raise KeyboardInterrupt

    try:
        found = render(
            PictureSubject(module),
            [Channel(1)],
            (12, 10),
            PictureRecipe(2, magnitude=magnitude),
            channels=channels,
            advance=advance,
        )
        assert found.pictures.shape == (1, channels, 12, 10)
    except KeyboardInterrupt:
        assert failing
    assert fingerprint(module) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_feature_pictures_of_a_module_take_images_or_the_law() -> None:
    module, images = classifier(), noise(3, 3, (20, 20))
    law, own = (
        probe.feature_picture(module, "2:1", size=(16, 16), steps=3, maco=True, images=given)
        for given in (None, images)
    )
    assert law.shape == own.shape == (3, 16, 16)
    plain = Parametrisation(FourierBasis(16, 16))
    expected = mean_magnitude(plain, images).abs().numpy()
    ratio = spectrum_of(plain, own[None])[0] / expected
    assert np.median(np.abs(ratio - 1)) < 0.02
    assert (law - own).abs().mean() > 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images": noise(2, 3, (16, 16))}, "maco=True"),
        ({"maco": True, "images": noise(2, 1, (16, 16))}, "3, H, W"),
        ({"maco": True, "images": noise(2, 3, (8, 20))}, "at least as large"),
        ({"maco": True, "images": noise(0, 3, (16, 16))}, "at least one image"),
    ],
)
def test_images_that_have_no_magnitude_to_give_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        probe.feature_picture(classifier(), "2:1", size=(16, 16), steps=1, **options)  # type: ignore[arg-type]
