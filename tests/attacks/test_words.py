"""Epsilons, attacks and their options, from the words that people type."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.attacks.base import ATTACKS, summary
from probe.attacks.families.apgd import ApgdT
from probe.attacks.families.fab import Fab
from probe.attacks.families.gradient import PGD
from probe.attacks.norms import L0, L1, L2, MOST, Linf, Norm, parse_epsilons, shown
from probe.attacks.select import attack_rows, choose_attacks, get_attack
from probe.core.errors import UsageError

LINF, TWO, ZERO = Linf(), L2(), L0()

# Epsilons


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_numbers_come_back_ascending_and_once(values: list[float]) -> None:
    text = ",".join(repr(value) for value in values)
    assert parse_epsilons(text, LINF) == tuple(sorted(set(values)))
    assert parse_epsilons(text.replace(",", " , "), LINF) == tuple(sorted(set(values)))


@given(st.integers(0, 255), st.integers(1, 400))
def test_fractions_are_exact(above: int, below: int) -> None:
    assert parse_epsilons(f"{above}/{below}", TWO) == (float(Fraction(above, below)),)


@given(st.integers(0, 100), st.integers(1, 100), st.integers(2, MOST))
def test_ranges_are_even_and_have_both_ends(first: int, step: int, count: int) -> None:
    last = first + step
    found = parse_epsilons(f"{first}/255:{last}/255:{count}", LINF)
    expected = [float(Fraction(first, 255) + Fraction(step * i, 255 * (count - 1))) for i in range(count)]
    assert list(found) == pytest.approx(expected, abs=1e-12)
    assert found[0] == first / 255
    assert found[-1] == pytest.approx(last / 255, abs=1e-15)


def test_the_forms_of_the_manual() -> None:
    assert parse_epsilons("0.03", LINF) == (0.03,)
    assert parse_epsilons("8/255", LINF) == (8 / 255,)
    assert parse_epsilons("4/255,1/255", LINF) == (1 / 255, 4 / 255)
    nine = parse_epsilons("0:8/255:9", LINF)
    assert nine == pytest.approx([i / 255 for i in range(9)])
    assert parse_epsilons("1e-2", TWO) == (0.01,)
    assert parse_epsilons("0:1:3,0.5,2", TWO) == (0.0, 0.5, 1.0, 2.0)
    assert parse_epsilons("4,16", ZERO) == (4.0, 16.0)
    assert parse_epsilons("12", L1()) == (12.0,)


@pytest.mark.parametrize(
    ("text", "norm", "message"),
    [
        ("8", LINF, "Did you mean 8/255"),
        ("1.5", LINF, "Did you mean 1.5/255"),
        ("0.1,4", LINF, "Did you mean 4/255"),
        ("-0.1", LINF, "at least 0; got -0.1"),
        ("-1/255", TWO, "at least 0"),
        ("nan", LINF, "finite"),
        ("inf", TWO, "finite"),
        ("1e999", TWO, "finite"),
        ("a", LINF, "'a' is not an epsilon"),
        ("", LINF, "is not an epsilon"),
        ("0.1,", LINF, "is not an epsilon"),
        ("1/0", LINF, "'1/0' is not an epsilon"),
        ("1/2/3", LINF, "is not an epsilon"),
        ("0:1:1", LINF, "count from 2 to"),
        (f"0:1:{MOST + 1}", LINF, "count from 2 to"),
        ("0:1:x", LINF, "FROM:TO:COUNT"),
        ("0:1", LINF, "FROM:TO:COUNT"),
        ("0:1:2:3", LINF, "FROM:TO:COUNT"),
        ("0:1:-3", LINF, "FROM:TO:COUNT"),
        (":1:3", LINF, "is not an epsilon"),
        ("0:b:3", LINF, "'b' is not an epsilon"),
        ("0.5:0.1:3", LINF, "larger than the first"),
        ("0.5:0.5:3", LINF, "larger than the first"),
        ("0:8:9", LINF, "Did you mean"),
        ("2.5", ZERO, "integer; got 2.5"),
        ("0:5:3", ZERO, "integer; got 2.5"),
    ],
)
def test_other_words_are_refused_with_a_hint(text: str, norm: Norm, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_epsilons(text, norm)


@given(st.text(max_size=12))
def test_any_text_gives_numbers_or_a_usage_error(text: str) -> None:
    try:
        found = parse_epsilons(text, TWO)
    except UsageError:
        return
    assert found
    assert all(0 <= value < float("inf") for value in found)


@pytest.mark.parametrize(
    ("value", "norm", "text"),
    [
        (8 / 255, LINF, "8/255"),
        (1.0, LINF, "1"),
        (0.2, LINF, "0.2"),  # 51/255, which nobody writes
        (102 / 255, LINF, "0.4"),
        (16 / 255, LINF, "16/255"),
        (0.0, LINF, "0"),
        (0.03, LINF, "0.03"),
        (0.0123456, LINF, "0.0123"),
        (8 / 255, TWO, "0.0314"),
        (0.5, TWO, "0.5"),
        (12.0, ZERO, "12 pixels"),
    ],
)
def test_epsilons_are_shown_as_people_write_them(value: float, norm: Norm, text: str) -> None:
    assert shown(value, norm) == text


@given(st.integers(1, 255))
def test_what_is_shown_can_be_typed(eighth_bits: int) -> None:
    assert parse_epsilons(shown(eighth_bits / 255, LINF), LINF) == (eighth_bits / 255,)


# Attacks


def test_name_and_options() -> None:
    chosen = get_attack(" pgd?steps=100&loss=dlr&random_start=False&step=1 ")
    assert chosen.attack == PGD(steps=100, loss="dlr", random_start=False, step=1)
    assert chosen.name == "pgd"
    assert chosen.text == "pgd?steps=100&loss=dlr&random_start=False&step=1"
    assert chosen.fixed
    assert not get_attack("fab").fixed
    assert get_attack("fab?alpha=1").attack == Fab(alpha=1)  # a whole number for another


def test_defaults_are_used_where_they_fit_and_are_not_typed() -> None:
    assert get_attack("pgd", steps=7, queries=9).attack == PGD(steps=7)
    assert get_attack("pgd?steps=3", steps=7).attack == PGD(steps=3)
    assert get_attack("pgd", steps=None).attack == PGD()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pdg", "pgd"),
        ("", "attack"),
        ("pgd?", "not of the form key=value"),
        ("pgd?steps", "not of the form key=value"),
        ("pgd?stepz=3", "no option 'stepz'.*steps"),
        ("pgd?steps=3&steps=4", "given twice"),
        ("pgd?steps=many", "steps of the attack pgd must be an int such as 40, not 'many'"),
        ("pgd?steps=2.5", "must be an int"),
        ("pgd?steps=True", "must be an int"),
        ("pgd?steps=-1", "cannot be negative"),
        ("pgd?random_start=1", "must be a bool"),
        ("pgd?random_start=no", "must be a bool"),
        ("fab?alpha=True", "must be a float"),
        ("fab?alpha=wide", "must be a float"),
        ("pgd?loss=3", "must be a str"),
        ("pgd?traits=3", "no option 'traits'"),
        ("pgd?loss=hinge", "loss of the attack pgd must be a str, one of ce, dlr, margin; got 'hinge'"),
        ("pgd?loss=3", "one of ce, dlr, margin; got 3"),
        ("pgd?steps=0", "steps of the attack pgd must be an integer of at least 1; got 0"),
        ("pgd?restarts=0", "at least 1; got 0"),
        ("pgd?eot=0", "at least 1; got 0"),
        ("square?queries=0", "at least 1; got 0"),
        ("apgd-t?classes=0", "at least 1; got 0"),
        ("noise?draws=0", "at least 1; got 0"),
        ("fab?candidates=0", "at least 1; got 0"),
        ("fab?candidates=few", "candidates of the attack fab must be an int such as 30, not 'few'"),
        ("pgd?step=wide", "step of the attack pgd must be a float, not 'wide'"),
        ("pgd?steps=None", "must be an int such as 40, not None"),
    ],
)
def test_unknown_names_options_and_kinds_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_attack(text)


def test_defaults_that_an_option_cannot_have_are_refused() -> None:
    with pytest.raises(UsageError, match="steps of the attack pgd must be an integer of at least 1"):
        get_attack("pgd", steps=0)


def test_none_and_zero_are_typed_where_they_mean_something() -> None:
    assert get_attack("pgd?step=None").attack == PGD()
    assert get_attack("fab?candidates=None").attack == Fab(candidates=None)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_default_can_be_typed(name: str) -> None:
    attack = get_attack(name).attack
    options = vars(attack)
    if options:
        text = "&".join(f"{key}={value}" for key, value in options.items())
        assert get_attack(f"{name}?{text}").attack == attack


def test_attacks_are_chosen_once_each_in_order() -> None:
    names = ("apgd-t", "pgd", "apgd-t", "pgd?steps=3")
    chosen = choose_attacks(names, LINF, targeted=False, steps=9)
    assert [one.text for one in chosen] == ["apgd-t", "pgd", "pgd?steps=3"]
    assert [one.attack for one in chosen] == [ApgdT(steps=9), PGD(steps=9), PGD(steps=3)]


def test_attack_that_does_not_know_the_norm_is_refused_with_others_that_do() -> None:
    with pytest.raises(UsageError) as caught:
        choose_attacks(("cw",), LINF, targeted=False)
    message = str(caught.value)
    assert "The attack cw supports L2, not Linf." in message
    for other in message.partition("use ")[2].rstrip(" ….").split(", "):
        assert "Linf" in ATTACKS.get(other).traits.norms


def test_attack_that_cannot_aim_is_refused() -> None:
    with pytest.raises(UsageError, match="deepfool does not support targeted"):
        choose_attacks(("pgd", "deepfool"), TWO, targeted=True)
    assert choose_attacks(("pgd",), TWO, targeted=True)


# The list


def test_rows_tell_of_every_attack() -> None:
    rows = attack_rows()
    assert [row[0] for row in rows] == list(ATTACKS)
    assert {len(row) for row in rows} == {9}
    assert all(isinstance(cell, str) and cell for row in rows for cell in row)
    by_name = {row[0]: row for row in rows}
    assert by_name["cw"][1:6] == ("L2", "white-box", "minimum-norm", "yes", "probe")
    assert by_name["square"][1:6] == ("Linf L2", "score-based", "within epsilon", "yes", "probe")
    assert "steps=40" in by_name["pgd"][6].split()
    for name in ATTACKS:
        traits = ATTACKS.get(name).traits
        assert by_name[name][4] == ("yes" if traits.targeted else "no")
        assert by_name[name][3].endswith(", transfer") == traits.transfer
        assert by_name[name][7:] == (summary(ATTACKS.get(name)), traits.paper)


def test_rows_are_found_by_name_norm_access_kind_and_origin() -> None:
    def found(query: str) -> set[str]:
        return {row[0] for row in attack_rows(query)}

    assert {"apgd-ce", "apgd-dlr", "apgd-t"} <= found("apgd")
    assert found("l0") >= {"pgd"}
    assert found("L0") == {name for name in ATTACKS if "L0" in ATTACKS.get(name).traits.norms}
    assert found("minimum") == {name for name in ATTACKS if ATTACKS.get(name).traits.minimum_norm}
    assert {name for name in ATTACKS if ATTACKS.get(name).traits.origin == "foolbox"} <= found(" foolbox ")
    assert found("score-based") == {n for n in ATTACKS if ATTACKS.get(n).traits.access == "score-based"}
    assert found("nothing of the kind") == set()
    assert found("") == set(ATTACKS)


def test_an_attack_that_is_not_written_for_the_images_is_refused_with_another() -> None:
    with pytest.raises(
        UsageError, match=r"difgsm cannot be used here, because .* 12 by 20: use mifgsm or nifgsm"
    ):
        choose_attacks(("pgd", "difgsm"), LINF, targeted=False, size=(3, 12, 20))
    assert len(choose_attacks(("pgd", "difgsm"), LINF, targeted=False, size=(3, 12, 12))) == 2
