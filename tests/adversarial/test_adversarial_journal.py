"""What a journal is of: the same images, not only images of the same names."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.adversarial_runs import QUICK, image_set, model_of
from PIL import Image

from probe.cli.configs import journal_for
from probe.core.progress import SILENT
from probe.data.images import ImageSet
from probe.data.load import load_images


def folder(images: ImageSet) -> str:
    return journal_for(QUICK, model_of(), images, False, SILENT).folder.name


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (8, 8), value).save(path)


def test_a_changed_file_makes_another_journal(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name, 10)
    first = folder(load_images(tmp_path))
    assert folder(load_images(tmp_path)) == first
    picture(tmp_path / "b.png", 20)
    os.utime(tmp_path / "b.png", ns=(1, 1))
    assert folder(load_images(tmp_path)) != first
    second = folder(load_images(tmp_path).sample(2))
    os.utime(tmp_path / "b.png", ns=(2, 2))
    assert folder(load_images(tmp_path).sample(2)) != second


def test_so_does_a_single_file(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 10)
    first = folder(load_images(tmp_path / "a.png"))
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert folder(load_images(tmp_path / "a.png")) != first


def test_a_file_that_is_gone_is_no_error(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name, 10)
    images = load_images(tmp_path)
    first = folder(images)
    (tmp_path / "b.png").unlink()
    assert folder(images) != first


def test_other_labels_make_another_journal(tmp_path: Path) -> None:
    for name in ("1/a.png", "2/b.png"):
        picture(tmp_path / name, 10)
    first = folder(load_images(tmp_path))
    (tmp_path / "0").mkdir()  # labels count the class folders before one's own
    assert folder(load_images(tmp_path)) != first


def test_images_without_files_are_told_by_name_and_label() -> None:
    assert folder(image_set(6)) == folder(image_set(6))
    assert folder(image_set(6)) != folder(image_set(6, labelled=False))
