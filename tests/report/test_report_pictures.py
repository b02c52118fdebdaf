"""Pictures: lossless where pixels matter, small where they do not."""

from __future__ import annotations

import base64
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from probe.core.blocks import Picture
from probe.report.pictures import STEPS, encode, encode_all

Pixels = NDArray[np.uint8]
BEST = STEPS[0]


def decoded(uri: str) -> tuple[str, Pixels]:
    head, _, data = uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    return head.removeprefix("data:image/").removesuffix(";base64"), np.asarray(image.convert("RGB"))


def rgb(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def photograph(side: int = 224) -> Pixels:
    spec = importlib.util.find_spec("foolbox")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "data" / "imagenet_00_243.jpg"
    return np.asarray(Image.open(path).convert("RGB").resize((side, side)))


shapes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
)


@settings(deadline=None)
@given(hnp.arrays(np.uint8, shapes))
def test_pixelated_pictures_lose_nothing(pixels: Pixels) -> None:
    coded = encode(Picture(pixels, "a", pixelated=True), BEST)
    kind, back = decoded(coded.uri)
    assert kind == "png"
    assert (coded.height, coded.width) == pixels.shape[:2]
    assert (back == rgb(pixels)).all()


@settings(deadline=None)
@given(st.integers(2, 256), st.integers(0, 99))
def test_few_colours_that_stay_small_lose_nothing(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 3), dtype=np.uint8)[rng.integers(0, count, (24, 24))]
    kind, back = decoded(encode(Picture(pixels, "a"), BEST).uri)
    assert kind == "png"
    assert (back == pixels).all()


def test_photographs_are_small_and_look_the_same() -> None:
    pixels = photograph()
    coded = encode(Picture(pixels, "a"), BEST)
    kind, back = decoded(coded.uri)
    assert kind in {"webp", "jpeg"}
    assert back.shape == pixels.shape
    error = np.mean((back.astype(float) - pixels) ** 2)
    assert 10 * np.log10(255**2 / error) > 30
    exact = io.BytesIO()
    Image.fromarray(pixels).save(exact, "PNG")
    assert len(coded.uri) < 0.5 * len(exact.getvalue())


def test_large_pictures_are_reduced_but_keep_their_shape() -> None:
    pixels = np.zeros((900, 1800, 3), np.uint8)
    pixels[:, :, 0] = np.arange(1800) % 251
    coded = encode(Picture(pixels, "a"), BEST)
    assert (coded.width, coded.height) == (1800, 900)
    assert decoded(coded.uri)[1].shape == (320, 640, 3)


def test_lower_steps_are_smaller() -> None:
    picture = Picture(photograph(), "a")
    sizes = [len(encode(picture, step).uri) for step in STEPS]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 4


def test_equal_pictures_are_coded_once_and_order_is_kept() -> None:
    a, b = Picture(photograph(64), "a"), Picture(photograph(64)[::-1].copy(), "b")
    coded = encode_all([a, b, Picture(photograph(64), "again")], BEST)
    assert coded[0] is coded[2]
    assert coded[0] != coded[1]
    crisp = encode_all([a, Picture(a.pixels, "a", pixelated=True)], BEST)
    assert crisp[0] != crisp[1]


def test_demo_sized_report_stays_within_five_megabytes() -> None:
    """400 pictures of 64 to 224 pixels, as a run of all views has them."""
    base = photograph()
    rng = np.random.default_rng(0)
    pictures = []
    for index in range(400):
        side = (64, 96, 128, 224)[index % 4]
        y, x = rng.integers(0, 225 - side, 2)
        pictures.append(Picture(np.ascontiguousarray(base[y : y + side, x : x + side]), str(index)))
    total = 0
    for step in STEPS:
        total = sum(len(item.uri) for item in encode_all(pictures, step) if item)
        if total <= 4_500_000:
            break
    assert total <= 4_500_000
    assert not step.warning


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((2, 2), np.float32),
        np.zeros((0, 2), np.uint8),
        np.zeros((2, 2, 2, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused_when_it_is_made(pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="saliency"):
        Picture(pixels, "saliency")
