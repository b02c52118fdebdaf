"""Lesions: shared passes against plain ones, plans, comparisons against scipy and closed forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import ablation_networks as nets
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference
from torch import nn

from probe.core import stats
from probe.core.state import fingerprint
from probe.graph.cost.summary import anatomy, path_lengths
from probe.graph.edit.cut import cut, find_sites, prepare
from probe.graph.edit.fold import folded
from probe.graph.edit.prefix import SharedPass, variant
from probe.graph.edit.structure import get_structure
from probe.models.zoo.resnet import resnet
from studies.ablation.evaluate import Answers, compare
from studies.ablation.plan import evenly_spaced, make_plan

NETWORKS = [nets.Residual, nets.Gated, nets.Dense, nets.Inception, nets.Plain]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("fold", [False, True])
def test_a_shared_pass_gives_what_every_cut_network_gives_alone(network: type[nn.Module], fold: bool) -> None:
    module = nets.random_statistics(network())
    subject = prepare(module, nets.image())
    words = ["shortcut", "block", "dense", "branch", "norm", "relu", "pool", "se", "bias", "layer", "lrn"]
    sites = [site for word in words for site in find_sites(subject, get_structure(word))]
    cuts = [cut(subject, [site]) for site in sites] + [cut(subject, sites), cut(subject, [])]
    known: dict[str, nn.Module] = {}
    change = (lambda graph: folded(graph, known)) if fold else (lambda graph: graph)
    intact = change(subject.graph)
    shared = SharedPass(intact, [variant(intact, change(copy)) for copy in cuts])
    images = nets.image(4, seed=9)
    with torch.inference_mode():
        found = dict(shared.run(images))
        assert sorted(found) == list(range(-1, len(cuts)))
        for number, copy in enumerate([*cuts, subject.network]):
            logits = found[number if number < len(cuts) else -1]
            torch.testing.assert_close(logits, copy(images), rtol=0, atol=1e-4 if fold else 1e-6)


def test_a_shared_pass_computes_the_prefix_once() -> None:
    network = nets.random_statistics(nets.Residual())
    subject = prepare(network, nets.image())
    cuts = [cut(subject, [site]) for site in find_sites(subject, get_structure("block"))]
    calls: list[int] = []
    graph = subject.graph
    handle = graph.get_submodule("stem").register_forward_hook(lambda *_: calls.append(1))
    list(SharedPass(graph, [variant(graph, copy) for copy in cuts]).run(nets.image()))
    handle.remove()
    assert len(calls) == 1
    own = [len(variant(graph, copy).own) for copy in cuts]
    assert own == sorted(own, reverse=True), "later cuts depart later"


def test_the_bound_on_kept_values_is_that_of_the_largest_moment() -> None:
    subject = prepare(
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 2)), nets.image(size=4)
    )
    shared = SharedPass(subject.graph, [])
    maps = 4 * 4 * 4
    assert shared.kept_bytes == maps * (5 + 5)


def test_paths_of_a_residual_chain_are_binomial() -> None:
    subject = prepare(resnet(20).eval(), nets.image(size=32))
    found = path_lengths(subject.graph)
    expected = {2 + 2 * k: round(512 * float(reference.binom.pmf(k, 9, 0.5))) for k in range(10)}
    assert found == expected
    without = cut(subject, find_sites(subject, get_structure("shortcut")))
    assert path_lengths(without) == {20: 1}


def test_paths_equal_those_counted_one_by_one() -> None:
    subject = prepare(nets.random_statistics(nets.Dense()), nets.image())

    def count(node: object) -> int:
        return 1 if node.op == "placeholder" else sum(count(source) for source in node.all_input_nodes)

    output = next(node for node in subject.graph.graph.nodes if node.op == "output")
    assert sum(path_lengths(subject.graph).values()) == count(output)


def test_the_anatomy_of_a_cut_is_that_of_the_smaller_network() -> None:
    subject = prepare(resnet(8).eval(), nets.image(size=32))
    whole = anatomy(subject.network, subject.example)
    assert whole.parameters == sum(p.numel() for p in resnet(8).parameters())
    block = next(site for site in find_sites(subject, get_structure("block")) if site.name == "layer1.0")
    less = anatomy(cut(subject, [block]), subject.example)
    assert whole.macs - less.macs == 2 * 9 * 16 * 16 * 32 * 32
    assert whole.parameters - less.parameters == 2 * (9 * 16 * 16 + 2 * 16)
    assert (whole.depth, less.depth) == (8, 6)


@given(count=st.integers(1, 40), most=st.integers(1, 50), draws=st.integers(1, 6), seed=st.integers(0, 5))
def test_plans(count: int, most: int, draws: int, seed: int) -> None:
    plan = make_plan(count, most, draws, seed)
    assert plan == make_plan(count, most, draws, seed)
    assert len(plan.single) == min(count, most)
    assert all(a < b for a, b in pairwise(plan.single))
    assert set(plan.single) <= set(range(count))
    for k, chosen in plan.random.items():
        assert {len(network) for network in chosen} == {k}
        assert 1 <= len(chosen) <= draws
        assert len(plan.forward[k]) == len(plan.backward[k]) == k
    assert count in plan.random
    assert plan.everything in plan.sets()
    assert len(set(plan.sets())) == len(plan.sets())


@given(count=st.integers(2, 200), most=st.integers(2, 60))
def test_spread_has_both_ends(count: int, most: int) -> None:
    found = evenly_spaced(count, most)
    assert found[0] == 0
    assert found[-1] == count - 1


def test_a_comparison_against_counts_by_hand_and_scipy() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    intact = Answers(np.array([0, 1, 2, 0, 1, 0, 1, 1]), np.arange(8.0))
    after = Answers(
        np.array([0, 2, 2, 1, 0, 2, 1, -1]), np.arange(8.0) + np.array([0, 1, 0, 1, 1, -1, 0, np.inf])
    )
    found = compare(intact, after, labels)
    assert (found.n, found.n_correct, found.lost, found.won, found.changed) == (8, 3, 4, 1, 5)
    assert found.p == pytest.approx(reference.binomtest(4, 5, 0.5).pvalue)
    changes = [0, 1, 0, 1, 1, -1, 0]
    assert found.loss_change == pytest.approx(np.mean(changes))
    expected = reference.t.interval(0.95, 6, np.mean(changes), reference.sem(changes))
    assert found.loss_ci == pytest.approx(expected)
    assert found.difference == pytest.approx(-3 / 8)


def test_answers_that_are_not_finite_are_wrong() -> None:
    logits = torch.tensor([[1.0, 2.0], [float("nan"), 1.0], [float("inf"), 0.0]])
    found = Answers.of(logits, torch.tensor([1, 1, 0]))
    assert found.predictions.tolist() == [1, -1, -1]
    assert found.broken == 2


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8))
def test_the_paired_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)
    differences = np.subtract(first, second)
    if differences.std() < 1e-9:
        return
    assert stats.paired_t(first, second) == pytest.approx(reference.ttest_rel(first, second).pvalue, rel=1e-6)


def test_the_paired_test_without_spread() -> None:
    assert stats.paired_t([1.0, 2.0], [1.0, 2.0]) == 1.0
    assert stats.paired_t([1.5, 2.5], [1.0, 2.0]) == 0.0
    with pytest.raises(ValueError, match="two pairs"):
        stats.paired_t([1.0], [2.0])


def test_calibration_error_by_hand() -> None:
    error, rows = stats.expected_calibration_error(
        [0.95, 0.85, 0.55, 0.52], [True, False, True, False], bins=2
    )
    assert rows == [(pytest.approx(0.7175), 0.5, 4)]
    assert error == pytest.approx(0.2175)
    error, rows = stats.expected_calibration_error([0.5, 0.75, 1.0], [False, True, True], bins=2)
    assert [row[2] for row in rows] == [1, 2]
    assert error == pytest.approx((0.5 + 2 * 0.125) / 3)


def test_a_cut_that_fails_leaves_everything_alone() -> None:
    network = nets.random_statistics(nets.Residual())
    before, subject = fingerprint(network), prepare(network, nets.image())
    site = find_sites(subject, get_structure("shortcut"))[0]
    stranger = type(site)(**{**vars(site), "node": "nowhere"})
    with pytest.raises(ValueError, match="nowhere"):
        cut(subject, [stranger])
    assert fingerprint(network) == before
