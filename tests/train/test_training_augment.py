"""What augmentation does to an image, against scipy and against all that it could have done."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import shift as scipy_shift

from probe.train.loop.augment import AUGMENTATIONS, augmentation, cutout, flip, shift


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shifts_against_scipy() -> None:
    images = torch.rand(6, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    moved = shift(images, generator())
    assert moved.shape == images.shape
    seen = set()
    for before, after in zip(images.numpy(), moved.numpy(), strict=True):
        fits = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if np.array_equal(scipy_shift(before, (0, -dy, -dx), order=0, mode="nearest"), after)
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) > 1


def test_every_image_is_mirrored_or_left() -> None:
    images = torch.rand(64, 3, 4, 5, generator=generator())
    after = flip(images, generator())
    mirrored = [bool(torch.equal(y, x.flip(-1))) for x, y in zip(images, after, strict=True)]
    same = [bool(torch.equal(y, x)) for x, y in zip(images, after, strict=True)]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    assert 15 < sum(mirrored) < 49  # four standard deviations around 32


def test_a_hole_is_a_square_that_may_overlap_the_border() -> None:
    images = 0.9 * torch.ones(200, 2, 16, 16)
    after = cutout(images, generator())
    areas = set()
    for image in after:
        hole = image[0] == 0.5
        assert torch.equal(hole, image[1] == 0.5)
        assert torch.equal(image[0][~hole], images[0, 0][~hole])
        rows, columns = hole.any(1), hole.any(0)
        assert int(hole.sum()) == int(rows.sum()) * int(columns.sum())
        assert 2 <= int(rows.sum()) <= 4
        assert 2 <= int(columns.sum()) <= 4
        areas.add(int(hole.sum()))
    assert 16 in areas
    assert min(areas) < 9


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_draws_from_the_generator_alone(name: str) -> None:
    images = torch.rand(8, 3, 16, 16, generator=generator())
    before, state = images.clone(), torch.get_rng_state()
    first = AUGMENTATIONS[name](images, generator(2))
    torch.rand(3)
    second = AUGMENTATIONS[name](images, generator(2))
    torch.set_rng_state(state)
    assert torch.equal(first, second)
    assert not torch.equal(first, AUGMENTATIONS[name](images, generator(3)))
    assert torch.equal(images, before)
    assert first.shape == images.shape


def test_augmentations_are_applied_in_turn() -> None:
    images = torch.rand(8, 3, 16, 16, generator=generator())
    both = augmentation(("shift", "flip"))
    assert both is not None
    source = generator(4)
    assert torch.equal(both(images, generator(4)), flip(shift(images, source), source))
    assert augmentation(()) is None
    with pytest.raises(ValueError, match="no augmentation is called 'mirror'"):
        augmentation(("mirror",))
