"""Samples are distinct, ordered, repeatable, and fair to every class."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from probe.data.sampling import choose

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=120)
SEEDS = st.integers(0, 2**31)


@given(LABELS, st.integers(1, 150), SEEDS)
def test_every_class_has_its_share_to_within_one(labels, n, seed):
    chosen = choose(len(labels), n, seed, labels)
    n = min(n, len(labels))
    counts, taken = Counter(labels), Counter(labels[index] for index in chosen)
    assert len(chosen) == n
    for label, count in counts.items():
        share = Fraction(n * count, len(labels))
        assert abs(taken[label] - share) < 1
        assert taken[label] <= count


@given(LABELS, st.integers(1, 150), SEEDS, st.booleans())
def test_indices_are_distinct_ascending_and_repeatable(labels, n, seed, stratified):
    strata = labels if stratified else None
    chosen = choose(len(labels), n, seed, strata).tolist()
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(len(labels)))
    assert chosen == choose(len(labels), n, seed, strata).tolist()
    assert len(chosen) == min(n, len(labels))


@given(st.integers(1, 60), SEEDS)
def test_shares_that_divide_evenly_are_exact(per_class, seed):
    labels = [label for label in range(5) for _ in range(60)]
    taken = Counter(labels[index] for index in choose(len(labels), 5 * per_class, seed, labels))
    assert set(taken.values()) == {per_class}


def test_every_image_is_drawn_equally_often():
    draws, n, total = 3000, 5, 20
    for labels in (None, [0] * 8 + [1] * 12, list(range(20))):
        hits = np.bincount(
            np.concatenate([choose(total, n, s, labels) for s in range(draws)]), minlength=total
        )
        expected = draws * n / total
        # Five standard deviations of a binomial count.
        assert np.abs(hits - expected).max() < 5 * np.sqrt(expected * (1 - n / total))


def test_the_global_generators_are_left_alone():
    before = np.random.get_state()[1].copy()
    choose(100, 10, 0, [0, 1] * 50)
    assert np.array_equal(before, np.random.get_state()[1])
