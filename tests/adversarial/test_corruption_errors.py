"""Corruption errors against sums by hand, and the folders that they are read from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from probe.core.errors import UsageError
from probe.data.corrupted_copies import CorruptedArrays, CorruptedFolder, kinds_or_folder, open_corrupted
from probe.data.corruptions import BENCHMARK, FEW
from probe.data.images import array_items
from probe.data.pictures import read_picture
from probe.data.spec import InputSpec, Item, UnreadableError
from studies.adversarial.corrupted import ALEXNET_CLEAN, Corrupted

ALEXNET = (88.6, 89.4, 92.3, 82.0, 82.6, 78.6, 79.8, 86.7, 82.7, 81.9, 56.5, 85.3, 64.6, 71.8, 60.7)


def measured(kinds: tuple[str, ...] = BENCHMARK, n: int = 60, published: bool = True) -> Corrupted:
    rng = np.random.default_rng(0)
    right = rng.random((n, len(kinds), 5)) < rng.random((n, 1, 1))
    return Corrupted(tuple(range(n)), kinds, right, rng.random(n) < 0.8, published, 0)


def test_mce_is_the_mean_of_errors_divided_by_alexnets() -> None:
    found = measured()
    errors = [np.mean([1 - found.right[:, k, s].mean() for s in range(5)]) for k in range(15)]
    by_hand = np.mean([error / (alexnet / 100) for error, alexnet in zip(errors, ALEXNET, strict=True)])
    mce = found.mce()
    assert mce is not None
    assert mce[0] == pytest.approx(by_hand)
    clean = 1 - found.clean.mean()
    relative = found.relative_mce()
    assert relative is not None
    assert relative[0] == pytest.approx(
        np.mean([(e - clean) / (a / 100 - 0.435) for e, a in zip(errors, ALEXNET, strict=True)])
    )
    assert ALEXNET_CLEAN == 0.435
    fog = found.corruption_error("fog")
    assert fog is not None
    assert fog[0] == pytest.approx(errors[9] / 0.819)
    assert found.error("fog")[0] == pytest.approx(errors[9])
    assert found.mean_error()[0] == pytest.approx(np.mean(errors))


def test_alexnet_itself_has_an_mce_of_1() -> None:
    """An error of AlexNet's size under every kind, as near as 1000 images and five severities allow."""
    right = np.ones((1000, 15, 5), bool)
    for kind, error in enumerate(ALEXNET):
        right[: round(error * 10), kind] = False
    clean = np.ones(1000, bool)
    clean[:435] = False
    found = Corrupted(tuple(range(1000)), BENCHMARK, right, clean, True, 0)
    assert found.mce() is not None
    assert found.mce()[0] == pytest.approx(1)  # type: ignore[index]
    assert found.relative_mce()[0] == pytest.approx(1)  # type: ignore[index]


def test_the_interval_resamples_images_with_all_their_corruptions() -> None:
    found = measured(n=200)
    mean, interval = found.mean_error()
    assert interval is not None
    shares = 1 - found.right.mean((1, 2))
    half = norm.ppf(0.975) * shares.std(ddof=1) / 200**0.5
    assert interval == pytest.approx((mean - half, mean + half), abs=0.15 * half)
    independent = norm.ppf(0.975) * (mean * (1 - mean) / found.right.size) ** 0.5
    assert interval[1] - interval[0] > 4 * independent


def test_no_interval_from_equal_images() -> None:
    right = np.zeros((5, 1, 5), bool)
    assert Corrupted((0, 1, 2, 3, 4), ("fog",), right, right[:, 0, 0], False, 0).error("fog") == (1.0, None)


def test_mce_only_for_all_kinds_and_where_alexnet_applies() -> None:
    few = measured(FEW)
    assert few.mce() is None
    assert few.relative_mce() is None
    assert few.corruption_error("fog") is not None
    other = measured(published=False)
    assert other.mce() is None
    assert other.corruption_error("fog") is None
    more = measured((*BENCHMARK, "saturate"))
    assert more.benchmark == BENCHMARK
    assert more.corruption_error("saturate") is None
    assert more.mce() is not None


# --- folders ----------------------------------------------------------------------------------------------------


def picture(path: Path, level: int, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (level, level, level)).save(path)


def copies(root: Path, kinds: tuple[str, ...] = ("fog", "snow", "mine")) -> Path:
    for kind in kinds:
        for severity in range(1, 6):
            picture(root / kind / str(severity) / "cat" / "one.png", 10 * severity)
    return root


def test_kinds_of_a_folder_are_found_and_copies_read(tmp_path: Path) -> None:
    found = open_corrupted(copies(tmp_path / "C"))
    assert found.kinds == ("snow", "fog", "mine")
    picture(tmp_path / "clean" / "cat" / "one.jpg", 200)
    path = tmp_path / "clean" / "cat" / "one.jpg"
    item = Item("cat/one.jpg", 0, lambda: read_picture(path), path)
    read = found.copy_of(item, "fog", 3, InputSpec((3, 32, 32), as_is=True), framed=False)
    np.testing.assert_allclose(read.numpy(), 30 / 255, atol=1e-6)
    (tmp_path / "C" / "fog" / "2" / "cat" / "one.png").unlink()
    with pytest.raises(UnreadableError, match="no corrupted copy in fog/2"):
        found.copy_of(item, "fog", 2, InputSpec((3, 32, 32)), framed=False)
    with pytest.raises(UnreadableError, match="not a file"):
        found.copy_of(Item("1", 0, item.read), "fog", 1, InputSpec(), framed=False)


def test_copies_that_were_cropped_are_not_cropped_again(tmp_path: Path) -> None:
    root = copies(tmp_path / "C", ("fog",))
    half = Image.new("L", (32, 32), 0)
    half.paste(255, (0, 0, 2, 32))  # a border that a crop to 0.875 would cut off
    half.save(root / "fog" / "1" / "cat" / "one.png")
    picture(tmp_path / "cat" / "one.png", 200, side=50)
    path = tmp_path / "cat" / "one.png"
    item = Item("one", 0, lambda: read_picture(path), path)
    read = open_corrupted(root).copy_of(item, "fog", 1, InputSpec((3, 32, 32)), framed=False)
    assert read[0, :, :2].min() == 1
    assert read[0, :, 2:].max() == 0


def test_folders_without_the_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no folder .*CORRUPTION/1 to 5/CLASS/IMAGE"):
        kinds_or_folder((str(tmp_path / "none"),))
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(UsageError, match="has no corrupted images"):
        kinds_or_folder((str(tmp_path / "empty"),))
    root = copies(tmp_path / "C", ("fog",))
    for level in ("2", "5"):
        (root / "fog" / level).rename(root / f"gone{level}")
    with pytest.raises(UsageError, match="fog' lacks the severities 2, 5"):
        kinds_or_folder((str(root),))
    assert kinds_or_folder(("fog", "snow")) == ("fog", "snow")
    assert isinstance(kinds_or_folder((str(copies(tmp_path / "D")),)), CorruptedFolder)


def arrays(root: Path, count: int = 4) -> Path:
    """Fog and brightness in CIFAR-10-C's layout: image i at severity s is of grey 40 s + i."""
    root.mkdir()
    levels = np.array([[40 * severity + i for i in range(count)] for severity in range(1, 6)]).reshape(-1)
    for kind in ("fog", "brightness"):
        np.save(
            root / f"{kind}.npy",
            np.broadcast_to(levels[:, None, None, None], (5 * count, 32, 32, 3)).astype(np.uint8),
        )
    np.save(root / "labels.npy", np.tile(np.arange(count), 5))
    return root


def test_arrays_are_read_by_the_place_in_the_data_set(tmp_path: Path) -> None:
    found = kinds_or_folder((str(arrays(tmp_path / "C")),))
    assert isinstance(found, CorruptedArrays)
    assert found.kinds == ("fog", "brightness")
    clean = array_items(np.zeros((5, 32, 32, 3), np.uint8), np.array([0, 1, 2, 9, 4]), str)
    numbered_anew = replace(clean[2], label=7)
    read = found.copy_of(numbered_anew, "fog", 3, InputSpec((3, 32, 32), as_is=True), framed=True)
    np.testing.assert_allclose(read.numpy(), 122 / 255, atol=1e-6)
    for item, reason in (
        (clean[3], "label 3, not 9"),
        (clean[4], "not one"),
        (Item("a", 0, clean[0].read), "not one"),
    ):
        with pytest.raises(UnreadableError, match=reason):
            found.copy_of(item, "fog", 1, InputSpec((3, 32, 32)), framed=True)


def test_arrays_that_are_not_five_severities_of_bytes_are_refused(tmp_path: Path) -> None:
    root = arrays(tmp_path / "C")
    np.save(root / "fog.npy", np.zeros((6, 32, 32, 3), np.uint8))
    with pytest.raises(UsageError, match="not five severities"):
        open_corrupted(root)
    np.save(root / "fog.npy", np.zeros((40, 32, 32, 3), np.uint8))
    with pytest.raises(UsageError, match="20 labels for the 40 images"):
        open_corrupted(root)
    (root / "fog.npy").write_bytes(b"no array")
    with pytest.raises(UsageError, match="Could not read"):
        open_corrupted(root)


def test_the_worst_of_all_kinds_counts_what_no_kind_has_broken_by_a_severity() -> None:
    right = np.ones((3, 2, 5), bool)
    right[0, 0, 2] = False  # broken at 3 by one kind, right again at 4
    right[1, 1, 4] = False
    found = Corrupted((0, 1, 2), ("fog", "snow"), right, np.ones(3, bool), False, 0)
    assert found.worst == [3, 3, 2, 2, 1]
