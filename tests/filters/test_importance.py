"""Which channels matter: closed forms on a linear network, planted channels, and second implementations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.filters_models import SmallNet, loaded, pictures
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

import probe
from probe.core import stats
from probe.core.blocks import Table
from probe.core.document import Report, Section
from probe.core.progress import SILENT
from probe.core.state import fingerprint
from studies.filters import FiltersConfig, run
from studies.filters.importance import measures, plan
from studies.filters.importance.measure import LayerImportance, LayerJob, measure
from studies.filters.study import prepare
from studies.filters.workspace import FiltersWorkspace

Array = NDArray[np.float64]

N, CHANNELS, CLASSES, SIDE = 30, 7, 3, 6


class Linear(nn.Module):
    """A 1 × 1 convolution, the mean over positions, and a linear layer: everything can be computed by hand."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CHANNELS, 1, bias=False)
        self.head = nn.Linear(CHANNELS, CLASSES)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(
                    2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
                )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean((2, 3)))


def data(n: int = N, classes: int = CLASSES, channels: int = 3) -> tuple[Tensor, Tensor]:
    pixels = torch.rand(n, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(2))
    return pixels * torch.linspace(0.2, 1, n)[:, None, None, None], labels


def space_of(
    network: nn.Module, layer: str, pixels: Tensor, labels: Tensor, **options: Any
) -> FiltersWorkspace:
    model = probe.wrap(network, mean=0, std=1, input_size=tuple(pixels.shape[1:]))
    config = FiltersConfig(layers=(layer,), batch_size=8, **options)
    return prepare(model, probe.images(pixels, labels), config, SILENT)


def measured(space: FiltersWorkspace) -> LayerImportance:
    (job,) = plan.jobs(space, space.layers)
    return measure(space, job, lambda _: None)


def cross_entropies(logits: Array, labels: NDArray[np.int64]) -> Array:
    exact = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(exact).sum(1)) - exact[np.arange(len(labels)), labels]


@dataclasses.dataclass(frozen=True)
class ByHand:
    """The linear network in numpy, float64."""

    maps: Array
    weight: Array
    bias: Array
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, network: Linear, pixels: Tensor, labels: Tensor) -> ByHand:
        kernel = network.conv.weight.detach().double().numpy()[:, :, 0, 0]
        maps = np.einsum("kc,nchw->nkhw", kernel, pixels.double().numpy())
        head = network.head
        return cls(
            maps, head.weight.detach().double().numpy(), head.bias.detach().double().numpy(), labels.numpy()
        )

    def logits(self, channels: tuple[int, ...] = (), fill: float = 0.0) -> Array:
        pooled = self.maps.mean((2, 3))
        pooled[:, list(channels)] = fill
        return pooled @ self.weight.T + self.bias

    def losses(self, channels: tuple[int, ...] = (), fill: float = 0.0) -> Array:
        return cross_entropies(self.logits(channels, fill), self.labels)

    def right(self, channels: tuple[int, ...] = ()) -> NDArray[np.bool_]:
        return self.logits(channels).argmax(1) == self.labels


def test_on_a_linear_network_everything_is_as_computed_by_hand() -> None:
    network, (pixels, labels) = Linear(), data()
    found, hand = measured(space_of(network, "conv", pixels, labels)), ByHand.of(network, pixels, labels)
    assert found.job.channels == tuple(range(CHANNELS))
    assert found.labels.tolist() == labels.tolist()
    np.testing.assert_allclose(found.intact.losses, hand.losses(), atol=1e-5)
    assert found.intact.right.tolist() == hand.right().tolist()
    for channel in range(CHANNELS):
        mean = float(hand.maps[:, channel].mean())
        np.testing.assert_allclose(found.zero.losses[channel], hand.losses((channel,)), atol=1e-5)
        np.testing.assert_allclose(found.mean.losses[channel], hand.losses((channel,), mean), atol=1e-5)
        assert found.zero.right[channel].tolist() == hand.right((channel,)).tolist()
    logits = hand.logits()
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    slopes = hand.maps.mean((2, 3)) * ((share - np.eye(CLASSES)[hand.labels]) @ hand.weight)
    np.testing.assert_allclose(found.measures["taylor"], np.abs(slopes).mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.measures["activation"], np.abs(hand.maps).mean((0, 2, 3)), rtol=1e-5)
    norms = network.conv.weight.detach().abs().sum((1, 2, 3)).numpy()
    np.testing.assert_allclose(found.measures["weight_norm"], norms, rtol=1e-6)
    rectified = np.maximum(hand.maps, 0).mean((2, 3))
    np.testing.assert_allclose(
        found.measures["selectivity"], selectivity_by_loop(rectified, hand.labels), rtol=1e-5
    )


def test_the_removal_curve_is_that_of_the_other_half() -> None:
    network, (pixels, labels) = Linear(), data()
    found, hand = measured(space_of(network, "conv", pixels, labels)), ByHand.of(network, pixels, labels)
    first = found.ordering
    second = [place for place in range(N) if place not in set(first.tolist())]
    assert len(first) == len(second) == found.curve.n == N // 2
    increases = np.array(
        [(hand.losses((channel,)) - hand.losses())[first].mean() for channel in range(CHANNELS)]
    )
    norms = network.conv.weight.detach().abs().sum((1, 2, 3)).numpy()
    for name, values in (("measured", increases), ("weight_norm", norms)):
        order = np.argsort(values)
        expected = [
            int(hand.right(tuple(order[:count].tolist()))[second].sum()) for count in found.curve.counts
        ]
        assert found.curve.right[name].tolist() == [expected]
    assert found.curve.counts[-1] == CHANNELS
    everything_gone = int(hand.right(tuple(range(CHANNELS)))[second].sum())
    assert {int(row[-1]) for each in found.curve.right.values() for row in each} == {everything_gone}
    assert found.curve.intact == int(hand.right()[second].sum())
    assert found.curve.right["random"].shape == (5, len(found.curve.counts))


def selectivity_by_loop(activations: Array, labels: NDArray[np.int64]) -> list[float]:
    """Morcos et al. 2018, section A.2, channel by channel."""
    values = []
    for channel in activations.T:
        own = [[a for a, b in zip(channel, labels, strict=True) if b == label] for label in set(labels)]
        means = [sum(values_of) / len(values_of) for values_of in own]
        best = means.index(max(means))
        others = [mean for place, mean in enumerate(means) if place != best]
        rest = sum(others) / len(others)
        values.append((means[best] - rest) / (means[best] + rest) if means[best] + rest else float("nan"))
    return values


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_selectivity_against_a_loop(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 12)])
    activations = np.maximum(rng.normal(size=(len(labels), 4)), 0)
    activations[:, 3] = 0
    found = measures.class_selectivity(activations, labels)
    np.testing.assert_allclose(found, selectivity_by_loop(activations, labels))
    assert np.isnan(found[3])


def test_one_class_only_has_a_selectivity_of_1() -> None:
    labels = np.array([0, 0, 1, 1])
    found = measures.class_selectivity(np.array([[1.0, 2.0], [3.0, 2.0], [0.0, 2.0], [0.0, 2.0]]), labels)
    assert found.tolist() == [1.0, 0.0]
    assert np.isnan(measures.class_selectivity(np.ones((3, 2)), np.zeros(3, dtype=np.int64))).all()


@given(st.integers(0, 10_000), st.integers(5, 40), st.integers(2, 6))
def test_rank_correlation_is_scipys_with_ties(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, levels, n).astype(float)
    second = first + rng.integers(0, levels, n)
    found = measures.rank_correlation(first, second, seed)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found.value is None
        return
    assert found.value == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)
    assert found.n == n


def test_the_bootstrap_is_that_of_the_channels() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=20)
    second = first + rng.normal(size=20)
    found = measures.rank_correlation(first, second, 5)
    draws = np.random.default_rng(11).integers(0, 20, (4000, 20))
    values = [spearmanr(first[draw], second[draw]).statistic for draw in draws]
    assert found.ci == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.03)
    assert found == measures.rank_correlation(first, second, 5)


def test_where_a_rank_correlation_is_not_defined() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=8)
    assert measures.rank_correlation(values, np.ones(8), 0).value is None
    assert measures.rank_correlation(values[:4], values[:4], 0) == measures.ChannelCorrelation(None, None, 4)
    holes = np.where(np.arange(8) < 2, np.nan, values)
    assert measures.rank_correlation(holes, values, 0).n == 6
    assert measures.rank_correlation(holes, values, 0).value == pytest.approx(1)


def test_taylor_is_the_slope_of_the_loss_as_a_channel_is_scaled() -> None:
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, 5, 5, generator=rng, dtype=torch.float64)
    weight = torch.randn(6, 4, 3, 3, generator=rng, dtype=torch.float64)
    labels = torch.tensor([0, 5, 2])

    def losses(scale: Tensor) -> Tensor:
        logits = F.conv2d(maps * scale[:, None, None], weight).relu().square().mean((2, 3))
        return F.cross_entropy(logits, labels, reduction="none")

    leaf = maps.clone().requires_grad_()
    loss = F.cross_entropy(F.conv2d(leaf, weight).relu().square().mean((2, 3)), labels, reduction="sum")
    (gradients,) = torch.autograd.grad(loss, leaf)
    found = measures.taylor(maps, gradients)
    step = 1e-6
    for channel in range(4):
        unit = torch.zeros(4, dtype=torch.float64)
        unit[channel] = step
        slope = (losses(1 + unit) - losses(1 - unit)) / (2 * step)
        torch.testing.assert_close(found[:, channel], slope.abs(), rtol=1e-6, atol=1e-8)


class Planted(nn.Module):
    """Class 1 is what channel 2 says; channel 4 is read by nobody, channel 5 is 0 everywhere."""

    def __init__(self, channels: int = 3, reads: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 2)
        with torch.no_grad():
            self.conv.weight.copy_(
                0.3 * torch.rand(self.conv.weight.shape, generator=torch.Generator().manual_seed(4))
            )
            self.conv.bias.zero_()
            self.conv.weight[2] = 0
            self.conv.weight[2, reads] = 1
            self.conv.weight[5] = 0
            self.head.weight.copy_(torch.tensor([[0.1] * 6, [0.2, 0.0, 20.0, 0.1, 0.0, 5.0]]))
            self.head.weight[0, 4] = 0
            self.head.bias.copy_(torch.tensor([8.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv(x)).mean((2, 3)))


def planted_data(channels: int = 3, reads: int = 1) -> tuple[Tensor, Tensor]:
    pixels, _ = data(24, 2, channels)
    labels = torch.arange(24) % 3 // 2
    pixels[:, reads] = 0.1 + 0.7 * labels[:, None, None]
    return pixels, labels


def section(report: Report) -> Section:
    return next(part for part in report.sections if part.id == "importance")


def table(report: Report, title: str) -> list[dict[str, Any]]:
    found = next(
        block for block in section(report).blocks if isinstance(block, Table) and title in block.title
    )
    return [dict(zip((column.name for column in found.columns), row, strict=True)) for row in found.rows]


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("layer", ["conv", "relu"])
def test_a_planted_channel_comes_first_and_dead_ones_are_exactly_0(channels: int, layer: str) -> None:
    reads = min(1, channels - 1)
    pixels, labels = planted_data(channels, reads)
    report = probe.filters(
        Planted(channels, reads), probe.images(pixels, labels), views=["importance"], layers=[layer]
    )
    assert report["accuracy"].value == 1
    assert not section(report).reason
    rows = table(report, "most important")
    assert rows[0]["channel"] == 2
    assert rows[0]["classes served"] == "class 1 8 of 8"
    assert (rows[0]["lost"], rows[0]["won"]) == (8, 0)
    assert rows[0]["accuracy change"] == pytest.approx(-8 / 24)
    assert rows[0]["low"] > 0
    for row in rows:
        if row["channel"] in (4, 5):
            assert row["loss increase"] == row["low"] == row["high"] == row["set to mean"] == 0
            assert row["classes served"] is None
    assert {row["channel"] for row in rows} == set(range(6))
    largest = report[f"importance.{layer}.largest"]
    assert largest.value == rows[0]["loss increase"]
    assert largest.n == 24
    for key, name in (("taylor", "Taylor"), ("activation", "activation"), ("weight_norm", "weight norm")):
        found = report[f"importance.{layer}.spearman.{key}"]
        expected = spearmanr([row[name] for row in rows], [row["loss increase"] for row in rows]).statistic
        assert found.value == pytest.approx(expected, abs=1e-12)
        assert found.n == 6
    assert 2 in [
        int(word) for word in section(report).findings[0].replace(";", " ").split() if word.isdigit()
    ]


def test_every_column_of_every_table_explains_itself() -> None:
    pixels, labels = planted_data()
    report = probe.filters(Planted(), probe.images(pixels, labels), views=["importance"], layers=["conv"])
    tables = [block for block in section(report).blocks if isinstance(block, Table)]
    columns = [column for block in tables for column in block.columns]
    assert len(tables) == 3
    assert all(column.help for column in columns)
    names = {result.name for result in report.all_results}
    assert {f"importance.conv.{name}" for name in ("measurable", "largest")} <= names
    assert {f"importance.conv.half_removed.{name}" for name in ("measured", "weight_norm", "random")} <= names
    for key in ("weight_norm", "activation", "taylor", "selectivity", "set_to_mean", "split_half"):
        assert f"importance.conv.spearman.{key}" in names


def test_loss_increases_have_the_t_interval_of_the_images() -> None:
    network, (pixels, labels) = Linear(), data()
    report = probe.filters(network, probe.images(pixels, labels), views=["importance"], layers=["conv"])
    hand = ByHand.of(network, pixels, labels)
    model = report.model
    assert model.num_classes == CLASSES
    rows = table(report, "most important")
    # Not the network's own normalisation: probe.filters of a plain module takes pixels as they are.
    for row in rows:
        values = hand.losses((row["channel"],)) - hand.losses()
        assert row["loss increase"] == pytest.approx(values.mean(), abs=1e-5)
        assert (row["low"], row["high"]) == pytest.approx(stats.t_interval(values.tolist()), abs=1e-5)


class Failing(nn.Module):
    """Fails from a number of calls on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = SmallNet()
        self.counter = [0, 10**9]

    def forward(self, x: Tensor) -> Tensor:
        self.counter[0] += 1
        if self.counter[0] > self.counter[1]:
            raise RuntimeError("out of memory, say")
        return self.inner(x)


LABELS = [i % 3 for i in range(12)]


def test_the_network_is_left_as_it_was() -> None:
    network = Failing()
    space = prepare(loaded(network), pictures(12, labels=LABELS), FiltersConfig(batch_size=4), SILENT)
    before, random = fingerprint(space.model.module), torch.get_rng_state()
    (job, *_) = plan.jobs(space, space.layers)
    measure(space, job, lambda _: None)
    assert fingerprint(space.model.module) == before
    assert torch.equal(torch.get_rng_state(), random)

    def fails(_: float) -> None:
        raise RuntimeError("stopped in the middle")

    with pytest.raises(RuntimeError, match="middle"):
        measure(space, job, fails)
    network.counter[1] = network.counter[0]
    with pytest.raises(RuntimeError, match="out of memory"):
        plan.jobs(space, space.layers)
    assert fingerprint(space.model.module) == before


@pytest.mark.parametrize(
    ("labels", "said"),
    [(None, "labelled"), ([1] * 12, "two of the network's classes"), ([0, 1, 2], "at least 4")],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(labels: list[int] | None, said: str) -> None:
    images = pictures(12 if labels is None else len(labels), labels=labels)
    report = run(loaded(), images, FiltersConfig(views=("importance",)))
    assert said in section(report).reason
    assert not section(report).failed


def test_the_same_seed_gives_the_same_section_also_from_workers() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = FiltersConfig(views=("importance",), batch_size=4)
        images = pictures(12, labels=LABELS)
        first, second, spread = (
            section(run(loaded(), images, dataclasses.replace(config, jobs=jobs))) for jobs in (1, 1, 2)
        )
    finally:
        torch.set_num_threads(threads)
    assert first.results == second.results == spread.results
    assert repr(first.blocks) == repr(second.blocks) == repr(spread.blocks)
    assert first.findings == spread.findings


def test_a_network_without_gradients_has_no_taylor_importance() -> None:
    model = loaded()
    model.module.differentiable = False
    report = run(model, pictures(12, labels=LABELS), FiltersConfig(views=("importance",), layers=("conv2",)))
    assert not section(report).reason
    assert report["importance.conv2.spearman.taylor"].value is None
    assert report["importance.conv2.spearman.activation"].value is not None


def test_few_channels_have_no_rank_correlation_and_many_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow = nn.Conv2d(3, 2, 1)
            self.wide = nn.Conv2d(2, 50, 1)
            self.head = nn.Linear(50, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.wide(self.narrow(x)).mean((2, 3)))

    pixels, labels = data()
    config: dict[str, Any] = {"layers": ["narrow", "wide"], "views": ["importance"]}
    report = probe.filters(Wide(), probe.images(pixels, labels), **config)
    assert report["importance.narrow.spearman.activation"].value is None
    assert report["importance.narrow.spearman.activation"].n == 2
    assert report["importance.wide.measurable"].n == 32
    assert "2 of 2 in narrow" in section(report).summary
    assert "32 of 50 in wide" in section(report).summary
    gone = [row for row in table(report, "Half") if row["layer"] == "wide"]
    assert {row["removed"] for row in gone} == {0, 25}  # of all 50 channels: ordering the others is cheap
    monkeypatch.setattr(plan, "_BUDGET", 1e9)
    report = probe.filters(Wide(), probe.images(pixels, labels), **config)
    assert report["importance.wide.measurable"].n == 8
    assert report["importance.wide.largest"].n == 20
    assert {row["removed"] for row in table(report, "Half") if row["layer"] == "wide"} == {0, 4}
    report = probe.filters(Wide(), probe.images(pixels, labels), channels=[0, 1], **config)
    assert report["importance.wide.largest"].n == 20


@pytest.mark.parametrize(
    ("total", "most", "wanted", "found"),
    [
        (4, 8, (), (0, 1, 2, 3)),
        (9, 3, (), (0, 4, 8)),
        (10, 4, (7,), (0, 4, 7, 9)),
        (10, 2, (3, 3, 5), (3, 5)),
    ],
)
def test_channels_are_spread_evenly_with_the_wanted_ones(
    total: int, most: int, wanted: tuple[int, ...], found: tuple[int, ...]
) -> None:
    assert measures.spread_channels(total, most, wanted) == found


@given(st.integers(0, 10_000), st.integers(4, 60))
def test_halves_share_every_class(seed: int, n: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, n)
    first, second = measures.halves(labels, seed)
    assert sorted([*first, *second]) == list(range(n))
    assert len(first) - len(second) in (0, 1)
    for label in range(4):
        assert abs(int((labels[first] == label).sum()) - int((labels[second] == label).sum())) <= 1


def test_steps_and_orders() -> None:
    assert measures.removal_counts(16) == (2, 4, 6, 8, 12, 16)
    assert measures.removal_counts(1) == (1,)
    assert measures.least_first(np.array([3.0, np.nan, 1.0, 1.0])).tolist() == [1, 2, 3, 0]


def test_the_passes_announced_are_made() -> None:
    space = space_of(Linear(), "conv", *data())
    (job,) = plan.jobs(space, space.layers)
    assert isinstance(job, LayerJob)
    made: list[float] = []
    measure(space, job, made.append)
    assert sum(made) == pytest.approx(job.passes * len(job.images))
