"""Every odd picture is read right, every bad one is refused with a short reason."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from probe.data import pictures
from probe.data.images import UnreadableError
from probe.data.pictures import picture_kind, read_picture

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6

WRITERS = {
    "JPEG": ("a.jpg", {}),
    "PNG": ("a.png", {}),
    "WebP": ("a.webp", {"lossless": True}),
    "BMP": ("a.bmp", {}),
    "GIF": ("a.gif", {}),
    "TIFF": ("a.tif", {}),
    "PPM": ("a.ppm", {}),
}


def photograph(rng: np.random.Generator, height: int = 24, width: int = 40) -> np.ndarray:
    """A smooth picture that survives JPEG, with no symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 5 + y, 200 - y * 6, x * y / 5 + 20]
    return np.clip(np.stack(planes, 2) + rng.normal(0, 1, (height, width, 3)), 0, 255).astype(np.uint8)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    part = alpha.astype(np.float64)[..., None] / 255
    return colour * part + 255 * (1 - part)


def reason(path: Path) -> str:
    with pytest.raises(UnreadableError) as caught:
        read_picture(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 100
    assert str(path.parent) not in text
    return text


# Formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_each_format_is_known_by_content_whatever_its_name(kind, tmp_path, rng):
    name, options = WRITERS[kind]
    array = photograph(rng)
    Image.fromarray(array).save(tmp_path / name, **options)
    disguised = (tmp_path / name).rename(tmp_path / "notes.txt")

    assert picture_kind(disguised) == kind
    picture = np.asarray(read_picture(disguised).convert("RGB"), dtype=int)

    tolerance = {"JPEG": 40, "GIF": 60}.get(kind, 0)
    assert np.abs(picture - array).max() <= tolerance


@pytest.mark.parametrize("kind", ["PCX", "TGA", "SGI", "EPS"])
def test_other_formats_are_refused_though_pillow_knows_them(kind, tmp_path, rng):
    path = tmp_path / "picture.png"
    Image.fromarray(photograph(rng)).save(path, format=kind)
    assert reason(path).startswith("not an image (JPEG, PNG")


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "GIF"])
def test_a_file_cut_in_half_is_refused(kind, tmp_path, rng):
    name, options = WRITERS[kind]
    path = tmp_path / name
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert reason(path) == f"damaged or truncated {kind} file"


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("length", [4, 12, 30])
def test_a_bare_beginning_is_refused(kind, length, tmp_path, rng):
    name, options = WRITERS[kind]
    path = tmp_path / name
    Image.fromarray(photograph(rng)).save(path, **options)
    path.write_bytes(path.read_bytes()[:length])
    assert kind in reason(path) or "not an image" in reason(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"hello, this is text\n", "not an image"),
        (b"P3 is how this sentence begins", "damaged or truncated PPM file"),
        (b"BMW is a make of car, not a bitmap", "damaged or truncated BMP file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "damaged or truncated PNG file"),
        (b"\xff\xd8\xff" + b"\xff" * 64, "damaged or truncated JPEG file"),
        (b"GIF89a" + b"\0" * 64, "damaged or truncated GIF file"),
        (b"II*\0" + b"\xff" * 64, "damaged or truncated TIFF file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"%PDF-1.4", "a PDF document"),
        (b"\0" * 100, "not an image"),
    ],
)
def test_what_is_no_image_is_refused(content, expected, tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    assert reason(path).startswith(expected)


def test_pillow_is_asked_for_the_one_format_only(tmp_path, rng, monkeypatch):
    asked = []
    opener = Image.open
    monkeypatch.setattr(
        Image, "open", lambda file, formats=None: asked.append(formats) or opener(file, formats=formats)
    )
    for name, options in WRITERS.values():
        Image.fromarray(photograph(rng)).save(tmp_path / name, **options)
        read_picture(tmp_path / name)
    assert asked == [(kind.upper(),) for kind in WRITERS]


def test_random_damage_never_ends_in_another_error(tmp_path, rng):
    wrong = 0
    for kind, (name, options) in WRITERS.items():
        path = tmp_path / name
        Image.fromarray(photograph(rng)).save(path, **options)
        whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(25):
            hurt = whole.copy()
            hurt[rng.integers(0, min(len(hurt), 200), 6)] = rng.integers(0, 256, 6)
            path.write_bytes(hurt.tobytes())
            try:
                assert read_picture(path).mode in ("L", "RGB", "F"), kind
            except UnreadableError:
                wrong += 1
    assert wrong > 20


def test_a_missing_file_is_unreadable(tmp_path):
    assert reason(tmp_path / "gone.png").startswith("cannot be opened: No such file")


# Size ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(10_000, 5_001), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_more_than_fifty_megapixels_are_refused_before_decoding(size, png, monkeypatch):
    path = png(np.zeros((2, 2)), size=size)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _self: pytest.fail("decoded"))
    assert reason(path).startswith("more than 50 megapixels")


def test_the_size_is_named_where_it_is_known(png):
    assert (
        reason(png(np.zeros((2, 2)), size=(8_000, 7_000))) == "more than 50 megapixels (8000 × 7000 pixels)"
    )


def test_fifty_megapixels_are_not_too_many(png):
    # The limit lets it pass; what fails is the content, of which there is too little.
    assert reason(png(np.zeros((2, 2)), size=(10_000, 5_000))) == "damaged or truncated PNG file"


@pytest.mark.parametrize("form", ["lossy", "lossless", "extended"])
def test_webp_claims_are_checked_before_pillow_makes_room(form, tmp_path, rng, monkeypatch):
    path = tmp_path / "a.webp"
    picture = Image.fromarray(photograph(rng))
    if form == "extended":
        picture.save(path, exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0\0\0\0\0")
    else:
        picture.save(path, lossless=form == "lossless")
    data = bytearray(path.read_bytes())
    kind = {b"VP8 ": "lossy", b"VP8L": "lossless", b"VP8X": "extended"}[bytes(data[12:16])]
    assert kind == form
    assert read_picture(path).size == (40, 24)
    if form == "lossy":
        data[26:30] = struct.pack("<HH", 16_000, 16_000)
    elif form == "lossless":
        data[21:25] = (15_999 | 15_999 << 14).to_bytes(4, "little")
    else:
        data[24:30] = (15_999).to_bytes(3, "little") * 2
    path.write_bytes(bytes(data))
    monkeypatch.setattr(Image, "open", lambda *_a, **_k: pytest.fail("opened"))
    assert reason(path) == "more than 50 megapixels (16000 × 16000 pixels)"


# Pixels -------------------------------------------------------------------------------------------------


def test_grey_stays_grey(png, rng):
    array = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    picture = read_picture(png(array))
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), array)


def test_one_bit_becomes_black_and_white(tmp_path):
    array = np.array([[0, 1, 1], [1, 0, 0]], dtype=bool)
    for name in ("a.png", "a.tif", "a.bmp", "a.pbm"):
        Image.fromarray(array).save(tmp_path / name)
        assert np.array_equal(np.asarray(read_picture(tmp_path / name).convert("L")), array * 255), name


def test_palette(png, rng):
    colours = rng.integers(0, 256, (8, 3), dtype=np.uint8)
    array = rng.integers(0, 8, (5, 7), dtype=np.uint8)
    picture = read_picture(png(array, PALETTE, before=[(b"PLTE", colours.tobytes())]))
    assert np.array_equal(np.asarray(picture), colours[array])


def test_palette_with_transparency_lies_over_white(png, rng):
    colours = rng.integers(0, 256, (4, 3), dtype=np.uint8)
    alpha = np.array([0, 255, 100, 200], dtype=np.uint8)
    array = rng.integers(0, 4, (5, 7), dtype=np.uint8)
    before = [(b"PLTE", colours.tobytes()), (b"tRNS", alpha.tobytes())]
    picture = np.asarray(read_picture(png(array, PALETTE, before=before)), dtype=float)
    assert np.abs(picture - over_white(colours[array], alpha[array])).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_over_white(kind, tmp_path, rng):
    array = rng.integers(0, 256, (9, 11, 4), dtype=np.uint8)
    path = tmp_path / "a"
    Image.fromarray(array).save(
        path, format=kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})
    )
    picture = read_picture(path)
    assert picture.mode == "RGB"
    assert np.abs(np.asarray(picture, dtype=float) - over_white(array[..., :3], array[..., 3])).max() <= 1


def test_grey_with_alpha_lies_over_white_and_stays_grey(png, rng):
    array = rng.integers(0, 256, (9, 11, 2), dtype=np.uint8)
    picture = read_picture(png(array, GREY_ALPHA))
    assert picture.mode == "L"
    expected = over_white(array[..., :1], array[..., 1])[..., 0]
    assert np.abs(np.asarray(picture, dtype=float) - expected).max() <= 1


def test_one_transparent_grey_becomes_white(png):
    array = np.array([[10, 20], [30, 10]], dtype=np.uint8)
    picture = read_picture(png(array, before=[(b"tRNS", struct.pack(">H", 10))]))
    assert np.array_equal(np.asarray(picture), [[255, 20], [30, 255]])


def test_one_transparent_colour_becomes_white(png):
    array = np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)
    picture = read_picture(png(array, RGB, before=[(b"tRNS", struct.pack(">HHH", 1, 2, 3))]))
    assert np.array_equal(np.asarray(picture), [[[255, 255, 255], [4, 5, 6]]])


def test_one_transparent_deep_grey_becomes_white(png):
    array = np.array([[1000, 65535], [0, 1000]])
    picture = read_picture(png(array, depth=16, before=[(b"tRNS", struct.pack(">H", 1000))]))
    assert np.array_equal(np.asarray(picture), np.float32([[1, 1], [0, 1]]))


def test_gif_transparency_lies_over_white(tmp_path):
    array = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    picture = Image.fromarray(array)
    picture = picture.convert("P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "a.gif", transparency=0)
    expected = [[[255, 255, 255], [0, 0, 255]], [[0, 0, 255], [255, 255, 255]]]
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.gif")), expected)


def test_sixteen_bit_png_keeps_its_depth(png, rng):
    array = rng.integers(0, 65536, (6, 5))
    array[0, :3] = 0, 1, 65535
    picture = read_picture(png(array, depth=16))
    assert picture.mode == "F"
    assert np.array_equal(np.asarray(picture), array.astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bit_tiff_keeps_its_depth_in_either_byte_order(mode, tmp_path, rng):
    array = rng.integers(0, 65536, (6, 5)).astype(np.uint16)
    picture = Image.frombytes(mode, (5, 6), array.astype("<u2" if mode == "I;16" else ">u2").tobytes())
    picture.save(tmp_path / "a.tif")
    found = np.asarray(read_picture(tmp_path / "a.tif"))
    assert np.array_equal(found, array.astype(np.float32) / np.float32(65535))


def test_thirty_two_bit_integers_are_read_as_sixteen_when_they_fit(tiff):
    content = np.array([0, 1, 65535, 300], dtype="<i4")
    found = np.asarray(read_picture(tiff(content.tobytes(), 2, 2, 32, sample_format=2)))
    assert np.array_equal(found, np.float32([[0, 1], [65535, 300]]) / np.float32(65535))


@pytest.mark.parametrize("value", [-1, 65536])
def test_other_integers_are_refused(value, tiff):
    content = np.array([0, value, 5, 9], dtype="<i4").tobytes()
    assert reason(tiff(content, 2, 2, 32, sample_format=2)) == "integer pixels outside [0, 65535]"


def test_twelve_bit_tiff_is_scaled_by_its_own_white(tiff):
    # Two 12-bit samples in three bytes, most significant bits first: 0xfff, 0x000 and 0x800, 0x001.
    found = np.asarray(read_picture(tiff(bytes.fromhex("fff000800001"), 2, 2, 12)))
    assert np.array_equal(found, np.float32([[4095, 0], [2048, 1]]) / np.float32(4095))


def test_deep_tiff_with_white_as_zero_is_turned_round(tiff):
    content = np.array([0, 65535, 13107, 0], dtype="<u2").tobytes()
    found = np.asarray(read_picture(tiff(content, 2, 2, 16, photometric=0)))
    assert found == pytest.approx(np.array([[1, 0], [0.8, 1]]), abs=1e-7)


def test_ppm_with_ten_bits_is_scaled_by_its_maximum(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 1023\n" + np.array([0, 1023, 512], dtype=">u2").tobytes())
    found = np.asarray(read_picture(tmp_path / "a.pgm"))
    assert found == pytest.approx(np.array([[0, 1, 512 / 1023]]), abs=1e-4)


def test_float_tiff_is_taken_as_it_is_within_zero_and_one(tiff):
    content = np.array([0, 0.25, 1, 1e-3], dtype="<f4")
    found = np.asarray(read_picture(tiff(content.tobytes(), 2, 2, 32, sample_format=3)))
    assert np.array_equal(found, content.reshape(2, 2))


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, np.nan, np.inf])
def test_other_floats_are_refused(value, tiff):
    content = np.array([0, value, 0.5, 1], dtype="<f4").tobytes()
    assert reason(tiff(content, 2, 2, 32, sample_format=3)) == "floating-point pixels outside [0, 1]"


def test_deep_colour_is_cut_to_eight_bits(png, rng):
    array = rng.integers(0, 65536, (4, 5, 3))
    found = np.asarray(read_picture(png(array, RGB, depth=16)), dtype=float) / 255
    assert np.abs(found - array / 65535).max() <= 1 / 255


CMYK_COLOURS = [
    ((0, 0, 0, 0), (255, 255, 255)),
    ((0, 255, 255, 0), (255, 0, 0)),
    ((255, 0, 255, 0), (0, 255, 0)),
    ((255, 255, 0, 0), (0, 0, 255)),
    ((0, 0, 0, 255), (0, 0, 0)),
]


@pytest.mark.parametrize(("inks", "colour"), CMYK_COLOURS)
def test_cmyk_jpeg_with_adobes_inversion(inks, colour, tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (16, 16), inks).save(path, quality=95)
    assert b"Adobe" in path.read_bytes()[:200]
    assert np.abs(np.asarray(read_picture(path), dtype=int) - colour).max() <= 4


@pytest.mark.parametrize(("inks", "colour"), CMYK_COLOURS)
def test_cmyk_tiff_is_not_inverted(inks, colour, tmp_path):
    Image.new("CMYK", (4, 4), inks).save(tmp_path / "a.tif")
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.tif")), np.full((4, 4, 3), colour))


def test_lab_and_ycbcr_become_rgb(tmp_path):
    Image.new("LAB", (4, 4), (255, 128, 128)).save(tmp_path / "lab.tif")
    Image.new("YCbCr", (4, 4), (76, 85, 255)).save(tmp_path / "ycbcr.tif", compression="jpeg")
    assert np.abs(np.asarray(read_picture(tmp_path / "lab.tif"), dtype=int) - 255).max() <= 3
    assert np.abs(np.asarray(read_picture(tmp_path / "ycbcr.tif"), dtype=int) - (255, 0, 0)).max() <= 3


def test_an_unknown_mode_is_refused_by_name():
    from probe.data.preprocess import plain

    class Strange(Image.Image):
        mode = "XYZ"

    with pytest.raises(UnreadableError, match=r"^pixel mode XYZ is not supported$"):
        plain(Strange())


# Animations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), [("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {})])
def test_the_first_frame_of_an_animation_is_read(name, options, tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=50, **options)
    with Image.open(tmp_path / name) as animation:
        assert animation.n_frames == 3
    assert np.array_equal(np.asarray(read_picture(tmp_path / name)), np.full((6, 8, 3), (255, 0, 0)))


def test_a_broken_animation_header_does_not_fail_the_picture(png):
    array = np.full((3, 3), 7, dtype=np.uint8)
    path = png(array, before=[(b"acTL", struct.pack(">II", 0, 0))])
    with pytest.warns(UserWarning, match="APNG"), Image.open(path):
        pass
    assert np.array_equal(np.asarray(read_picture(path)), array)


# Orientation --------------------------------------------------------------------------------------------

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def exif(orientation: int) -> bytes:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0"


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.jpg"])
def test_exif_orientation_is_undone(orientation, name, tmp_path, rng):
    stored = photograph(rng, 16, 24)
    options = (
        {"lossless": True}
        if name == "a.webp"
        else {"quality": 100, "subsampling": 0}
        if "jpg" in name
        else {}
    )
    if name == "a.tif":
        options["tiffinfo"] = {274: orientation}
    else:
        options["exif"] = exif(orientation)
    Image.fromarray(stored).save(tmp_path / name, **options)
    found = np.asarray(read_picture(tmp_path / name), dtype=int)
    expected = UPRIGHT[orientation](stored)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= (12 if name == "a.jpg" else 0)


def test_deep_grey_is_turned_upright_too(png):
    array = np.array([[0, 1000, 2000], [3000, 4000, 65535]])
    picture = read_picture(png(array, depth=16, before=[(b"eXIf", exif(6)[6:])]))
    assert np.array_equal(np.asarray(picture), np.rot90(array, -1).astype(np.float32) / np.float32(65535))


BROKEN_EXIF = {
    "no directory": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "not TIFF": b"Exif\0\0__import__('os').system('true')",
    "cut off": exif(6)[:18],
    "value outside": exif(9),
    "value zero": exif(0),
    "empty": b"Exif\0\0",
    "text": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4s", 0x0112, 2, 4, b"6+1\0") + b"\0\0\0\0",
    "data beyond the end": b"Exif\0\0II*\0\x08\0\0\0\x01\0"
    + struct.pack("<HHII", 0x010E, 2, 4000, 90)
    + b"\0" * 4,
    "impossible count": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x0112, 3, 2**31, 2**31),
}


@pytest.mark.parametrize("fault", BROKEN_EXIF)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_broken_exif_does_not_fail_the_picture(fault, name, tmp_path, rng):
    stored = photograph(rng, 16, 24)
    Image.fromarray(stored).save(tmp_path / name, exif=BROKEN_EXIF[fault])
    assert read_picture(tmp_path / name).size == (24, 16)


# Nothing left behind ------------------------------------------------------------------------------------


def test_reading_changes_nothing_outside(tmp_path, rng):
    path = tmp_path / "a.jpg"
    Image.fromarray(photograph(rng)).save(path, exif=BROKEN_EXIF["data beyond the end"])
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    read_picture(path)
    path.write_bytes(path.read_bytes()[:300])
    reason(path)
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_a_filter_of_the_users_own_is_kept(tmp_path, rng):
    path = tmp_path / "a.png"
    Image.fromarray(photograph(rng)).save(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        before = list(warnings.filters)
        read_picture(path)
        assert list(warnings.filters) == before


def test_readers_in_many_threads_leave_the_filters_as_they_were(tmp_path, rng):
    path = tmp_path / "a.jpg"
    Image.fromarray(photograph(rng)).save(path, exif=BROKEN_EXIF["data beyond the end"])
    before = list(warnings.filters)
    failures: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(20):
                read_picture(path)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == before
    assert pictures._readers == 0


def test_the_result_carries_no_metadata(tmp_path, rng):
    path = tmp_path / "a.jpg"
    Image.fromarray(photograph(rng)).save(path, exif=exif(6), comment=b"who took it", icc_profile=b"x" * 200)
    picture = read_picture(path)
    assert picture.info == {}
    assert not picture.getexif()


def test_the_file_is_closed(tmp_path, rng):
    path = tmp_path / "a.gif"
    frames = [Image.fromarray(photograph(rng)) for _ in range(2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    picture = read_picture(path)
    path.unlink()
    assert picture.getpixel((0, 0)) is not None
