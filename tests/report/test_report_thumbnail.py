"""The small picture of a report: what it shows, and that nothing can break it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image
from report_samples import small_report
from report_strategies import reports

from probe.core.blocks import Axis, Block, Figure, Gallery, Picture, Series, SteppedGallery, Strip
from probe.core.document import Report, Section
from probe.report.thumbnail import SIZE, thumbnail


def of(*blocks: Block) -> np.ndarray | None:
    data = thumbnail(small_report(sections=(Section("s", "S", blocks=blocks),)))
    return None if data is None else np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(int)


def grey(value: int, **options: bool) -> Picture:
    return Picture(np.full((20, 20), value, np.uint8), "grey", **options)


def test_first_pictures_stand_in_order_with_nothing_between() -> None:
    strips = tuple(Strip(tuple(grey(value) for value in row)) for row in ((0, 60, 120, 9), (180, 220, 255)))
    shown = of(Gallery("g", strips, "r"))
    assert shown is not None
    assert shown.shape == (96, 145, 4)
    side = shown.shape[1] // 3
    centres = [
        [shown[side // 2 + row * side, side // 2 + column * side, 0] for column in range(3)] for row in (0, 1)
    ]
    assert np.abs(np.array(centres) - [[0, 60, 120], [180, 220, 255]]).max() <= 6


def test_slides_show_the_step_that_they_begin_with() -> None:
    rows = ((Strip((grey(10),)), Strip((grey(200),))),)
    shown = of(SteppedGallery("s", ("a", "b"), rows, "r", 96, 1))
    assert shown is not None
    assert abs(shown[10, 10, 0] - 200) <= 6


def test_photographs_come_before_filters() -> None:
    filters = Gallery("f", (Strip((grey(10, pixelated=True),)),), "r")
    photographs = Gallery("p", (Strip((grey(200),)),), "r")
    shown = of(filters, photographs)
    assert shown is not None
    assert abs(shown[10, 10, 0] - 200) <= 6


@pytest.mark.parametrize("kind", ["line", "scatter", "bar"])
def test_a_report_without_pictures_shows_its_chart(kind: str) -> None:
    series = (Series("rising", (0.0, 1.0, 2.0), (1.0, 2.0, 3.0)),)
    shown = of(Figure("f", kind, Axis("x"), Axis("y"), "r", series))  # type: ignore[arg-type]
    assert shown is not None
    assert shown.shape == (SIZE[1], SIZE[0], 4)
    blue = (shown[..., 2] > shown[..., 0] + 60) & (shown[..., 3] > 128)
    rows, columns = np.nonzero(blue)
    left, right = rows[columns < SIZE[0] // 3].min(), rows[columns > 2 * SIZE[0] // 3].min()
    assert right < left - 20, "what rises stands higher at the right"


def test_nothing_to_show_is_no_thumbnail() -> None:
    nothing = float("nan")
    empty = Figure("f", "line", Axis("x"), Axis("y"), "r", (Series("s", (nothing,), (1.0,)),))
    assert of() is None
    assert of(empty, Gallery("g", (Strip(()),), "r"), SteppedGallery("s", (), ((),), "r")) is None
    assert thumbnail(replace(small_report(), sections=())) is None


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(reports)
def test_any_report_has_a_small_thumbnail_or_none(report: Report) -> None:
    data = thumbnail(report)
    if data is not None:
        size = Image.open(io.BytesIO(data)).size
        assert max(size[0] - SIZE[0], size[1] - SIZE[1]) <= 0
        assert len(data) < 40_000
