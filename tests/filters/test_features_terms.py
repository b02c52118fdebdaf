"""Variants that differ, and accentuated images: closed forms, plain loops, and nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.core.seeds import scoped
from probe.core.state import fingerprint
from studies.filters.optimise import (
    Channel,
    Class,
    FourierBasis,
    Nearness,
    Objective,
    Parametrisation,
    PictureRecipe,
    PictureSubject,
    Rendering,
    Transforms,
    UnitObjective,
    gram_similarity,
    render,
)
from studies.filters.optimise.terms import squared_distance

STILL = Transforms.none()
SIZE = (16, 14)
shapes = st.tuples(st.integers(2, 4), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(channels: int = 3) -> nn.Sequential:
    with scoped(3):
        return nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2)).eval()


def photographs(count: int, channels: int = 3, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(count, channels, *size, generator=seeded(0)) * 0.6 + 0.2


def rendered(objectives: list[Objective], channels: int = 3, seed: int = 0, **options: object) -> Rendering:
    recipe = PictureRecipe(**{"steps": 12, **options})  # type: ignore[arg-type]
    subject = PictureSubject(network(channels), "layer")
    return render(subject, objectives, SIZE, recipe, channels=channels, seed=seed)


@given(shapes, st.integers(0, 99))
def test_similarity_is_the_mean_cosine_of_gram_matrices(shape: tuple[int, int, int, int], seed: int) -> None:
    variants, channels, height, width = shape
    maps = torch.randn(2 * variants, channels, height, width, generator=seeded(seed), dtype=torch.float64)
    found = gram_similarity(maps, variants)
    for row in range(2 * variants):
        first = row // variants * variants
        cosines = []
        for other in range(first, first + variants):
            if other == row:
                continue
            grams = []
            for index in (row, other):
                gram = np.zeros((channels, channels))
                for a in range(channels):
                    for b in range(channels):
                        gram[a, b] = float((maps[index, a] * maps[index, b]).sum())
                grams.append(gram)
            cosines.append(
                (grams[0] * grams[1]).sum() / np.sqrt((grams[0] ** 2).sum() * (grams[1] ** 2).sum())
            )
        assert found[row].item() == pytest.approx(np.mean(cosines), rel=1e-9)


@pytest.mark.parametrize("channels", [2, 40])
def test_gradients_of_the_similarity_agree_with_finite_differences(channels: int) -> None:
    maps = torch.randn(3, channels, 2, 3, generator=seeded(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: gram_similarity(given, 3), (maps,))


def test_variants_are_pulled_apart_at_little_cost() -> None:
    plain, diverse = (
        rendered([Channel(1), Channel(3)], steps=60, variants=3, diversity=w) for w in (0.0, 1.0)
    )
    assert plain.pictures.shape == diverse.pictures.shape == (6, 3, *SIZE)
    with torch.no_grad():
        before, after = (
            gram_similarity(network()(found.pictures), 3).view(2, 3).mean(1) for found in (plain, diverse)
        )
    assert (after < before - 0.05).all()
    grey = network()(torch.full((1, 3, *SIZE), 0.5))[0].mean((1, 2)).detach()[[1, 1, 1, 3, 3, 3]]
    assert (diverse.values - grey > 0.5 * (plain.values - grey)).all()
    output = network()(diverse.pictures).detach()
    expected = [output[row, channel].mean().item() for row, channel in enumerate([1, 1, 1, 3, 3, 3])]
    assert diverse.values.tolist() == pytest.approx(expected, abs=1e-5)


def test_variants_begin_apart_and_are_the_same_again_in_any_company() -> None:
    options: dict[str, object] = {"steps": 6, "variants": 3, "diversity": 1.0}
    together = rendered([Channel(0), Channel(4)], **options).pictures
    assert torch.equal(together, rendered([Channel(0), Channel(4)], **options).pictures)
    torch.testing.assert_close(rendered([Channel(4)], **options).pictures, together[3:], rtol=0, atol=1e-4)
    # Variants of one channel share a batch, however small it is to be.
    for batch_size in (1, 3, 4):
        split = rendered([Channel(0), Channel(4)], batch_size=batch_size, **options).pictures
        torch.testing.assert_close(split, together, rtol=0, atol=1e-4)
    first = rendered([Channel(0)], steps=1, variants=3).pictures
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(first[a].flatten(), first[b].flatten())[0, 1]) < 0.9


def test_a_class_has_no_style() -> None:
    classifier = nn.Sequential(*network(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UsageError, match="Gram matrices need maps"):
        render(PictureSubject(classifier), [Class(0)], SIZE, PictureRecipe(1, variants=2, diversity=1.0))
    apart = render(PictureSubject(classifier), [Class(0)], SIZE, PictureRecipe(1, variants=2))
    assert apart.pictures.shape == (2, 3, *SIZE)


@given(st.tuples(st.integers(3, 17), st.integers(3, 17)), st.sampled_from([1, 3, 6]), st.integers(0, 99))
def test_coefficients_are_those_of_the_picture(size: tuple[int, int], channels: int, seed: int) -> None:
    parametrisation = Parametrisation(FourierBasis(*size), channels)
    pictures = torch.rand(2, channels, *size, generator=seeded(seed), dtype=torch.float64)
    again = parametrisation.pictures(parametrisation.coefficients(pictures))
    # Pixels of 0 and 1 have no finite coefficients; they come back a quarter of a step of 8 bits off.
    torch.testing.assert_close(again, pictures, rtol=0, atol=1 / 1000)


def test_grey_pictures_come_back_grey() -> None:
    grey = Parametrisation(FourierBasis(*SIZE), 3, grey=True)
    pictures = photographs(2, 1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(grey.pictures(grey.coefficients(pictures)), pictures, rtol=0, atol=1e-5)


@pytest.mark.parametrize("features", [None, network()[0]])
@pytest.mark.parametrize("transforms", [None, STILL])
def test_no_strength_leaves_the_image_as_it_is(
    features: nn.Module | None, transforms: Transforms | None
) -> None:
    images = photographs(2)
    found = rendered([Channel(0), Channel(1)], near=Nearness(images, 0.0, features), transforms=transforms)
    torch.testing.assert_close(found.pictures, images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("strength", [0.05, 0.15])
def test_a_linear_unit_moves_the_image_along_its_filter_by_the_strength(strength: float) -> None:
    kernel = torch.randn(1, 3, *SIZE, generator=seeded(5))
    linear = nn.Conv2d(3, 1, SIZE, bias=False)
    linear.weight.data.copy_(kernel)
    image = photographs(1) * 0.2 + 0.4
    recipe = PictureRecipe(400, rate=0.02, transforms=STILL, near=Nearness(image, strength))
    found = render(PictureSubject(linear), [UnitObjective(0)], SIZE, recipe).pictures
    # Pulls along opposite directions cancel where the relative distance is the strength.
    expected = image + strength * image.norm() * kernel / kernel.norm()
    assert 0 < expected.min() < expected.max() < 1
    moved, wanted = (found - image).flatten(), (expected - image).flatten()
    assert float(moved @ wanted / (moved.norm() * wanted.norm())) > 0.98
    assert float(moved.norm() / wanted.norm()) == pytest.approx(1, abs=0.06)
    assert float(squared_distance(found, image).sqrt()) == pytest.approx(strength, rel=0.06)


def test_accentuated_images_answer_more_and_stay_near_where_they_are_held() -> None:
    images, earlier = photographs(2), network()[0]
    with torch.no_grad():
        before = torch.stack([network()(images)[row, channel].mean() for row, channel in enumerate((0, 3))])
    near, far = (
        rendered([Channel(0), Channel(3)], steps=60, rate=0.05, near=Nearness(images, strength, earlier))
        for strength in (0.1, 0.5)
    )
    assert (near.values > before).all()
    assert (far.values > near.values).all()
    with torch.no_grad():
        little, much = (
            squared_distance(earlier(found.pictures), earlier(images)).sqrt() for found in (near, far)
        )
    assert (little < 0.12).all()
    assert (much < 0.55).all()
    assert (little < much).all()


def test_accentuated_images_do_not_depend_on_their_company() -> None:
    images = photographs(3)
    objectives: list[Objective] = [Channel(0), Channel(3, -1), UnitObjective(2)]
    together = rendered(objectives, near=Nearness(images))
    assert torch.equal(together.pictures, rendered(objectives, near=Nearness(images)).pictures)
    alone = rendered(objectives[1:2], near=Nearness(images[1:2]))
    split = rendered(objectives, batch_size=1, near=Nearness(images))
    torch.testing.assert_close(alone.pictures[0], together.pictures[1], rtol=0, atol=1e-4)
    torch.testing.assert_close(split.pictures, together.pictures, rtol=0, atol=1e-4)


def test_distance_is_relative_to_the_length() -> None:
    values, target = (torch.randn(3, 2, 4, generator=seeded(seed)) for seed in (0, 1))
    expected = ((values - target).flatten(1).norm(dim=1) / target.flatten(1).norm(dim=1)) ** 2
    torch.testing.assert_close(squared_distance(values, target), expected)
    assert squared_distance(torch.zeros(1, 2), torch.zeros(1, 2)).tolist() == [0]


class Stopped(Exception):
    """Raised from within."""


@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("failing", [False, True])
def test_nothing_is_left_behind(channels: int, failing: bool) -> None:
    module = network(channels)
    earlier = module[0]
    earlier.bias.requires_grad_(False)  # type: ignore[union-attr]
    before, state = fingerprint(module), torch.get_rng_state()

    def advance(_units: float) -> None:
        if failing:
            raise Stopped

    recipe = PictureRecipe(
        3, variants=2, diversity=1.0, near=Nearness(photographs(1, channels), 0.3, earlier), half=True
    )
    try:
        found = render(PictureSubject(module), [Channel(0)], SIZE, recipe, channels=channels, advance=advance)
        assert found.pictures.shape == (2, channels, *SIZE)
        assert torch.isfinite(found.pictures).all()
        assert not failing
    except Stopped:
        assert failing
    assert fingerprint(module) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 0"):
        Nearness(photographs(1), -0.1)
    with pytest.raises(UsageError, match="at least 1"):
        PictureRecipe(variants=0)
    with pytest.raises(UsageError, match="size of the pictures"):
        rendered([Channel(0)], near=Nearness(photographs(1, size=(8, 8))))
    with pytest.raises(UsageError, match="cannot start from an image"):
        rendered([Channel(0)], near=Nearness(photographs(1)), magnitude=torch.ones(3, 16, 8))
