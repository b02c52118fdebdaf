"""A folder's images, labels and order; what is passed over is named; no link leads out."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.core.errors import CannotRunError, ProbeError
from probe.core.subject import Skipped
from probe.data.images import ImageSet, InputSpec
from probe.data.load import load_images
from probe.data.pictures import FORMATS

SPEC = InputSpec((1, 2, 2), 1.0)


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2), value).save(path, format="PNG")
    return path


def contents(images: ImageSet) -> list[tuple[str, int | None]]:
    return [(item.name, item.label) for item in images.items]


def test_class_folders_are_labels_and_what_is_nested_belongs_to_them(tmp_path):
    for name in ("dog/a.png", "cat/b.png", "cat/deep/er/c.png", "dog/b.png"):
        picture(tmp_path / name)
    images = load_images(str(tmp_path))
    assert images.class_names == ("cat", "dog")
    assert images.num_classes == 2
    assert contents(images) == [
        ("cat/b.png", 0),
        ("cat/deep/er/c.png", 0),
        ("dog/a.png", 1),
        ("dog/b.png", 1),
    ]
    assert images.labelled
    assert (images.domain, images.framed, images.name) == ("folder", False, tmp_path.name)


def test_a_flat_folder_is_unlabelled(tmp_path):
    for name in ("b.png", "a.png"):
        picture(tmp_path / name)
    images = load_images(tmp_path)
    assert contents(images) == [("a.png", None), ("b.png", None)]
    assert images.class_names is None
    assert images.num_classes is None
    assert images.skipped == ()


def test_the_pixels_are_those_of_the_file_named(tmp_path):
    for value in range(12):
        picture(tmp_path / f"{'odd' if value % 2 else 'even'}/{value}.png", value)
    images = load_images(tmp_path)
    for batch in images.batches(SPEC, 5):
        for pixels, label, index in zip(batch.images, batch.labels, batch.indices, strict=True):
            value = int(images.item_name(index).partition("/")[2].removesuffix(".png"))
            assert round(float(pixels.mean()) * 255) == value
            assert images.class_names[label] == ("odd" if value % 2 else "even")


def test_the_order_is_that_of_the_names_bytes(tmp_path):
    names = ["10.png", "2.png", "B.png", "a.png", "é.png", "z.png", "Z.png", "_.png"]
    for name in names:
        picture(tmp_path / name)
    assert [name for name, _ in contents(load_images(tmp_path))] == sorted(names, key=str.encode)


def test_images_beside_class_folders_are_skipped_by_name(tmp_path):
    picture(tmp_path / "cat/a.png")
    picture(tmp_path / "stray.png")
    images = load_images(tmp_path)
    assert contents(images) == [("cat/a.png", 0)]
    assert images.skipped == (Skipped("stray.png", "not inside a class folder"),)


def test_a_class_without_images_keeps_its_number(tmp_path):
    (tmp_path / "b").mkdir()
    picture(tmp_path / "a/1.png")
    picture(tmp_path / "c/1.png")
    images = load_images(tmp_path)
    assert images.class_names == ("a", "b", "c")
    assert contents(images) == [("a/1.png", 0), ("c/1.png", 2)]


def test_subfolders_without_any_image_leave_a_folder_flat(tmp_path):
    (tmp_path / "thumbs").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/read me.txt").write_text("hello")
    picture(tmp_path / "a.png")
    images = load_images(tmp_path)
    assert contents(images) == [("a.png", None)]
    assert images.class_names is None
    assert [one.name for one in images.skipped] == ["notes/read me.txt"]


def test_hidden_entries_are_ignored(tmp_path):
    for name in (".hidden.png", ".git/a.png", "cat/.DS_Store", "cat/.x/b.png", "cat/a.png"):
        picture(tmp_path / name)
    images = load_images(tmp_path)
    assert contents(images) == [("cat/a.png", 0)]
    assert images.skipped == ()


def test_what_is_no_image_is_skipped_by_name_with_its_reason(tmp_path):
    picture(tmp_path / "good without a suffix")
    (tmp_path / "empty.png").touch()
    (tmp_path / "labels.csv").write_text("a,b\n")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)
        server.bind("sock.png")
        os.chdir(here)
    images = load_images(tmp_path)
    assert contents(images) == [("good without a suffix", None)]
    assert images.skipped == (
        Skipped("empty.png", "empty file"),
        Skipped("labels.csv", f"not an image ({', '.join(FORMATS)})"),
        Skipped("pipe.png", "not a regular file"),
        Skipped("sock.png", "not a regular file"),
    )


def test_what_turns_out_damaged_is_added_when_it_is_read(tmp_path):
    (tmp_path / "broken.png").write_bytes(picture(tmp_path / "good.png").read_bytes()[:-30])
    (tmp_path / "notes.txt").write_text("x")
    images = load_images(tmp_path)
    assert len(images) == 2
    batches = list(images.batches(SPEC, 2))
    assert [batch.indices for batch in batches] == [(1,)]
    assert [(one.name, one.reason) for one in images.skipped] == [
        ("notes.txt", f"not an image ({', '.join(FORMATS)})"),
        ("broken.png", "damaged or truncated PNG file"),
    ]


def test_a_file_that_goes_away_is_skipped(tmp_path):
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    images = load_images(tmp_path)
    (tmp_path / "a.png").unlink()
    list(images.batches(SPEC, 2))
    assert images.skipped == (Skipped("a.png", "cannot be opened: No such file or directory"),)


def test_no_link_leaves_the_folder(tmp_path):
    secret = picture(tmp_path / "outside/secret.png")
    root = tmp_path / "root"
    picture(root / "cat/a.png")
    (root / "cat/absolute.png").symlink_to(secret)
    (root / "cat/relative.png").symlink_to("../../outside/secret.png")
    (root / "outside").symlink_to(secret.parent)
    (root / "cat/up").symlink_to("../..")
    (root / "cat/hop.png").symlink_to("absolute.png")
    (root / "cat/broken.png").symlink_to("nowhere.png")
    (root / "cat/self.png").symlink_to("self.png")
    images = load_images(root)
    assert contents(images) == [("cat/a.png", 0)]
    assert images.class_names == ("cat",)
    leaves = "link that leaves the folder"
    assert {one.name: one.reason for one in images.skipped} == {
        "cat/absolute.png": leaves,
        "cat/relative.png": leaves,
        "cat/hop.png": leaves,
        "cat/up": leaves,
        "outside": leaves,
        "cat/broken.png": "broken link",
        "cat/self.png": "broken link",
    }


def test_a_neighbour_whose_name_begins_alike_is_outside(tmp_path):
    picture(tmp_path / "root/a.png")
    (tmp_path / "root/b.png").symlink_to(picture(tmp_path / "root2/b.png"))
    images = load_images(tmp_path / "root")
    assert contents(images) == [("a.png", None)]


def test_links_to_files_inside_are_followed(tmp_path):
    picture(tmp_path / ".store/1", 77)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.png").symlink_to("../.store/1")
    images = load_images(tmp_path)
    assert contents(images) == [("cat/a.png", 0)]
    assert round(float(images.get(0, SPEC).mean()) * 255) == 77


def test_loops_end(tmp_path):
    picture(tmp_path / "cat/a.png")
    (tmp_path / "cat/loop").symlink_to(".")
    (tmp_path / "cat/parent").symlink_to("..")
    (tmp_path / "dog").symlink_to("cat")
    images = load_images(tmp_path)
    assert contents(images) == [("cat/a.png", 0)]
    assert {one.name for one in images.skipped} == {"cat/loop", "cat/parent", "dog"}
    assert {one.reason for one in images.skipped} == {"link to another folder, which is not followed"}


def test_the_folder_itself_may_be_a_link(tmp_path):
    picture(tmp_path / "real/a.png")
    (tmp_path / "alias").symlink_to("real")
    assert contents(load_images(tmp_path / "alias")) == [("a.png", None)]


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[int]:
    """A picture 1,200 folders down, and its removal: shutil.rmtree would not reach it."""
    here, depth = os.getcwd(), 1200
    try:
        os.chdir(tmp_path)
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        Image.new("L", (2, 2)).save("a.png")
        yield depth
        os.unlink("a.png")
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")
    finally:
        os.chdir(here)


def test_folders_deeper_than_the_recursion_limit(tmp_path, deep):
    assert deep > sys.getrecursionlimit()
    images = load_images(tmp_path)
    assert contents(images) == [("d/" * deep + "a.png", 0)]
    assert images.get(0, SPEC).shape == SPEC.size


def test_a_subfolder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    picture(tmp_path / "cat/a.png")
    picture(tmp_path / "locked/a.png")
    scandir = os.scandir

    def locked(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    images = load_images(tmp_path)
    assert images.skipped == (Skipped("locked", "cannot be opened: Permission denied"),)
    assert contents(images) == [("cat/a.png", 0)]


def test_names_that_are_no_text_are_read_and_shown_escaped(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9\n.png"
    Image.new("L", (2, 2), 9).save(os.fsdecode(raw), format="PNG")
    images = load_images(tmp_path)
    assert contents(images) == [("caf\\udce9\\n.png", None)]
    assert round(float(images.get(0, SPEC).mean()) * 255) == 9


@pytest.mark.parametrize(
    "make", [lambda p: None, lambda p: (p / "cat").mkdir(), lambda p: picture(p / ".a.png")]
)
def test_an_empty_folder_cannot_be_used(make, tmp_path):
    make(tmp_path)
    with pytest.raises(CannotRunError, match="contains no images"):
        load_images(tmp_path)


def test_a_folder_without_a_usable_image_names_the_reasons(tmp_path):
    for name in "abcde":
        (tmp_path / f"{name}.txt").write_text("x")
    with pytest.raises(CannotRunError, match=r"a\.txt: not an image .*; b\.txt: .*; c\.txt: .*; and 2 more"):
        load_images(tmp_path)


def test_a_folder_of_damaged_images_cannot_be_used(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    images = load_images(tmp_path)
    with pytest.raises(ProbeError, match=r"a\.png: damaged .*; b\.png: damaged"):
        list(images.batches(SPEC, 2))


def test_sampling_a_folder_is_stratified_and_keeps_the_order(tmp_path):
    first = picture(tmp_path / "a/00.png")
    for name in [f"a/{i:02}.png" for i in range(1, 30)] + [f"b/{i:02}.png" for i in range(10)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.link(first, tmp_path / name)
    images = load_images(tmp_path, n=8, seed=3)
    names = [name for name, _ in contents(images)]
    assert names == sorted(names)
    assert np.bincount([label for _, label in contents(images)]).tolist() == [6, 2]
    assert images.info(8).total == 40
    assert names != [name for name, _ in contents(load_images(tmp_path, n=8, seed=4))]
