"""From the words typed to images, or to one line that says what was wrong and what is near."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from probe.core.errors import CannotRunError, UsageError
from probe.data.images import InputSpec
from probe.data.load import ALL, MAX_IMAGES, load_images
from probe.data.source import SOURCES, data_names

NAMES = {
    "digits", "digits-train", "imagenet-samples",
    "fashion-mnist", "fashion-mnist-train", "cifar10", "cifar10-train",
}  # fmt: skip


def many(folder: Path, count: int) -> None:
    for i in range(count):
        Image.new("L", (1, 1)).save(folder / f"{i:05}.png")


def test_every_documented_source_is_there():
    assert set(data_names()) == NAMES
    assert set(SOURCES) == NAMES | {"folder", "image", "arrays", "python"}


def test_the_names_are_listed_without_loading_any_library():
    code = (
        "import sys; from probe.data.source import data_names; assert 'digits' in data_names(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'PIL', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_source_says_in_a_line_what_it_is():
    for entry in SOURCES.entries.values():
        assert entry.summary.endswith(".")
        assert len(entry.summary) < 100


def test_one_image_file_is_a_set_of_one(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    Image.fromarray(array).save(tmp_path / "a.png")
    images = load_images(tmp_path / "a.png")
    assert (len(images), images.labelled, images.class_names, images.item_name(0)) == (
        1,
        False,
        None,
        "a.png",
    )
    expected = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    assert torch.equal(images.get(0, InputSpec((3, 2, 2), 1.0)), expected)


@pytest.mark.parametrize(("content", "why"), [(b"", "empty file"), (b"hello", "not an image")])
def test_a_file_that_is_no_image_cannot_be_used(content, why, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(CannotRunError, match=f"'a.png' cannot be used: {why}"):
        load_images(tmp_path / "a.png")


def test_a_damaged_image_file_cannot_be_used(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nxxx")
    with pytest.raises(CannotRunError, match=r"a\.png: damaged or truncated PNG file"):
        list(load_images(tmp_path / "a.png").batches(InputSpec(), 1))


@pytest.mark.parametrize(
    ("name", "near"),
    [("digit", "'digits'"), ("imagenet-sample", "'imagenet-samples'"), ("fashionmnist", "'fashion-mnist'")],
)
def test_an_unknown_name_is_met_with_near_ones(name, near):
    with pytest.raises(UsageError) as caught:
        load_images(name)
    text = str(caught.value)
    assert text.startswith(f"There is no data set, folder or image '{name}'. Did you mean ")
    assert near in text
    assert "Available data sets: cifar10, " in text
    assert "\n" not in text


def test_a_missing_path_is_met_with_near_ones(tmp_path):
    (tmp_path / "photographs").mkdir()
    with pytest.raises(UsageError) as caught:
        load_images(tmp_path / "photograps")
    assert f"Did you mean '{tmp_path}/photographs'?" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", "qqqq", "/no/such/place/at/all", "x" * 5000, "a\0b", "~nobody-at-all/x", "a\nb"]
)
def test_names_that_resemble_nothing_are_a_usage_error_in_one_line(name):
    with pytest.raises(UsageError) as caught:
        load_images(name)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize("name", ["folder", "image"])
def test_the_sources_of_paths_are_no_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"no data set, folder or image '{name}'"):
        load_images(name)


def test_a_name_wins_over_a_folder_called_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    many(tmp_path / "digits", 2)
    assert load_images("digits").domain == "digits"
    assert load_images("./digits").domain == "folder"


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pictures").mkdir()
    many(tmp_path / "pictures", 2)
    assert len(load_images("~/pictures")) == 2


def test_a_device_is_refused():
    with pytest.raises(UsageError, match="neither a folder nor a regular file"):
        load_images("/dev/null")


def test_without_a_number_all_are_taken_up_to_the_limit(tmp_path):
    many(tmp_path, MAX_IMAGES)
    everything = load_images(tmp_path)
    assert len(everything) == MAX_IMAGES
    assert "drawn" not in everything.source
    many(tmp_path, MAX_IMAGES + 5)
    limited = load_images(tmp_path)
    assert len(limited) == MAX_IMAGES
    assert limited.source.endswith("1,000 of 1,005 images sampled at random, seed 0; -n all takes every one")
    assert limited.info(7).total == MAX_IMAGES + 5
    assert len(load_images(tmp_path, n=MAX_IMAGES + 2)) == MAX_IMAGES + 2
    assert len(load_images(tmp_path, n=ALL)) == MAX_IMAGES + 5


def test_a_number_of_images_is_drawn_by_seed():
    first, again, other = (load_images("digits", n=50, seed=seed) for seed in (1, 1, 2))
    names = [[images.item_name(i) for i in range(50)] for images in (first, again, other)]
    assert names[0] == names[1] != names[2]
    assert first.source.endswith("50 of 359 images sampled stratified by class, seed 1")


@pytest.mark.parametrize("n", [0, -1])
def test_a_number_without_meaning_is_a_usage_error(n):
    with pytest.raises(UsageError, match="at least 1"):
        load_images("digits", n=n)
