"""Every format that Pillow reads here goes in; what is none is called by its name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from probe.data.load import load_images
from probe.data.pictures import read_picture
from probe.data.spec import UnreadableError

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
LOSSLESS = {
    "png": {},
    "bmp": {},
    "tiff": {},
    "webp": {"lossless": True},
    "ppm": {},
    "jp2": {"irreversible": False},
    "ico": {"sizes": [(20, 24)]},
    "dds": {},
}
NEEDS = {"webp": "webp", "jp2": "jpg_2000", "avif": "avif"}


@pytest.mark.parametrize("ending", LOSSLESS)
def test_lossless_formats_are_read_exactly(ending: str, tmp_path: Path) -> None:
    if ending in NEEDS:
        assert features.check(NEEDS[ending])
    Image.fromarray(PIXELS).save(tmp_path / f"x.{ending}", **LOSSLESS[ending])
    assert np.array_equal(np.asarray(read_picture(tmp_path / f"x.{ending}")), PIXELS)


@pytest.mark.parametrize("ending", ["jpg", "gif", "avif"])
def test_lossy_formats_are_what_pillow_reads(ending: str, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / f"x.{ending}")
    with Image.open(tmp_path / f"x.{ending}") as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_picture(tmp_path / f"x.{ending}").convert("RGB")), expected)


def test_of_several_pages_the_first_is_read(tmp_path: Path) -> None:
    pages = [Image.new("L", (5, 4), value) for value in (10, 200)]
    pages[0].save(tmp_path / "x.tiff", save_all=True, append_images=pages[1:])
    assert np.asarray(read_picture(tmp_path / "x.tiff")).max() == 10


NONE = {
    "heic": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    "mp4": (b"\0\0\0\x18ftypisom" + bytes(40), "video"),
    "mkv": (b"\x1aE\xdf\xa3" + bytes(40), "video"),
    "avi": (b"RIFF\0\0\0\0AVI " + bytes(40), "video"),
    "pdf": (b"%PDF-1.7" + bytes(40), "PDF"),
    "svg": (b"<svg xmlns='x'/>" + bytes(20), "SVG"),
    "zip": (b"PK\x03\x04" + bytes(40), "zip"),
    "npy": (b"\x93NUMPY" + bytes(40), "NumPy"),
}


@pytest.mark.parametrize("ending", NONE)
def test_what_is_no_picture_is_called_by_its_name(ending: str, tmp_path: Path) -> None:
    content, word = NONE[ending]
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UnreadableError, match=word):
        read_picture(tmp_path / "x.jpg")


def test_a_folder_of_images_with_metadata_is_labelled_by_it(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,toad\nb.png,cat\n")
    images = load_images(tmp_path)
    assert images.class_names == ("cat", "toad")
    assert [images.label(0), images.label(1)] == [1, 0]
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,x\nb.png,y\n")
    images = load_images(tmp_path)
    assert not images.labelled
    assert any("--labels-csv" in caution for caution in images.cautions)


def test_the_bytes_of_a_damaged_file_are_named_damaged(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG2000")
    (tmp_path / "x.jp2").write_bytes(buffer.getvalue()[:60])
    with pytest.raises(UnreadableError, match="damaged"):
        read_picture(tmp_path / "x.jp2")
