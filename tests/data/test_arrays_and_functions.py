"""Images from files with arrays and from functions of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import probe
from probe.core.errors import CannotRunError, ProbeError, UsageError
from probe.data.load import load_images
from probe.data.spec import InputSpec

PIXELS = np.random.default_rng(0).random((6, 6, 5, 5)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def read(path: Path | str) -> tuple[torch.Tensor, list[int | None]]:
    images = load_images(path)
    batch = next(images.batches(InputSpec((6, 5, 5), 1.0), 9))
    return batch.images, [images.label(index) for index in range(len(images))]


@pytest.mark.parametrize("keys", [("images", "labels"), ("x_test", "y_test"), ("a", "b"), ("arr_0", "arr_1")])
def test_six_channels_from_an_npz_with_labels(keys: tuple[str, str], tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **{keys[0]: PIXELS, keys[1]: LABELS})
    pixels, labels = read(tmp_path / "d.npz")
    assert torch.equal(pixels, torch.from_numpy(PIXELS))
    assert labels == LABELS.tolist()


def test_npy_and_pt(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", PIXELS)
    assert read(tmp_path / "d.npy")[1] == [None] * 6
    for content in (
        (torch.from_numpy(PIXELS), torch.from_numpy(LABELS)),
        {"x": torch.from_numpy(PIXELS), "y": torch.from_numpy(LABELS)},
    ):
        torch.save(content, tmp_path / "d.pt")
        pixels, labels = read(tmp_path / "d.pt")
        assert torch.equal(pixels, torch.from_numpy(PIXELS))
        assert labels == LABELS.tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": PIXELS, "b": PIXELS}, "several arrays"),
        ({"a": LABELS}, "no array of images"),
        ({"images": PIXELS * 255}, "without normalisation"),
        ({"images": PIXELS, "labels": LABELS - 1}, "class numbers"),
        ({"images": PIXELS, "labels": np.ones((6, 3))}, "3 labels for each image .multi-label"),
        ({"images": PIXELS, "y": LABELS[:4]}, "6 images, but the labels have the shape .4,."),
        ({"images": np.array([{}])}, "cannot be read"),
    ],
)
def test_what_does_not_fit_says_why(content: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **content)
    with pytest.raises(ProbeError, match=words):
        read(tmp_path / "d.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nonsense", b"\x93NUMPY\x01\x00", b"text"])
@pytest.mark.parametrize("suffix", ["npz", "npy", "pt"])
def test_damaged_files_are_one_sentence(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"d.{suffix}").write_bytes(content)
    with pytest.raises(CannotRunError, match="cannot be read as arrays"):
        load_images(tmp_path / f"d.{suffix}")


FUNCTIONS = """
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

pixels = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
labels = torch.tensor([0, 1, 2, 0, 1, 2])

def pair(): return pixels, labels
def dataset(): return TensorDataset(pixels, labels)
def loader(): return DataLoader(TensorDataset(pixels, labels), batch_size=2)
instance = TensorDataset(pixels, labels)
def nothing(): pass
def fails(): raise RuntimeError("no disk")
def number(): return 3
def part(count, start=0): return pixels[start:start + count], labels[start:start + count]
def items(): return [(image, int(label)) for image, label in zip(pixels, labels)]
class Part(Dataset):
    def __init__(self, count): self.count = count
    def __len__(self): return self.count
    def __getitem__(self, index): return pixels[index], labels[index]
"""


@pytest.mark.parametrize(
    "name", ["pair", "dataset", "loader", "instance", "items", "part?count=6", "Part?count=6"]
)
def test_a_function_of_the_users_own(name: str, tmp_path: Path) -> None:
    (tmp_path / "my_data.py").write_text(FUNCTIONS)
    images = load_images(f"{tmp_path}/my_data.py:{name}")
    assert [images.label(index) for index in range(6)] == [0, 1, 2, 0, 1, 2]
    expected = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(next(images.batches(InputSpec((3, 4, 4), 1.0), 9)).images, expected)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "returns nothing"),
        ("fails", "my_data.py, line .*no disk"),
        ("number", "from a int"),
        ("other", "no function"),
        ("part", r"needs an argument .count.*part\?count="),
        ("part?cnt=3", "takes no argument 'cnt'.*count, start"),
        ("Part", r"Part\?count="),
        ("instance?count=3", "no arguments"),
    ],
)
def test_a_function_that_fails_says_why(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "my_data.py").write_text(FUNCTIONS)
    with pytest.raises((UsageError, CannotRunError), match=words):
        load_images(f"{tmp_path}/my_data.py:{name}")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.zeros(6, 4), "4 labels for each image .multi-label"),
        ([torch.tensor([0, 1])] * 6, "2 labels for each image"),
        (["cat"] * 6, "class numbers.*'cat'"),
        ([-1] * 6, "class numbers.*'-1'"),
        ([0.5] * 6, "class numbers.*'0.5'"),
    ],
)
def test_labels_that_are_no_class_numbers_are_refused_with_the_reason(labels: Any, words: str) -> None:
    pairs = [(torch.rand(3, 4, 4), label) for label in labels]
    with pytest.raises(UsageError, match=words):
        probe.images(PairsSet(pairs))


class PairsSet:
    """A Dataset by its behaviour."""

    def __init__(self, pairs: list[Any]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return self.pairs[index]


def test_several_labels_in_an_array_are_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="multi-label"):
        probe.images(torch.rand(6, 3, 4, 4), torch.zeros(6, 4))


def test_a_tuple_of_images_alone(tmp_path: Path) -> None:
    torch.save((torch.from_numpy(PIXELS),), tmp_path / "d.pt")
    assert read(tmp_path / "d.pt")[1] == [None] * 6


NAMES = np.array(["circle", "cross", "square"])


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS[:, None], None),
        (np.eye(3)[LABELS], None),
        (np.eye(3, dtype=bool)[LABELS], None),
        (LABELS.astype(str), None),
        (NAMES[LABELS], ("circle", "cross", "square")),
        (NAMES[LABELS].astype("S"), ("circle", "cross", "square")),
    ],
)
def test_labels_in_a_column_one_hot_or_as_names(
    labels: np.ndarray, names: tuple[str, ...] | None, tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", test_images=PIXELS, test_labels=labels, train_images=PIXELS[:4])
    images = load_images(tmp_path / "d.npz")
    assert [images.label(index) for index in range(6)] == LABELS.tolist()
    assert images.class_names == names
    again = probe.images(PIXELS, labels)
    assert [again.label(index) for index in range(6)] == LABELS.tolist()


def test_one_hot_labels_of_a_dataset() -> None:
    pairs = [(torch.rand(3, 4, 4), row) for row in torch.eye(3)[torch.from_numpy(LABELS)]]
    images = probe.images(PairsSet(pairs))
    assert [images.label(index) for index in range(6)] == LABELS.tolist()


def test_several_labels_and_names_of_files_in_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=PIXELS, labels=np.ones((6, 4)))
    with pytest.raises(UsageError, match="multi-label"):
        load_images(tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", images=PIXELS, files=np.array(list("abcdef")), scale=np.array(2.0))
    assert not load_images(tmp_path / "d.npz").labelled


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.where(PIXELS > 0.9, np.nan, PIXELS), "not finite"),
        (PIXELS * 255, "uint8.*--mean"),
        ((PIXELS * 9999).astype(np.uint16), "uint16.*divided"),
    ],
)
def test_pixels_out_of_range_say_what_to_do(pixels: np.ndarray, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        probe.images(pixels, LABELS)


def test_a_file_without_a_function_names_its_functions(tmp_path: Path) -> None:
    (tmp_path / "my_data.py").write_text(FUNCTIONS)
    with pytest.raises(UsageError, match=r"my_data.py:FUNCTION.*pair, dataset"):
        load_images(tmp_path / "my_data.py")


def test_a_part_of_a_functions_data(tmp_path: Path) -> None:
    (tmp_path / "my_data.py").write_text(FUNCTIONS)
    images = load_images(f"{tmp_path}/my_data.py:part?count=2&start=1")
    assert [images.label(index) for index in range(len(images))] == [1, 2]


def test_a_list_of_dictionaries_is_told_to_give_pairs() -> None:
    with pytest.raises(UsageError, match=r"is a dict.*pairs"):
        probe.images([{"image": PIXELS[0], "label": 0}] * 3)
