"""Charts: marks where the numbers say, ticks that are true, nothing outside the canvas, the same numbers as a table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_hex
from report_strategies import figures

from probe.core.blocks import Axis, Figure, Series
from probe.report.charts import figures as module
from probe.report.charts.draw import draw
from probe.report.charts.figures import chart
from probe.report.charts.looks import HUES, ROLES, fit, lines, text_width
from probe.report.charts.scales import tick_label

X, Y = Axis("Epsilon (pixel units)"), Axis("Accuracy")
PAGE_CSS = (Path(module.__file__).parents[1] / "templates" / "page.css").read_text(encoding="utf-8")


def drawn(figure: Figure) -> list[Element]:
    return [ElementTree.fromstring(str(svg)) for _, svg in chart(figure, "f").drawings]


def wide(figure: Figure) -> Element:
    return drawn(figure)[0]


def marks(root: Element, tag: str, kind: str) -> list[Element]:
    return [element for element in root.iter(tag) if kind in element.get("class", "").split()]


def path_points(element: Element) -> list[tuple[float, float]]:
    numbers = re.findall(r"-?[\d.]+", element.get("d", ""))
    return list(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))


def box(element: Element) -> tuple[float, float, float, float]:
    """Left, top, right and bottom."""
    xs, ys = zip(*path_points(element), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def number(text: str | None) -> float:
    return float((text or "").replace("−", "-").replace(",", ""))


def line(*series: Series, x: Axis = X, y: Axis = Y) -> Figure:
    return Figure("Title", "line", x, y, "How to read.", series)


def test_points_stand_where_the_ticks_say() -> None:
    xs, ys = (0.0, 0.013, 0.031, 0.044), (0.91, 0.52, 0.13, 0.02)
    root = wide(line(Series("s", xs, ys)))
    labels = [text for text in root.iter("text") if text.get("class") == "fill-soft"]
    upright = [t for t in labels if t.get("text-anchor") == "end"]
    level = [t for t in labels if t.get("text-anchor") == "middle"]
    grid = [path_points(mark)[0][1] for mark in marks(root, "path", "stroke-line")]
    y_fit = np.polyfit([number(t.text) for t in upright], grid, 1)
    x_fit = np.polyfit([number(t.text) for t in level], [float(t.get("x", "")) for t in level], 1)
    (mark,) = marks(root, "path", "line")
    for (px, py), x, y in zip(path_points(mark), xs, ys, strict=True):
        assert px == pytest.approx(np.polyval(x_fit, x), abs=0.1)
        assert py == pytest.approx(np.polyval(y_fit, y), abs=0.1)


def test_log_axes_are_logarithmic() -> None:
    values = (0.001, 0.01, 0.1, 1.0)
    (mark,) = marks(
        wide(line(Series("s", values, values), x=Axis("x", "log"), y=Axis("y", "log"))), "path", "line"
    )
    points = path_points(mark)
    for axis in (0, 1):
        steps = np.diff([point[axis] for point in points])
        assert steps == pytest.approx([steps[0]] * 3, abs=0.05)


@given(st.integers(-30, 30), st.integers(1, 60), st.floats(1, 9))
def test_every_tick_of_a_log_axis_is_a_number_of_ours(start: int, decades: int, factor: float) -> None:
    values = (factor * 10.0**start, factor * 10.0 ** (start + decades))
    for root in drawn(line(Series("s", (0.0, 1.0), values), y=Axis("y", "log"))):
        texts = ["".join(text.itertext()) for text in root.iter("text") if text.get("text-anchor") == "end"]
        assert texts
        assert all(re.fullmatch(r"[\d.,]+|(\d × )?10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", text) for text in texts), texts


def test_what_a_log_axis_cannot_show_is_counted() -> None:
    shown = chart(line(Series("s", (1.0, 2.0, 3.0), (1.0, 0.0, -1.0)), y=Axis("y", "log")), "f")
    assert shown.notes == ("2 values cannot be drawn: see the table.",)


def test_band_holds_the_line() -> None:
    root = wide(line(Series("s", (0, 1, 2), (0.5, 0.6, 0.7), (0.4, 0.5, 0.6), (0.6, 0.7, 0.9))))
    (band,), (mark,) = marks(root, "path", "band"), marks(root, "path", "line")
    (placed,) = (use for use in root.iter("use") if use.get("href") == f"#{band.get('id')}")
    outline = [(x, y + float(placed.get("y", ""))) for x, y in path_points(band)]
    for x, y in path_points(mark):
        ends = [other for place, other in outline if place == pytest.approx(x, abs=0.02)]
        assert min(ends) < y < max(ends)


def test_no_line_is_drawn_through_a_gap() -> None:
    root = wide(line(Series("s", (0, 1, 2, 3, 4), (0.1, 0.2, math.nan, 0.4, 0.5))))
    (mark,) = marks(root, "path", "line")
    assert [len(piece.split("L")) for piece in mark.get("d", "").split("M")[1:]] == [2, 2]
    assert len(marks(root, "use", "point")) == 4


def test_bars_begin_at_zero_and_are_as_long_as_their_values() -> None:
    figure = Figure(
        "t",
        "bar",
        Axis("Layer", categories=("a", "b", "c")),
        Y,
        "",
        (Series("s", (0, 1, 2), (2.0, 1.0, -0.5)),),
    )
    boxes = [box(bar) for bar in marks(wide(figure), "path", "bar")]
    heights = [bottom - top for _, top, _, bottom in boxes]
    assert heights == pytest.approx([heights[0], heights[0] / 2, heights[0] / 4], abs=0.05)
    assert boxes[0][3] == pytest.approx(boxes[1][3], abs=0.05)
    assert boxes[2][1] == pytest.approx(boxes[0][3], abs=0.05)


def test_bars_with_long_names_lie_and_keep_their_lengths() -> None:
    names = tuple(f"features.{i}.a.very.long.layer.name" for i in range(12))
    values = tuple(float(i + 1) for i in range(12))
    for root in drawn(
        Figure("t", "bar", Axis("Layer", categories=names), Y, "", (Series("s", tuple(range(12)), values),))
    ):
        boxes = [box(bar) for bar in marks(root, "path", "bar")]
        assert [top for _, top, _, _ in boxes] == sorted(top for _, top, _, _ in boxes)
        widths = [right - left for left, _, right, _ in boxes]
        assert np.array(widths) / widths[0] == pytest.approx(values, abs=0.05)


def test_categories_out_of_range_are_not_drawn_elsewhere() -> None:
    figure = Figure(
        "t", "bar", Axis("Layer", categories=("a", "b")), Y, "", (Series("s", (0, 7), (1.0, 1.0)),)
    )
    assert len(marks(wide(figure), "path", "bar")) == 1
    assert chart(figure, "f").notes


def test_a_bar_that_is_alone_at_its_place_stands_in_the_middle() -> None:
    series = (Series("a", (0, 2), (1.0, 1.0)), Series("b", (1, 2), (1.0, 1.0)))
    root = wide(Figure("t", "bar", Axis("x", categories=("p", "q", "r")), Y, "", series))
    names = [float(text.get("x", "")) for text in root.iter("text") if text.text in ("p", "q", "r")]
    middles = sorted((left + right) / 2 for left, _, right, _ in map(box, marks(root, "path", "bar")))
    assert middles[:2] == pytest.approx(names[:2], abs=0.1)
    assert (middles[2] + middles[3]) / 2 == pytest.approx(names[2], abs=0.1)


def test_grouped_bars_do_not_overlap() -> None:
    series = tuple(Series(str(i), (0, 1, 2), (1.0, 2.0, 3.0)) for i in range(4))
    figure = Figure("t", "bar", Axis("x", categories=("a", "b", "c")), Y, "", series)
    boxes = [box(bar) for bar in marks(wide(figure), "path", "bar")]
    spans = sorted((left, right) for left, _, right, _ in boxes)
    assert len(spans) == 12
    assert all(end <= start + 0.01 for (_, end), (start, _) in pairwise(spans))


@pytest.mark.parametrize(
    ("matrix", "name"), [(((0.0, 1.0), (2.0, 4.0)), "viridis"), (((-1.0, 0.0), (0.5, 0.25)), "RdBu_r")]
)
def test_heat_map_cells_have_matplotlibs_colours(matrix: tuple[tuple[float, ...], ...], name: str) -> None:
    values = np.array(matrix)
    low, high = (values.min(), values.max()) if name == "viridis" else (-1, 1)
    root = wide(Figure("t", "heatmap", X, Y, "", matrix=matrix, value_label="v"))
    fills = [cell.get("fill") for cell in marks(root, "path", "cell")]
    expected = colormaps[name]((values - low) / (high - low)).reshape(-1, 4)
    assert fills == [to_hex(colour) for colour in expected]


def test_large_heat_maps_become_one_picture_with_the_same_colours() -> None:
    import base64
    import io

    from PIL import Image

    values = np.random.default_rng(0).random((50, 40))
    root = wide(Figure("t", "heatmap", X, Y, "", matrix=tuple(map(tuple, values.tolist()))))
    image = next(image for image in root.iter("image") if image.get("image-rendering") == "pixelated")
    pixels = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(image.get("href", "").partition(",")[2]))).convert("RGB")
    )
    scaled = (values - values.min()) / (values.max() - values.min())
    assert (pixels == colormaps["viridis"](scaled, bytes=True)[..., :3]).all()


def test_polar_points_stand_at_their_angle_and_distance() -> None:
    """A value of 2 at 0° is twice as far to the right of the centre as one of 1 at 180° is to its left."""
    angles, values = (0.0, 90.0, 180.0, 270.0), (2.0, 1.0, 1.0, -1.0)
    root = wide(Figure("t", "polar", X, Y, "", (Series("a", angles, values),)))
    right, up, left, centre = (
        (float(point.get("x", "")), float(point.get("y", ""))) for point in marks(root, "use", "point")
    )
    assert right[0] - centre[0] == pytest.approx(2 * (centre[0] - left[0]), abs=0.05)
    assert centre[1] - up[1] == pytest.approx(centre[0] - left[0], abs=0.05)  # screens count downwards
    assert right[1] == pytest.approx(centre[1], abs=0.05)
    assert right[0] - centre[0] > 50


def test_missing_cells_of_a_heat_map_are_marked() -> None:
    root = wide(Figure("t", "heatmap", X, Y, "", matrix=((1.0, math.nan), (2.0,))))
    assert len(marks(root, "path", "fill-none-ground")) == 2


def test_twin_table_has_the_same_numbers() -> None:
    table, note = module.twin(
        line(
            Series("a", (0.0, 1.0), (0.1, 0.2), (0.05, 0.1), (0.2, 0.3)), Series("b", (1.0, 2.0), (0.7, 0.8))
        )
    )
    assert [column.name for column in table.columns] == [
        "Epsilon (pixel units)",
        "a",
        "a, low",
        "a, high",
        "b",
    ]
    assert table.rows == ((0, 0.1, 0.05, 0.2, None), (1, 0.2, 0.1, 0.3, 0.7), (2, None, None, None, 0.8))
    assert note == ""


def test_twin_table_of_points_and_of_matrices() -> None:
    points, _ = module.twin(replace(line(Series("a", (1.0, 1.0), (2.0, 3.0))), kind="scatter"))
    assert points.rows == (("a", 1, 2.0), ("a", 1, 3.0))
    matrix, _ = module.twin(
        Figure(
            "t",
            "heatmap",
            Axis("x", categories=("p", "q")),
            Axis("y", categories=("r",)),
            "",
            matrix=((0.5, 0.25),),
        )
    )
    assert [column.name for column in matrix.columns] == ["y", "p", "q"]
    assert matrix.rows == (("r", 0.5, 0.25),)


def test_long_twin_tables_are_cut_and_say_so() -> None:
    table, note = module.twin(line(Series("a", tuple(range(3000)), tuple(map(float, range(3000))))))
    assert len(table.rows) == 400
    assert "first 400 of 3000 rows" in note


def test_several_series_have_a_key_that_needs_no_colour() -> None:
    root = wide(line(*(Series(f"s{i}", (0.0, 1.0), (0.1 * i, 0.1)) for i in range(4))))
    assert [text.text for text in root.iter("text") if (text.text or "").startswith("s")] == [
        "s0",
        "s1",
        "s2",
        "s3",
    ]
    shapes = {mark.get("href") for mark in marks(root, "use", "point")}
    assert len(shapes) == 4
    assert len({mark.get("stroke-dasharray") for mark in marks(root, "path", "line")}) == 4


def test_one_series_needs_no_key() -> None:
    root = wide(line(Series("s", (0.0,), (1.0,))))
    assert "s" not in [text.text for text in root.iter("text")]


def test_description_tells_what_is_seen() -> None:
    root = wide(line(Series("plain", (0.0, 0.1), (0.9, 0.1))))
    title, description = root.find("title"), root.find("desc")
    assert root.get("role") == "img"
    assert title is not None
    assert description is not None
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert (
        description.text
        == "Line chart of Accuracy against Epsilon (pixel units). plain: from 0.9 at 0 to 0.1 at 0.1."
    )


def coordinates(root: Element) -> Iterator[tuple[float, float]]:
    for element in root.iter():
        if element.tag in ("text", "use") and element.get("href") not in shifted(root):
            yield float(element.get("x", "0")), float(element.get("y", "0"))
        if element.tag == "path" and not element.get("id"):
            yield from path_points(element)


def shifted(root: Element) -> set[str]:
    """Bands are used at another place than where their path is written."""
    return {f"#{band.get('id')}" for band in marks(root, "path", "band")}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(figures)
def test_any_figure_is_drawn_inside_its_canvas(figure: Figure) -> None:
    for root in drawn(figure):
        width, height = map(float, root.get("viewBox", "").split()[2:])
        for x, y in coordinates(root):
            assert -1 <= x <= width + 1
            assert -1 <= y <= height + 1
        assert not [element for element in root.iter() if element.get("style")]


def test_same_figure_gives_same_bytes_and_other_ids() -> None:
    figure = Figure("t", "heatmap", X, Y, "", matrix=((1.0, 2.0),))
    assert chart(figure, "a").drawings == chart(figure, "a").drawings
    ids = [
        set(re.findall(r'id="([^"]+)"', "".join(str(svg) for _, svg in chart(figure, name).drawings)))
        for name in "ab"
    ]
    assert ids[0]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("value", "step", "label"),
    [
        (0.25, 0.25, "0.25"),
        (0.5, 0.25, "0.50"),
        (-2, 1, "−2"),
        (1000, 500, "1,000"),
        (0, 0.1, "0"),
        (1e-5, 1e-5, "10⁻⁵"),
        (2e-5, 1e-5, "2 × 10⁻⁵"),
        (2.5e-5, 5e-6, "2.5 × 10⁻⁵"),
        (1e8, 1e8, "10⁸"),
    ],
)
def test_tick_labels(value: float, step: float, label: str) -> None:
    assert tick_label(value, step) == label


@pytest.mark.parametrize("top", [2, 3, 8, 33, 1000])
@pytest.mark.parametrize("width", [2.0, 4.5, 12.0])
def test_whole_numbers_get_whole_ticks(top: int, width: float) -> None:
    axes = draw(line(Series("s", (1.0, float(top)), (1.0, 2.0)), x=Axis("step")), width, 12).axes[0]
    assert all(float(place).is_integer() for place in axes.get_xticks())


@given(st.text(max_size=60), st.floats(20, 300))
def test_fitted_text_fits(text: str, width: float) -> None:
    short = fit(text, width)
    assert text_width(short) <= width or len(short) <= 4


# colours, read from the style sheet


def colours(dark: bool) -> dict[str, str]:
    blocks = PAGE_CSS.split("@media screen and (prefers-color-scheme: dark)")
    source = blocks[1].split("}\n}")[0] if dark else blocks[0]
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", source))


def linear(colour: str) -> np.ndarray:
    part = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def contrast(one: str, two: str) -> float:
    """WCAG 2: (L1 + 0.05) / (L2 + 0.05)."""
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = (
        np.array(
            [
                [0.4124564, 0.3575761, 0.1804375],
                [0.2126729, 0.7151522, 0.0721750],
                [0.0193339, 0.1191920, 0.9503041],
            ]
        )
        @ rgb
    )
    f = np.cbrt(np.maximum(xyz / [0.95047, 1.0, 1.08883], 0.008856))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


SIGHT = {
    "normal": np.eye(3),
    # Machado, Oliveira, Fernandes 2009, severity 1.0, in linear RGB
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def test_every_colour_of_a_drawing_is_the_light_pages() -> None:
    assert {name: colour for colour, name in ROLES.items()}.items() <= colours(dark=False).items()
    for role in ROLES.values():
        assert f".fill-{role} {{ fill: var(--{role}); }}" in PAGE_CSS
        assert f".stroke-{role} {{ stroke: var(--{role}); }}" in PAGE_CSS


@pytest.mark.parametrize("dark", [False, True])
def test_series_colours_stand_out_and_apart(dark: bool) -> None:
    named = colours(dark)
    hues = [named[f"hue{i}"] for i in range(len(HUES))]
    assert min(contrast(hue, named["paper"]) for hue in hues) >= 3
    for sight, matrix in SIGHT.items():
        seen = [lab((matrix @ linear(hue)).clip(0, 1)) for hue in hues[:4]]
        apart = min(float(np.linalg.norm(a - b)) for i, a in enumerate(seen) for b in seen[:i])
        assert apart >= 18, (sight, apart)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        ("ink", "paper"),
        ("ink", "ground"),
        ("soft", "paper"),
        ("soft", "ground"),
        ("link", "paper"),
        ("link", "ground"),
        ("pass", "pass-ground"),
        ("warn", "warn-ground"),
        ("fail", "fail-ground"),
        ("none", "none-ground"),
        ("ink", "none-ground"),
        ("ink", "mark"),
        ("warn", "paper"),
    ],
)
def test_text_contrast(ink: str, ground: str, dark: bool) -> None:
    named = colours(dark)
    assert contrast(named[ink], named[ground]) >= 4.5


def test_a_long_curve_tells_values_along_its_whole_length() -> None:
    count = 5000
    series = tuple(
        Series(f"s{k}", tuple(map(float, range(count))), tuple(float(i % 7) for i in range(count)))
        for k in (0, 1)
    )
    figure = Figure("f", "line", Axis("step"), Axis("loss"), "r", series)
    (_, drawing), _ = chart(figure, "c").drawings
    told = [int(step.replace(",", "")) for step in re.findall(r"step: ([\d,]+)</title>", str(drawing))]
    first = told[: len(told) // 2]
    assert first[0] == 0
    assert first[-1] == count - 1
    assert 280 <= len(first) <= 302
    assert max(b - a for a, b in pairwise(first)) <= 17
    assert told == first * 2


def test_long_labels_break_into_two_lines_before_they_are_cut() -> None:
    label = "variance of the filters explained (%)"
    assert lines(label, 400) == label
    assert lines(label, 190) == "variance of the\nfilters explained (%)"
    assert lines("x" * 100, 60) == fit("x" * 100, 60)
