"""Charts outside the page: files for a paper, and drawings to restyle."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from report_samples import small_report

from probe.core.blocks import Axis, Figure, Series
from probe.core.document import Section
from probe.core.errors import CannotRunError, UsageError
from probe.report.charts import looks
from probe.report.charts.export import figure_files, find_figure, write_figures
from probe.report.render import write_report

NAMES = [
    "weights-accuracy-falls-with-epsilon",
    "weights-norms",
    "weights-size-and-importance",
    "weights-transfer",
]


def test_each_chart_becomes_a_file_named_by_section_and_title(tmp_path: Path) -> None:
    written = write_figures(small_report(), tmp_path, "pdf")
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [f"figures/{n}.pdf" for n in NAMES]
    assert all(path.is_file() for path in written)


def test_a_pdf_is_as_wide_as_a_column_and_embeds_its_font() -> None:
    data = figure_files(small_report(), "pdf")[f"{NAMES[0]}.pdf"]
    assert data.startswith(b"%PDF")
    box = re.search(rb"/MediaBox \[ ?([\d. ]+)\]", data)
    assert box is not None
    assert float(box[1].split()[2]) == pytest.approx(3.3 * 72, abs=0.1)
    assert b"/FontFile2" in data, "TrueType, which journals ask for"
    assert b"/Type3" not in data
    assert b"CreationDate" not in data


def test_a_png_has_300_dots_an_inch() -> None:
    data = figure_files(small_report(), "png")[f"{NAMES[0]}.png"]
    assert Image.open(io.BytesIO(data)).width == 990


@pytest.mark.parametrize("form", ["pdf", "svg", "png"])
def test_same_report_gives_the_same_files(form: str) -> None:
    assert figure_files(small_report(), form) == figure_files(small_report(), form)


def test_charts_of_one_name_stay_apart_and_empty_ones_are_left_out() -> None:
    full = Figure("T", "line", Axis("x"), Axis("y"), "", (Series("s", (0.0, 1.0), (1.0, 2.0)),))
    blocks = (full, replace(full, series=()), full, full)
    report = small_report(sections=(Section("a", "A", blocks=blocks),))
    assert list(figure_files(report, "svg")) == ["a-t.svg", "a-t-2.svg", "a-t-3.svg"]


def test_figures_belong_to_the_report_that_wrote_them(tmp_path: Path) -> None:
    small_report().save(tmp_path, "svg")
    files = {f"figures/{name}.svg" for name in NAMES}
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("figures/*")} == files
    assert files <= set(json.loads((tmp_path / "results.json").read_text())["artifacts"])
    (tmp_path / "figures" / "mine.txt").write_text("mine")
    write_report(small_report(), tmp_path)
    assert [path.name for path in tmp_path.glob("figures/*")] == ["mine.txt"]


def test_an_unknown_form_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pdf, svg, png"):
        write_report(small_report(), tmp_path / "new", "gif")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("in the way")
    with pytest.raises(CannotRunError, match="figures"):
        write_figures(small_report(), tmp_path, "svg")


@pytest.mark.parametrize("name", ["weights", "Accuracy falls with epsilon"])
def test_a_drawing_holds_the_numbers_whatever_the_users_settings_are(name: str) -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "text.usetex": False}):
        before = dict(matplotlib.rcParams)
        drawn = small_report().figure(name, width=5.0, font=9.0)
        assert dict(matplotlib.rcParams) == before
    (axes,) = drawn.axes
    series = find_figure(small_report(), name).series
    lines = [line for line in axes.lines if line.get_label() in ("plain", "defended")]
    for line, expected in zip(lines, series, strict=True):
        assert np.array_equal(line.get_xdata(), expected.x)
        assert np.array_equal(line.get_ydata(), expected.y)
    assert drawn.get_figwidth() == 5.0
    assert axes.get_xlabel() == "Epsilon (pixel units)"
    assert axes.yaxis.label.get_fontsize() == 9.0


def test_an_unknown_chart_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match=r"'curve'.*weights; Accuracy falls with epsilon; Norms"):
        small_report().figure("curve")
    with pytest.raises(UsageError, match="no chart"):
        small_report(sections=()).figure("curve")


def test_the_core_alone_knows_no_renderer() -> None:
    script = (
        "from probe.core.rendering import RENDERERS; assert not RENDERERS\n"
        "import probe.report; assert len(RENDERERS) == 1\n"
        "import sys; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_words_are_words_also_where_they_look_like_formulas() -> None:
    figure = Figure("t", "line", Axis("cost in $ and $"), Axis("_y^{2}"), "", (Series("$a", (0.0,), (1.0,)),))
    report = small_report(sections=(Section("s", "S", blocks=(figure,)),))
    assert b">cost in $ and $<" in figure_files(report, "svg")["s-t.svg"]


def test_the_page_and_the_files_have_the_same_colours() -> None:
    css = (Path(looks.__file__).parents[1] / "templates" / "page.css").read_text(encoding="utf-8")
    first = dict(reversed(re.findall(r"--hue(\d): (#[0-9a-f]{6});", css)))  # the light theme comes first
    assert tuple(first[str(index)] for index in range(len(looks.HUES))) == looks.HUES
