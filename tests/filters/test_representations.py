"""Debiased CKA against its definition over quadruples, its invariances, and its jackknife."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from studies.filters.representations import Similarities, cka, hsic, without_each

Array = NDArray[np.float64]


def features(seed: int, n: int, d: int) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d))


def by_quadruples(first: Array, second: Array) -> float:
    """The U-statistic of HSIC: the mean of its kernel over all ordered quadruples (Song et al. 2012, equation 4 and A.1)."""
    k, m = first @ first.T, second @ second.T
    values = [
        k[i, j] * (m[i, j] + m[q, r] - m[i, q] - m[j, r])
        for i, j, q, r in itertools.permutations(range(len(k)), 4)
    ]
    return float(np.mean(values))


@given(st.integers(0, 10_000), st.integers(5, 7), st.integers(1, 4), st.integers(1, 4))
def test_hsic_is_the_mean_over_quadruples(seed: int, n: int, d: int, e: int) -> None:
    first, second = features(seed, n, d), features(seed + 1, n, e)
    found = hsic(Similarities.of(first), Similarities.of(second))
    assert found == pytest.approx(by_quadruples(first, second), rel=1e-9, abs=1e-9)


@given(st.integers(0, 10_000), st.integers(5, 9))
def test_leaving_one_out_is_leaving_it_out(seed: int, n: int) -> None:
    first, second = features(seed, n, 3), features(seed + 1, n, 2)
    found = without_each(Similarities.of(first), Similarities.of(second))
    for place in range(n):
        rest = [np.delete(part, place, 0) for part in (first, second)]
        assert found[place] == pytest.approx(hsic(*map(Similarities.of, rest)), rel=1e-8, abs=1e-10)


def test_a_rotation_a_scale_and_a_shift_change_nothing() -> None:
    plain, other = features(0, 40, 6), features(1, 40, 5)
    rotation, _ = np.linalg.qr(features(2, 6, 6))
    moved = Similarities.of(3.5 * plain @ rotation + 100)
    assert cka(Similarities.of(plain), moved).value == pytest.approx(1)
    assert cka(moved, Similarities.of(other)).value == pytest.approx(
        cka(Similarities.of(plain), Similarities.of(other)).value
    )


def test_unrelated_features_are_at_0_however_many_there_are() -> None:
    """Where the biased estimate would tend to 1: with far more features than images."""
    values, biased = [], []
    for seed in range(60):
        first, second = features(2 * seed, 20, 200), features(2 * seed + 1, 20, 200)
        values.append(cka(Similarities.of(first), Similarities.of(second)).value)
        centred = [part - part.mean(0) for part in (first, second)]
        k, m = (part @ part.T for part in centred)
        biased.append((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))
    found = np.array(values, dtype=float)
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
    assert np.mean(biased) > 0.8


def test_the_interval_covers_what_many_images_give() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))

    def pair(n: int) -> tuple[Similarities, Similarities]:
        common = rng.normal(size=(n, 5))
        return Similarities.of(common + rng.normal(size=(n, 5))), Similarities.of(common @ mixing)

    truth = cka(*pair(3000)).value
    assert truth is not None
    covered = 0
    for _ in range(100):
        interval = cka(*pair(60)).ci
        assert interval is not None
        covered += interval[0] <= truth <= interval[1]
    assert 85 <= covered <= 100


def test_a_layer_that_says_the_same_about_all_images_has_none() -> None:
    constant = Similarities.of(np.ones((8, 3)))
    assert cka(constant, Similarities.of(features(0, 8, 3))).value is None
