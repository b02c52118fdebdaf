"""Text that can be seen, numbers that can be read."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.blocks import Column
from probe.core.document import Result
from probe.report import text
from probe.report.templating import Anchors, fragment, interval_bar

anything = st.text(st.characters(codec=None, exclude_categories=()))


@given(anything)
def test_visible_text_has_no_control_or_direction_characters(raw: str) -> None:
    shown = text.visible(raw)
    shown.encode("utf-8")
    for sign in shown:
        assert sign in "\n\t" or unicodedata.category(sign) not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(sign) not in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }


@given(anything)
def test_visible_text_is_stable(raw: str) -> None:
    assert text.visible(text.visible(raw)) == text.visible(raw)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_ordinary_text_is_untouched(raw: str) -> None:
    if not any(sign in raw for sign in "\u115f\u1160\u3164\uffa0"):
        assert text.visible(raw) == raw


def test_signs_tell_which_character_it_was() -> None:
    assert text.visible("a\x00b\x1b\x7f\u202egnp\ud83d") == "a␀b␛␡⟨U+202E⟩gnp⟨U+D83D⟩"


def test_emoji_and_joined_scripts_stay_whole() -> None:
    whole = "🧑‍🔬 می‌خواهم हिन्दी e\u0301"
    assert text.visible(whole) == whole


def test_towers_of_accents_are_cut() -> None:
    assert text.visible("e" + "\u0301" * 500) == "e" + "\u0301" * 4 + "…"


def read_back(shown: str) -> float:
    plain = shown.replace(",", "").replace("−", "-").replace(" ", "")
    mantissa, _, power = plain.partition("×10")
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    return float(mantissa) * 10.0 ** int(power.translate(digits) or 0)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e250, max_value=1e250), st.integers(2, 6))
def test_numbers_keep_their_significant_digits(value: float, digits: int) -> None:
    if value and abs(value) < 1e-250:
        return
    for trim in (False, True):
        assert read_back(text.number(value, digits, trim=trim)) == pytest.approx(
            value, rel=0.5001 * 10 ** (1 - digits)
        )


@given(st.integers())
def test_integers_are_written_in_full(value: int) -> None:
    assert int(text.number(value).replace(",", "").replace("−", "-")) == value


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.0, 3, "0"),
        (1.0, 3, "1.00"),
        (0.000123456, 3, "0.000123"),
        (0.0000123, 3, "1.23 × 10⁻⁵"),
        (-1234.5, 3, "−1,234"),
        (9.999, 3, "10.0"),
        (math.nan, 3, "–"),
        (-math.inf, 3, "−∞"),
        (2.5e9, 3, "2.50 × 10⁹"),
    ],
)
def test_written_numbers(value: float, digits: int, shown: str) -> None:
    assert text.number(value, digits) == shown


def test_cells() -> None:
    plain, share = Column("x"), Column("x", proportion=True)
    assert [text.cell(value, plain) for value in (None, True, False, 3, 0.5, "a")] == [
        "–",
        "yes",
        "no",
        "3",
        "0.500",
        "a",
    ]
    assert [text.cell(value, share) for value in (0.5, 1.0, None, math.nan)] == ["50%", "100%", "–", "–"]


def test_results() -> None:
    accuracy = Result.proportion("accuracy", 17, 20)
    assert text.result_value(accuracy) == "85%"
    assert text.result_interval(accuracy) == "64.0 to 94.8%"  # Wilson 1927, z = 1.96: 0.6396 to 0.9476
    assert text.result_interval(Result("x", 1.0, ci=(math.nan, 2.0))) == ""
    assert text.result_value(Result("time", 1.50, unit="s")) == "1.5 s"
    assert text.result_value(Result("none", None)) == "–"


def test_negative_numbers_of_a_sentence_have_a_minus_sign() -> None:
    said = "-1 of ρ = -0.03 [-0.19, 0.16] (-.5), x=-2; 2026-11-28, layer-2, 1e-05, 3-4, --seed, a - 1"
    shown = "−1 of ρ = −0.03 [−0.19, 0.16] (−.5), x=−2; 2026-11-28, layer-2, 1e-05, 3-4, --seed, a - 1"
    assert text.prose(said) == shown


def test_differences_of_proportions_are_points() -> None:
    worth = Result.points("worth", 0.9 - 0.49, 5, (-0.05, 0.87))
    assert (worth.value, worth.unit) == (41.0, "points")
    assert text.result_value(worth) == "41 points"
    assert text.result_interval(worth) == "−5 to 87"
    assert interval_bar(worth) == ""  # a line from 0 to 1 has no place for it
    assert Result.points("worth", None, 1).value is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.7, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3725, "1 h 2 min"),
        (math.nan, "–"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert text.duration(seconds) == said


def test_moments() -> None:
    assert text.moment("2026-11-23T21:42:24+00:00") == "23 November 2026, 21:42 UTC"
    assert text.moment("2026-01-02T03:04:05") == "2 January 2026, 03:04"
    assert text.moment("yesterday") == "yesterday"


@given(st.lists(anything))
def test_anchors_are_unique_and_plain(names: list[str]) -> None:
    anchors = Anchors()
    ids = [anchors.take(name) for name in names]
    assert len(set(ids)) == len(ids)
    assert all(
        identifier and identifier.isascii() and not set(identifier) & set(" \"'<>#%&?") for identifier in ids
    )


def test_fragment_keeps_what_authors_write() -> None:
    assert fragment("layer2/ch17") == "layer2/ch17"
    assert fragment("blocks.3.2.conv_pwl") == "blocks.3.2.conv_pwl"
