"""Images in memory reach the network bit by bit, or are refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

import probe
from probe.core.errors import CannotRunError, UsageError
from probe.data.images import ImageSet, InputSpec


def pixels(n: int = 5, channels: int = 3, side: int = 9) -> Tensor:
    return torch.rand((n, channels, side, side + 1), generator=torch.Generator().manual_seed(0))


def read(images: ImageSet, size: tuple[int, int, int]) -> tuple[Tensor, Tensor | None]:
    batches = list(images.batches(InputSpec(size), 2))
    labels = None if batches[0].labels is None else torch.cat([b.labels for b in batches])
    return torch.cat([b.images for b in batches]), labels


class Pairs(Dataset[Any]):
    """(Pillow image, label) pairs."""

    classes = ("a", "b", "c")

    def __init__(self, count: int = 6) -> None:
        draws = np.random.default_rng(0)
        self.arrays = draws.integers(0, 256, (count, 7, 7, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.arrays[index]), index % 3


def test_a_tensor_is_handed_on_bit_by_bit() -> None:
    x, y = pixels(), torch.tensor([0, 1, 2, 1, 0])
    found, labels = read(probe.images(x, y), (3, 9, 10))
    assert torch.equal(found, x)
    assert torch.equal(labels, y)


@pytest.mark.parametrize(
    "form",
    [
        lambda x, y: ((x, y), None),
        lambda x, y: (x.numpy(), y.numpy()),
        lambda x, y: (x, y.tolist()),
        lambda x, y: (TensorDataset(x, y), None),
        lambda x, y: (DataLoader(TensorDataset(x, y), batch_size=2), None),
        lambda x, y: ([row.numpy() for row in x], y),
    ],
)
def test_every_form_gives_the_same_images(form: Callable[..., Any]) -> None:
    x, y = pixels(), torch.tensor([0, 1, 2, 1, 0])
    source, labels = form(x, y)
    images = probe.images(source, labels)
    found, known = read(images, (3, 9, 10))
    assert torch.equal(found, x)
    assert known is not None
    assert known.tolist() == y.tolist()


def test_bytes_are_divided_by_255_in_either_layout() -> None:
    array = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
    expected = torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255
    for form in (array, array.transpose(0, 3, 1, 2), torch.from_numpy(array)):
        assert torch.equal(read(probe.images(form), (3, 6, 8))[0], expected)
    grey, _ = read(probe.images(array[..., 0]), (1, 6, 8))
    assert torch.equal(grey, expected[:, :1])


@given(st.integers(1, 12).filter(lambda c: c not in (1, 3)), st.integers(5, 9))
def test_any_number_of_channels_reaches_a_network_that_takes_it(channels: int, side: int) -> None:
    x = torch.rand((2, channels, side, side), generator=torch.Generator().manual_seed(channels))
    assert torch.equal(read(probe.images(x), (channels, side, side))[0], x)


def test_channels_are_repeated_or_mixed_as_for_pictures() -> None:
    x = pixels(channels=1)
    assert torch.equal(read(probe.images(x), (3, 9, 10))[0], x.expand(-1, 3, -1, -1))
    colour = pixels()
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = read(probe.images(colour), (1, 9, 10))[0]
    torch.testing.assert_close(grey, (colour * weights).sum(1, keepdim=True))


def test_other_sizes_are_resized_and_not_cropped() -> None:
    flat = torch.full((1, 3, 9, 9), 0.25)
    torch.testing.assert_close(read(probe.images(flat), (3, 18, 18))[0], torch.full((1, 3, 18, 18), 0.25))


def test_a_dataset_of_pictures_is_read_one_by_one() -> None:
    dataset = Pairs()
    images = probe.images(dataset)
    assert images.class_names == ("a", "b", "c")
    found, labels = read(images, (3, 7, 7))
    # Pictures are resized to cover the crop; a network of their own size sees them through its crop of 1.
    exact = torch.cat([b.images for b in images.batches(InputSpec((3, 7, 7), 1.0), 6)])
    assert torch.equal(exact, torch.from_numpy(dataset.arrays).permute(0, 3, 1, 2).float() / 255)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert len(found) == 6


def test_a_number_of_images_is_drawn_by_the_seed() -> None:
    x, y = pixels(50), torch.arange(50) % 5
    first, again, other = (probe.images(x, y, n=10, seed=seed) for seed in (1, 1, 2))
    names = [[images.item_name(i) for i in range(10)] for images in (first, again, other)]
    assert names[0] == names[1] != names[2]
    assert sorted(first.label(i) for i in range(10)) == sorted(list(range(5)) * 2)
    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    assert len(probe.images(loader, n=10)) == 10
    assert probe.images(loader, n=10).info(10).total == 50


def test_names_folders_and_sets_are_taken_too() -> None:
    digits = probe.images("digits", n=7)
    assert len(digits) == 7
    assert probe.images(digits, n=3).info(3).total == 359
    assert probe.images(digits) is digits


@pytest.mark.parametrize(
    ("source", "labels", "words"),
    [
        (pixels() * 255, None, "probe.wrap"),
        (pixels() - 0.5, None, "without normalisation"),
        (torch.full((2, 3, 4, 4), torch.nan), None, "nan"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int32), None, "int32"),
        (pixels(), [0, 1], "5 images"),
        (pixels(), [0, 1, 2, -1, 0], "class numbers"),
        (pixels(), [0.5, 1, 2, 1, 0], "class numbers"),
        (torch.zeros(0, 3, 4, 4), None, "shape"),
        (torch.zeros(3), None, "shape"),
        (object(), None, "Could not read images"),
        (TensorDataset(torch.zeros(0, 3, 4, 4)), None, "empty"),
        (TensorDataset(pixels() * 3), None, "values from"),
        ("digits", [1], "own labels"),
    ],
)
def test_what_holds_no_images_is_refused_in_one_line(source: Any, labels: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        probe.images(source, labels)
    assert "\n" not in str(error.value)


def test_channels_that_do_not_fit_are_named() -> None:
    with pytest.raises(CannotRunError, match="4 channels"):
        read(probe.images(pixels(channels=4)), (3, 9, 10))
