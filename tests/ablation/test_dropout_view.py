"""Dropout as voting and against co-adaptation: closed forms, plain re-runs, and nothing changed in the network."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from helpers import ablation_networks as nets
from scipy.stats import binom, norm, pearsonr, t
from test_evaluate import bench_of, model_of
from test_retrain import same, setting
from torch import Tensor, fx, nn
from torch.nn import functional as F

from probe.core.state import fingerprint
from probe.graph.edit.cut import cut, find_sites, prepare
from probe.graph.edit.structure import get_structure
from studies.ablation.arms import Arm, from_arrays, to_arrays, train_arm
from studies.ablation.dropout import mc_dropout as voting
from studies.ablation.dropout.arm import units_of, votes_of
from studies.ablation.dropout.coadaptation import (
    BINS,
    Removal,
    activity,
    correlations,
    dropout_inputs,
    measure_units,
    observe,
)
from studies.ablation.dropout.coadaptation_report import _MEASURES, _verdict
from studies.ablation.dropout.mc_dropout import Sampler, Tally, ensemble, mc_dropout, thin_out
from studies.ablation.dropout.mc_dropout_report import _mean
from studies.ablation.dropout.report import dropout_sections, loaded_dropout_sections
from studies.ablation.dropout.tail import Tail
from studies.ablation.retrain import RetrainResult

LABELS = torch.arange(20) % 5


class Linear(nn.Module):
    """Features of 6 pixels, dropout, and one linear layer."""

    def __init__(self, features: int = 6, p: float = 0.5) -> None:
        super().__init__()
        self.drop = nn.Dropout(p)
        self.fc = nn.Linear(features, 5)
        nn.init.normal_(self.fc.weight, std=2.0, generator=torch.Generator().manual_seed(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(x.flatten(1)[:, : self.fc.in_features]))


class Early(nn.Module):
    """Dropout in place, on a map that is read again behind it, then normalisation and dropout of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.norm = nn.BatchNorm2d(6)
        self.drop2 = nn.Dropout2d(0.3)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.fc(self.drop2(self.norm(self.drop(x.clone()) + x)).mean((2, 3)))


class Beside(nn.Module):
    """A branch with dropout, and after it in the code a shortcut that reads the same value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.drop = nn.Dropout(0.5)
        self.down = nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        y = self.drop(x)
        return self.fc((y * self.down(x)).mean((2, 3)))


class Mutating(nn.Module):
    """Works in place on a value that the tail reads."""

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        z = y.sin()
        return z + y.mul_(2.0)


def graph_of(network: nn.Module) -> fx.GraphModule:
    return prepare(nets.random_statistics(network), nets.image(2)).graph


def batches(n: int = 20, size: int = 12) -> list[tuple[Tensor, Tensor]]:
    images = nets.image(n, seed=5)
    return list(zip(images.split(size), LABELS[:n].split(size), strict=True))


def every_mask(network: Linear, images: Tensor) -> Tensor:
    """Logits (2^d, N, classes) of all masks, computed by hand; with p = 0.5 all are equally likely."""
    features = images.flatten(1)[:, :6].double()
    masks = torch.tensor(list(itertools.product((0.0, 2.0), repeat=6)), dtype=torch.float64)
    weight, bias = network.fc.weight.double(), network.fc.bias.double()
    return torch.stack([(features * mask) @ weight.T + bias for mask in masks])


@torch.no_grad()
def test_votes_of_a_linear_network_converge_to_all_masks() -> None:
    network = Linear()
    images = nets.image(8, seed=2)
    exact = every_mask(network, images)
    scaled = network.eval()(images).double()
    assert torch.allclose(exact.mean(0), scaled, atol=1e-5)
    assert not torch.allclose(exact.softmax(-1).mean(0), scaled.softmax(-1), atol=0.01)
    sampled = Sampler(graph_of(network)).passes(images, 4000, 0, "test").double()
    for values, drawn in ((exact, sampled), (exact.softmax(-1), sampled.softmax(-1))):
        error = values.std(0, correction=0) / 4000**0.5
        assert ((drawn.mean(0) - values.mean(0)).abs() <= 4.5 * error + 1e-9).all()


@torch.no_grad()
@pytest.mark.parametrize("make", [Linear, Early, Beside, nets.Plain])
def test_shared_passes_are_those_of_whole_networks_in_train_mode(make: type[nn.Module]) -> None:
    graph, images = graph_of(make()), nets.image(4)
    shared, plain = (Sampler(graph, shared).passes(images, 6, 3, "x") for shared in (True, False))
    assert torch.equal(shared, plain)
    assert not torch.equal(shared[0], shared[1])
    for sub in graph.modules():
        sub.train("Dropout" in type(sub).__name__)
    with voting.seeds.scoped(3, "x"):
        own = torch.stack([graph(images.clone()) for _ in range(6)])
    assert torch.allclose(shared, own, atol=1e-6)


@torch.no_grad()
def test_a_tail_that_works_in_place_gives_the_same_every_time() -> None:
    graph, images = fx.symbolic_trace(Mutating()), nets.image(3)
    nodes = {node.name: node for node in graph.graph.nodes}
    nodes["mul_"].meta["mutates"] = frozenset({1})
    tail = Tail(graph, [nodes["sin"]])
    values = tail.head(images)
    first, second = (tail.finish(values) for _ in range(2))
    assert torch.equal(first, Mutating()(images))
    assert torch.equal(first, second)


@torch.no_grad()
def test_a_network_that_is_no_graph_votes_through_its_modules() -> None:
    network = nets.random_statistics(Early())
    before = fingerprint(network)
    graph = prepare(network, nets.image(2)).graph
    images = nets.image(4)
    assert torch.allclose(
        Sampler(network).passes(images, 5, 0), Sampler(graph).passes(images, 5, 0), atol=1e-5
    )
    assert fingerprint(network) == before


def test_one_mask_is_as_right_as_single_masks_are_on_average() -> None:
    graph = graph_of(Early())
    votes = mc_dropout(graph, batches(20, 20), seed=4)
    assert votes is not None
    images, labels = batches(20, 20)[0]
    logits = Sampler(graph, shared=False).passes(images, voting.PASSES, 4, "masks", 0, 0).double()
    right = (logits.argmax(-1) == labels).double()
    loss = torch.stack([F.cross_entropy(row, labels, reduction="none") for row in logits])
    assert votes.accuracy[0] == pytest.approx(float(right.mean()))
    assert votes.loss[0] == pytest.approx(float(loss.mean()))
    assert votes.accuracy_sd[0] == pytest.approx(float(right.mean(1).std()))
    p = logits[:100].softmax(-1).mean(0)
    assert np.array_equal(votes.voted_right, (p.argmax(1) == labels).numpy())
    assert np.allclose(votes.voted_loss, -p[range(20), labels].log().numpy())
    with torch.no_grad():
        scaled = graph(images)
    assert np.allclose(
        votes.scaled_loss, F.cross_entropy(scaled, labels, reduction="none").numpy(), atol=1e-6
    )


def test_the_spread_of_votes_is_that_of_independent_draws() -> None:
    """Votes of T passes from two answers, one right: their mean is right when more than half of the passes are."""
    passes, draw = 200, torch.Generator().manual_seed(0)
    sd, found = [], []
    for repeat in range(40):
        hit = torch.rand(passes, generator=draw) < 0.6
        logits = torch.stack([hit * 2.0, ~hit * 2.0], 1).unsqueeze(1)
        tally = Tally(repeat, passes, (1, 25))
        tally.add(torch.tensor([0]), torch.zeros(1, 2), logits)
        votes = tally.votes()
        sd.append(votes.accuracy_sd[1] ** 2)
        found.append(votes.accuracy[1])
    right = float(binom.sf(12, 25, 0.6))
    assert np.mean(found) == pytest.approx(right, abs=0.04)
    assert np.mean(sd) == pytest.approx(right * (1 - right), rel=0.2)


def test_one_seed_gives_one_result_and_the_network_is_left_alone() -> None:
    graph = graph_of(Early())
    before, state = fingerprint(graph), torch.get_rng_state()
    first, again, other = (mc_dropout(graph, batches(), seed) for seed in (0, 0, 1))
    assert first is not None and again is not None and other is not None  # noqa: PT018
    assert all(
        np.array_equal(a, b) for a, b in zip(first.arrays().values(), again.arrays().values(), strict=True)
    )
    assert not np.array_equal(first.loss, other.loss)
    assert np.array_equal(first.scaled_loss, other.scaled_loss)
    measure_units(graph, dropout_inputs(graph), batches())
    assert fingerprint(graph) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_network_is_left_alone_when_a_pass_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(Early())
    before, state = fingerprint(graph), torch.get_rng_state()
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mc_dropout(graph, batches(), 0)
    removal = Removal(graph, next(iter(dropout_inputs(graph).values())))
    with pytest.raises(ZeroDivisionError):
        removal.harm(batches(), [0])
    assert removal.removed.unit is None
    assert fingerprint(graph) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_without_dropout_has_no_votes() -> None:
    assert mc_dropout(graph_of(nets.Residual()), batches(), 0) is None
    assert dropout_inputs(graph_of(nets.Residual())) == {}


def test_images_are_thinned_out_evenly() -> None:
    kept = [
        label
        for _, labels in thin_out([(LABELS, torch.arange(20)), (LABELS, torch.arange(20, 40))], 4)
        for label in labels.tolist()
    ]
    assert kept == [0, 13, 26, 39]


def test_an_ensemble_is_the_mean_over_every_choice_of_networks() -> None:
    rng = np.random.default_rng(0)
    networks = [rng.dirichlet(np.ones(3), 7) for _ in range(3)]
    labels = rng.integers(0, 3, 7)
    found = ensemble(networks, labels)
    assert [len(each) for each in found] == [3, 3, 1]
    for (i, j), (right, loss) in zip(((0, 1), (0, 2), (1, 2)), found[1], strict=True):
        mean = (networks[i] + networks[j]) / 2
        assert np.array_equal(right, mean.argmax(1) == labels)
        assert np.allclose(np.exp(-loss), [mean[row, label] for row, label in enumerate(labels)])


def test_many_networks_all_have_the_same_part() -> None:
    networks = [np.eye(12)[[k]] * 0.5 + 1 / 24 for k in range(12)]
    found = ensemble(networks, np.array([0]))
    assert len(found[5]) == 12
    assert sum(float(right[0]) for right, _ in found[0]) == 1


def test_correlations_are_pearsons() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 5)) @ rng.normal(size=(5, 5))
    values[:, 2] = 0.25
    live = [0, 1, 3, 4]
    expected = [abs(pearsonr(values[:, i], values[:, j])[0]) for i, j in itertools.combinations(live, 2)]
    assert correlations(values) == pytest.approx(expected)
    assert len(correlations(values[:, [0, 2]])) == 0


def test_activity_is_by_feature_channel_or_token() -> None:
    assert activity(torch.tensor([[1.0, 2.0]])).tolist() == [[1.0, 2.0]]
    assert activity(torch.arange(8.0).view(1, 2, 2, 2)).tolist() == [[1.5, 5.5]]
    assert activity(torch.arange(6.0).view(1, 3, 2)).tolist() == [[2.0, 3.0]]


@torch.no_grad()
def test_a_unit_removed_is_a_column_of_weights_at_zero() -> None:
    network = nets.random_statistics(nets.Plain())
    graph = prepare(network, nets.image(2)).graph
    nodes = dropout_inputs(graph)
    assert list(nodes) == ["drop"]
    removal = Removal(graph, nodes["drop"])
    data = batches()
    loss, accuracy = removal.harm(data, range(8))
    images, labels = nets.image(20, seed=5), LABELS

    def plainly() -> tuple[float, float]:
        logits = network(images).double()
        return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())

    before = plainly()
    for unit in range(8):
        kept = network.fc.weight[:, unit].clone()
        network.fc.weight[:, unit] = 0
        after = plainly()
        network.fc.weight[:, unit] = kept
        assert loss[unit] == pytest.approx(after[0] - before[0], abs=1e-6)
        assert accuracy[unit] == pytest.approx(before[1] - after[1])
    assert np.abs(loss).max() > 1e-4


@torch.no_grad()
def test_a_channel_removed_is_gone_from_every_reader_and_in_the_cut_copy() -> None:
    network = nets.random_statistics(Early())
    subject = prepare(network, nets.image(2))
    nodes = dropout_inputs(subject.graph)
    without = cut(subject, find_sites(subject, get_structure("dropout")))
    assert isinstance(without, fx.GraphModule)
    data = batches()
    for node in nodes.values():
        first, second = (Removal(network, node).harm(data, range(6)) for network in (subject.graph, without))
        assert np.allclose(first, second, atol=1e-7)
        seen = [observe(network, [node], data)[node] for network in (subject.graph, without)]
        assert np.array_equal(*seen)
    last = Removal(without, nodes["drop2"])
    values = network.norm(2 * F.relu(network.conv(data[0][0])))
    values[:, 3] = 0
    last.removed.unit = 3
    assert torch.allclose(last.network(data[0][0]), network.fc(values.mean((2, 3))), atol=1e-5)


def test_units_are_counted_by_site() -> None:
    graph = graph_of(nets.Plain())
    nodes = dropout_inputs(graph)
    graph.get_submodule("conv2").weight.data[3] = 0
    graph.get_submodule("conv2").bias.data[3] = 0
    found = measure_units(graph, nodes, batches())
    assert found is not None
    assert found.count.tolist() == [8]
    values = observe(graph, list(nodes.values()), batches())[nodes["drop"]]
    assert found.dead[0] == pytest.approx((values.std(0) == 0).mean())
    assert found.dead[0] >= 1 / 8
    live = int((values.std(0) > 0).sum())
    assert found.histogram.shape == (1, BINS)
    assert found.histogram.sum() == live * (live - 1) // 2
    assert np.isfinite(found.removed_loss).sum() == 8
    assert found.images.tolist() == [20]


@pytest.fixture(scope="module")
def arms() -> RetrainResult:
    made = setting(nets.Plain, dropout=True)
    variants = ((), ("dropout",))
    found = {
        (variant, None): tuple(train_arm((made, Arm(variant, seed))) for seed in (0, 1))
        for variant in variants
    }
    return RetrainResult(variants, (None,), found, made, "the first")


def test_an_arm_brings_its_measures_home(arms: RetrainResult) -> None:
    intact, without = arms.of(())[0], arms.of(("dropout",))[0]
    assert votes_of(intact.dropout) is not None
    assert votes_of(without.dropout) is None
    first, second = units_of(intact.dropout), units_of(without.dropout)
    assert first is not None and second is not None  # noqa: PT018
    assert first.names.tolist() == second.names.tolist() == ["drop"]
    assert np.array_equal(intact.dropout["probabilities"].argmax(1) == arms.setting.held_labels, intact.right)
    again = from_arrays(to_arrays(intact))
    same(intact, again)
    for name, array in intact.dropout.items():
        assert np.array_equal(array, again.dropout[name], equal_nan=array.dtype.kind == "f"), name
    assert not train_arm((dataclasses.replace(arms.setting, dropout=False), Arm((), 0))).dropout


def test_trained_arms_become_sections(arms: RetrainResult) -> None:
    voting_section, units = dropout_sections(arms)
    assert [section.reason for section in (voting_section, units)] == ["", ""]
    results = {item.name: item for section in (voting_section, units) for item in section.results}
    means = [item.accuracy for item in arms.of(())]
    assert results["voting_trained_accuracy:weight_scaling"].value == pytest.approx(np.mean(means))
    both = np.mean([item.dropout["probabilities"] for item in arms.of(("dropout",))], axis=0)
    right = float((both.argmax(1) == arms.setting.held_labels).mean())
    assert results["ensemble_accuracy:without_dropout:2_networks"].value == pytest.approx(right)
    parts = [
        results[f"coadaptation_correlation:{name}"].value for name in ("with_dropout", "without_dropout")
    ]
    difference = results["coadaptation_correlation:difference"]
    assert difference.value == pytest.approx(parts[0] - parts[1])
    assert difference.n == 2
    falls = [100 * np.nanmean(units_of(item.dropout).removed_accuracy, axis=1).mean() for item in arms.of(())]
    fall = results["coadaptation_removed_accuracy:with_dropout"]
    assert (fall.value, fall.unit) == (pytest.approx(np.mean(falls)), "points")
    # Student's interval, which may reach below 0: without a unit a network can be better.
    half = t.ppf(0.975, 1) * np.std(falls, ddof=1) / np.sqrt(2)
    assert fall.ci == (pytest.approx(np.mean(falls) - half), pytest.approx(np.mean(falls) + half))
    assert results["coadaptation_dead:difference"].unit == "points"
    words = units.findings[0]
    assert "not significant" in words or "support" in words or "opposite" in words


def test_other_structures_have_no_such_sections(arms: RetrainResult) -> None:
    assert dropout_sections(dataclasses.replace(arms, variants=((),))) == []


def test_the_loss_of_few_images_has_an_interval_as_wide_as_students() -> None:
    losses = norm.ppf((np.arange(8) + 0.5) / 8)
    middle, n, ci = _mean(losses)
    assert (middle, n) == (pytest.approx(0, abs=1e-12), 8)
    assert ci is not None
    half = t.ppf(0.975, 7) * losses.std(ddof=1) / np.sqrt(8)
    assert ci == (
        pytest.approx(-half, rel=0.1),
        pytest.approx(half, rel=0.1),
    )  # plain percentiles: 0.78 of it
    assert _mean(losses[:1]) == (losses[0], 1, None)


def test_verdicts_follow_the_interval(arms: RetrainResult) -> None:
    measure = _MEASURES[0]
    base = units_of(arms.of(())[0].dropout)
    assert base is not None

    def pairs(differences: list[float]) -> list[tuple[int, object, object]]:
        units = [dataclasses.replace(base, correlation=np.array([0.5 + d])) for d in differences]
        plain = dataclasses.replace(base, correlation=np.array([0.5]))
        return [(seed, units_of_seed, plain) for seed, units_of_seed in enumerate(units)]

    for differences, verdict in (
        ([-0.1, -0.11, -0.12], "the data support it"),
        ([0.1, 0.11, 0.12], "the data show the opposite"),
        ([-0.1, 0.1, 0.0], "not significant with 3 seeds"),
        ([-0.1], "one seed is not enough"),
    ):
        assert verdict in _verdict(pairs(differences), measure)  # type: ignore[arg-type]


def test_the_network_as_it_is_votes_too() -> None:
    bench = bench_of(nets.random_statistics(nets.Plain()))
    (section,) = loaded_dropout_sections(bench, labelled=True, seed=0)
    results = {result.name: result for result in section.results}
    assert results["voting_accuracy:weight_scaling"].value == 1.0
    assert results["voting_accuracy:mean_of_100_masks"].n == 24
    (unlabelled,) = loaded_dropout_sections(bench, labelled=False, seed=0)
    assert "these images have none" in unlabelled.reason


def test_a_network_that_is_no_graph_says_why_its_units_are_not_compared() -> None:
    class Untraceable(nets.Plain):
        def forward(self, x: Tensor) -> Tensor:
            if float(x.detach().numpy().sum()) > -1e9:
                x = x * 1
            return super().forward(x)

    bench = bench_of(nets.random_statistics(Untraceable()))
    assert bench.subject.reason
    first, second = loaded_dropout_sections(bench, labelled=True, seed=0)
    assert {result.name for result in first.results} >= {"voting_accuracy:weight_scaling", "voting_p"}
    assert "cannot be written as" in second.reason
    assert model_of(Untraceable()).name in second.reason
