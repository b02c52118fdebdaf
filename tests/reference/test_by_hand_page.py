"""The page on the mathematics: its figures are what the script draws, and it leaves no function out."""

from __future__ import annotations

import inspect
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import by_hand_convolution
import by_hand_layers
import by_hand_pooling
import draw_figures
import matplotlib
import numpy as np
import pytest

HERE = Path(__file__).parent
PAGE = (HERE / "README.md").read_text(encoding="utf-8")
MODULES = (by_hand_convolution, by_hand_pooling, by_hand_layers)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return draw_figures.draw()


def texts(svg: str) -> list[str]:
    """All words and numbers that a reader sees, in the order they were drawn."""
    return ["".join(element.itertext()).strip() for element in ET.fromstring(svg).iter(f"{SVG}text")]


def shape(svg: str) -> tuple[str, list[float]]:
    """The drawing without its numbers, and these; ids are hashes of paths and left out."""
    bare = re.sub(r'(\bid="|url\(#|href="#)\w+', r"\1", svg)
    return NUMBER.sub("0", bare), [float(number) for number in NUMBER.findall(bare)]


def version(svg: str) -> str:
    found = re.search(r"Matplotlib v([\w.+]+)", svg)
    assert found is not None
    return found[1]


def test_no_figure_is_left_over(drawn: dict[str, str]) -> None:
    assert {path.name for path in (HERE / "figures").iterdir()} == set(drawn)


def test_the_figures_say_what_the_reference_computes(drawn: dict[str, str]) -> None:
    for name, svg in drawn.items():
        assert texts((HERE / "figures" / name).read_text(encoding="utf-8")) == texts(svg), name


def test_the_figures_are_drawn_as_the_script_draws_them(drawn: dict[str, str]) -> None:
    """Another version of matplotlib may draw the same numbers in another way."""
    for name, svg in drawn.items():
        stored = (HERE / "figures" / name).read_text(encoding="utf-8")
        if version(stored) != matplotlib.__version__:
            continue
        (skeleton, numbers), (expected, theirs) = shape(stored), shape(svg)
        assert skeleton == expected, name
        np.testing.assert_allclose(numbers, theirs, rtol=0, atol=0.01, err_msg=name)


def test_a_changed_figure_would_be_seen(drawn: dict[str, str]) -> None:
    svg = drawn["max_pooling.svg"]
    assert texts(svg.replace(">9<", ">8<")) != texts(svg)
    moved = svg.replace('d="M 11', 'd="M 12', 1)
    assert moved != svg
    assert np.abs(np.subtract(shape(moved)[1], shape(svg)[1])).max() > 0.01
    painted = svg.replace(draw_figures.STRONG, "#ccffcc")
    assert shape(painted)[0] != shape(svg)[0]


def test_figures_are_small_dateless_and_wide_enough_for_a_page(drawn: dict[str, str]) -> None:
    for name, svg in drawn.items():
        assert len(svg.encode()) < 40_000, name
        assert "dc:date" not in svg
        assert float(re.search(r'width="([\d.]+)pt"', svg)[1]) <= 525  # type: ignore[index]  # 700 pixels


def test_drawing_is_repeatable_and_leaves_settings_alone(drawn: dict[str, str]) -> None:
    with matplotlib.rc_context({"font.size": 23, "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        assert draw_figures.draw() == drawn
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_page_names_every_public_function(module: object) -> None:
    own = [
        name
        for name, thing in vars(module).items()
        if (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__  # type: ignore[attr-defined]
        and not name.startswith("_")
    ]
    assert len(own) >= 5
    assert [name for name in own if f"`{name}`" not in PAGE] == []


def test_every_test_that_the_page_names_exists() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_by_hand_*.py"))
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) >= 20
    assert [name for name in named if f"def {name}(" not in source] == []


def test_every_section_shows_a_figure_and_every_link_leads_somewhere() -> None:
    for section in PAGE.split("\n## ")[1:]:
        assert re.search(r"!\[[^]]{30,}\]\(figures/\w+\.svg\)", section), section.splitlines()[0]
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert [link for link in links if not (HERE / link).is_file()] == []
    shown = [Path(link).name for link in links if link.endswith(".svg")]
    assert sorted(shown) == sorted(f"{figure.__name__}.svg" for figure in draw_figures.FIGURES)
