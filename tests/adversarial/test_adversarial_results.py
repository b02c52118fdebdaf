"""The numbers drawn from outcomes, against counting by hand and numpy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from probe.core.document import Check
from studies.adversarial.outcome import Outcome
from studies.adversarial.results import Clean, Results, quartiles
from studies.adversarial.text import Reliability
from studies.adversarial.views.attention import _similarity_result

VALUES = st.lists(st.floats(0, 10) | st.just(math.inf), min_size=1, max_size=30)


def outcome(smallest: Sequence[float]) -> Outcome:
    blank = Outcome.blank(len(smallest))
    blank.smallest = np.array(smallest, dtype=np.float32)
    return blank


def results(**attacks: Sequence[float]) -> Results:
    outcomes = {name: outcome(smallest) for name, smallest in attacks.items()}
    worst = outcome(np.min([outcome.smallest for outcome in outcomes.values()], axis=0).tolist())
    n = len(worst.smallest)
    row = np.arange(n)
    return Results(Clean(row, row, row, np.ones(n), np.full(n, -1)), outcomes, worst, (0.0, 0.1, 0.2), 0.1)


@given(VALUES)
def test_quartiles_are_numpys_lower_ones(values: list[float]) -> None:
    expected = np.quantile(values, [0.25, 0.5, 0.75], method="lower")
    assert quartiles(values) == tuple(expected)
    assert quartiles(values[::-1]) == tuple(expected)


def test_infinite_values_do_no_harm_and_show_where_half_were_not_found() -> None:
    assert quartiles([0.1, math.inf, 0.2, math.inf, 0.3]) == (0.2, 0.3, math.inf)
    assert quartiles([math.inf, 0.5]) == (0.5, 0.5, 0.5)
    assert quartiles([math.inf] * 3) == (math.inf,) * 3
    assert quartiles([0.4]) == (0.4,) * 3


def test_quartiles_of_nothing_are_no_numbers() -> None:
    assert all(math.isnan(value) for value in quartiles([]))


@pytest.mark.parametrize("epsilon", [8 / 255, 0.1, 0.3, 3.0, 1e-3])
def test_success_at_epsilon_allows_for_rounding_and_no_more(epsilon: float) -> None:
    stored = np.float32(epsilon)
    near = [stored, np.nextafter(stored, np.float32(9)), epsilon * (1 + 5e-7)]
    beyond = [epsilon * (1 + 1e-5), epsilon + 1e-4, math.inf, math.nan]
    assert outcome([*near, 0.0, epsilon / 2]).success(epsilon).all()
    assert not outcome(beyond).success(epsilon).any()


def test_at_epsilon_zero_only_what_was_wrong_counts() -> None:
    assert outcome([0.0, 1e-6, 0.1, math.inf]).success(0.0).tolist() == [True, False, False, False]


def test_whole_pixels_are_counted_exactly() -> None:
    assert outcome([3.0, 4.0, 5.0]).success(4.0).tolist() == [True, True, False]


def test_robust_accuracy_and_success_rate_by_hand() -> None:
    run = results(
        pgd=[0.0, 0.05, 0.1, 0.15, math.inf, math.inf, 0.3, 0.02],
        fab=[0.0, 0.09, 0.2, 0.1, math.inf, 0.1, 0.4, 0.9],
    )
    assert run.n == 8
    assert run.correct.tolist() == [False] + [True] * 7
    pgd, fab = run.attacks["pgd"], run.attacks["fab"]
    accuracy = run.robust_accuracy(pgd, 0.1)
    assert (accuracy.name, accuracy.value, accuracy.n) == ("robust_accuracy", 4 / 8, 8)
    assert accuracy.higher_is_better is True
    rate = run.success_rate(fab, 0.1, "fab_rate")
    assert (rate.name, rate.value, rate.n) == ("fab_rate", 3 / 7, 7)
    assert rate.higher_is_better is False
    assert run.robust_accuracy(run.worst, 0.1).value == 2 / 8
    assert run.success_rate(run.worst, 0.1).value == 5 / 7
    assert run.robust(fab, 0.0).tolist() == run.correct.tolist()
    assert accuracy.ci is not None
    assert accuracy.ci[0] < 0.5 < accuracy.ci[1]


def test_quartiles_are_of_the_images_that_were_right() -> None:
    run = results(pgd=[0.0, 0.0, 0.3, 0.1, 0.2, math.inf, math.inf])
    assert run.quartiles(run.worst) == pytest.approx((0.2, 0.3, math.inf))


def test_nothing_right_gives_no_rate() -> None:
    run = results(pgd=[0.0, 0.0])
    rate = run.success_rate(run.worst, 0.1)
    assert (rate.value, rate.n) == (None, 0)
    assert run.robust_accuracy(run.worst, 0.1).value == 0
    assert all(math.isnan(value) for value in run.quartiles(run.worst))


@given(VALUES, st.floats(0, 10), st.floats(0, 10))
def test_robust_accuracy_falls_with_epsilon(values: list[float], first: float, second: float) -> None:
    run = results(pgd=values)
    small, large = sorted([first, second])
    low, high = (run.robust_accuracy(run.worst, e).value for e in (large, small))
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low <= high


def test_clean_correct_is_decided_by_the_label_and_not_by_the_attack() -> None:
    run = results(pgd=[0.0, 0.1, 0.2])
    answers = np.array([0, 1, 0])
    run = dataclasses.replace(run, clean=dataclasses.replace(run.clean, prediction=answers))
    assert run.clean_correct.tolist() == [True, True, False]
    assert run.correct.tolist() == [False, True, True]


@pytest.mark.parametrize("checks", [(), (Check("A", "not applicable", None, ""),) * 3])
def test_without_a_check_that_was_made_nothing_is_called_reliable(checks: tuple[Check, ...]) -> None:
    found = Reliability.of(checks, 3)
    assert (found.reliable, found.reasons) == (None, ())
    assert "not checked" in found.text


def test_all_checks_that_apply_and_a_search_without_gradients_make_an_evaluation_reliable() -> None:
    passed, absent = Check("A", "pass", 0, ""), Check("B", "not applicable", None, "")
    search = Check("Gradient free", "pass", 0, "")
    no_search = dataclasses.replace(search, status="not applicable", value=None)
    assert Reliability.of((passed, search), 2).reliable is True
    assert Reliability.of((passed, search, absent), 3).reliable is True
    assert Reliability.of((passed, search), 3).reliable is None
    assert Reliability.of((passed, no_search), 2).reliable is None
    assert "reliable" not in Reliability.of((passed, no_search), 2).text
    warned, failed = Check("C", "warn", 1, ""), Check("D", "fail", 1, "")
    assert Reliability.of((passed, warned), 2).reasons == ("C",)
    assert Reliability.of((absent, warned, failed), 3).reliable is False


def test_a_blank_outcome_has_found_nothing() -> None:
    blank = Outcome.blank(3)
    assert not blank.success(1e9).any()
    assert blank.prediction.tolist() == [-1] * 3
    assert (blank.queries, blank.gradients, blank.seconds, blank.rescued) == (0, 0, 0, 0)


def test_the_rank_correlation_of_few_maps_has_an_interval_as_wide_as_students() -> None:
    similar = 0.3 + 0.1 * norm.ppf((np.arange(8) + 0.5) / 8)
    space = SimpleNamespace(config=SimpleNamespace(seed=0), words=str, epsilon=0.1)
    result, _ = _similarity_result(space, similar.tolist(), 0, 8)  # type: ignore[arg-type]
    half = t.ppf(0.975, 7) * similar.std(ddof=1) / np.sqrt(8)
    assert (result.value, result.n) == (pytest.approx(0.3), 8)
    assert result.ci == (pytest.approx(0.3 - half, abs=0.1 * half), pytest.approx(0.3 + half, abs=0.1 * half))
