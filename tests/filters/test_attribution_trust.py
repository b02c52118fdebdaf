"""The numbers beside the maps: completeness, rank correlation, and what redrawing the weights leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers.attribution_networks import Residual, Smooth, drawn, linear_network, pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from torch import Tensor, nn

from probe.core.errors import NotApplicableError
from probe.core.state import fingerprint
from studies.filters.attribution import trust
from studies.filters.attribution.attribute import (
    AttributionSubject,
    Gradient,
    IntegratedGradients,
    Method,
    prepare,
)
from studies.filters.attribution.trust import MapCorrelation, RandomisationResult, spearman

TARGETS = torch.tensor([2, 0, 3])


# --- completeness ---------------------------------------------------------------------------------------------


def test_completeness_error_of_a_map_that_is_short_by_a_known_amount() -> None:
    net, images = drawn(linear_network()), pixels()
    weight = net[1].weight[TARGETS].view_as(images)  # type: ignore[index, union-attr, operator]
    exact = weight * images
    off = exact.clone()
    off[1, 0, 0, 0] += 0.25
    found = trust.completeness(net, images, TARGETS, off, "black")
    change = float(exact[1].sum())
    assert found.absolute == pytest.approx((0.0, 0.25, 0.0), abs=1e-12)
    assert found.relative == pytest.approx((0.0, 0.25 / abs(change), 0.0), abs=1e-12)
    assert found.largest == pytest.approx(0.25)
    assert found.typical == pytest.approx(0.0, abs=1e-12)


def test_a_change_too_small_to_divide_by_leaves_the_absolute_error_alone() -> None:
    """With an image equal to its baseline there is nothing to be relative to."""
    net = drawn(linear_network())
    images = torch.full((2, 3, 12, 14), 0.5, dtype=torch.float64)
    found = trust.completeness(net, images, TARGETS[:2], torch.full_like(images, 1.0), "mean")
    assert found.absolute == pytest.approx((504.0, 504.0))
    assert found.relative == ()
    assert found.typical is None


# --- rank correlation -----------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(2, 7), st.integers(1, 40), st.integers(0, 2**20))
def test_spearman_is_scipy_s_of_the_channel_sums(
    n: int, channels: int, side: int, levels: int, seed: int
) -> None:
    """Few levels make many ties."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(-levels, levels + 1, (2, n, channels, side, side)).astype(float)
    found = spearman(torch.from_numpy(first), torch.from_numpy(second))
    for i in range(n):
        a, b = (np.abs(maps[i]).sum(0).ravel() for maps in (first, second))
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            assert np.isnan(found[i])
        else:
            assert found[i] == pytest.approx(scipy_stats.spearmanr(a, b).statistic, abs=1e-12)


def test_maps_of_different_channels_are_compared_by_their_sums() -> None:
    fine, coarse = pixels(2), pixels(2).abs().sum(1, keepdim=True)
    np.testing.assert_allclose(spearman(fine, coarse), 1.0)


def test_the_sign_of_a_map_does_not_count() -> None:
    maps = pixels() - 0.5
    np.testing.assert_allclose(spearman(maps, -3 * maps), 1.0)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_map_without_ranks_has_no_correlation(bad: float) -> None:
    maps = pixels()
    broken = maps.clone()
    broken[1] = 0.0
    broken[1, 0, 0, 0] = bad
    assert np.isnan(spearman(broken, maps)).tolist() == [False, True, False]


def test_draws_are_averaged_before_images() -> None:
    draws = [np.array([0.2, 0.4, np.nan]), np.array([0.4, np.nan, np.nan])]
    found = MapCorrelation.over_images(draws)
    assert found.value == pytest.approx((0.3 + 0.4) / 2)
    assert found.n == 2
    expected = scipy_stats.t.interval(0.95, 1, loc=0.35, scale=scipy_stats.sem([0.3, 0.4]))
    assert found.ci == pytest.approx((max(-1, expected[0]), min(1, expected[1])))


def test_one_image_has_no_interval_and_none_has_no_value() -> None:
    assert MapCorrelation.over_images([np.array([0.5])]) == MapCorrelation(0.5, 1, None)
    assert MapCorrelation.over_images([np.array([np.nan])]) == MapCorrelation(None, 0, None)


# --- redrawing ------------------------------------------------------------------------------------------------


def test_redrawing_the_classifier_changes_it_alone() -> None:
    net, fresh, images = drawn(Residual(), seed=0), drawn(Residual(), seed=9), pixels()
    assert isinstance(net, Residual)
    assert isinstance(fresh, Residual)
    before, other = fingerprint(net), fingerprint(fresh)
    features: list[Tensor] = []
    with torch.no_grad():
        handle = net.fc.register_forward_hook(lambda _m, args, _o: features.append(args[0]))
        net(images)
        handle.remove()
        mixed = trust.redraw_classifier(net, fresh, images[:1])
        torch.testing.assert_close(mixed(images), fresh.fc(features[0]))
    assert (fingerprint(net), fingerprint(fresh)) == (before, other)


def test_the_classifier_is_the_last_weighted_layer_that_runs() -> None:
    class Odd(nn.Module):
        """Registered in another order than used; a norm and an unused layer stand last."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(4, 2, 1)
            self.body = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(2)
            self.unused = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.head(self.body(x))).mean((2, 3))

    assert trust.classifier_of(drawn(Odd()), pixels(1)) == "head"


def test_a_network_without_weights_has_no_classifier() -> None:
    with pytest.raises(NotApplicableError, match="randomise"):
        trust.classifier_of(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), pixels(1))


@dataclass(frozen=True)
class Edges:
    """A planted method that looks at the image and never at the network, as an edge detector does."""

    key: ClassVar[str] = "edges"
    title: ClassVar[str] = "Edges"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = True

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        return 7.0 * (images - images.mean(dim=(2, 3), keepdim=True))

    def economical(self) -> Edges:
        return self

    def passes(self, size: tuple[int, int]) -> float:
        return 1.0


def checked(method: Method) -> RandomisationResult:
    net, images = drawn(Residual(), seed=0), pixels(side=16)
    asked: list[int] = []
    work: list[float] = []

    def networks(draw: int) -> tuple[AttributionSubject, AttributionSubject]:
        asked.append(draw)
        fresh = drawn(Residual(), seed=100 + draw)
        mixed = trust.redraw_classifier(net, fresh, images[:1])
        return prepare(mixed, images[:1]), prepare(fresh, images[:1])

    reference = method.attribute(prepare(net, images[:1]), images, TARGETS)
    found = trust.randomise(
        [trust.RandomisationTrial(method, reference, 3)], networks, images, TARGETS, work.append
    )
    assert asked == [0, 1, 2]
    assert sum(work) == 3 * 2 * 3 * method.passes((16, 18))
    return found[method.key]


def test_the_check_finds_a_method_that_never_looks_at_the_network() -> None:
    found = checked(Edges())
    assert found.classifier.value == pytest.approx(1.0)
    assert found.everything.value == pytest.approx(1.0)
    assert "Hardly changes when every weight" in trust.verdict(found)


def test_the_gradient_changes_with_the_weights() -> None:
    found = checked(Gradient())
    assert found.draws == 3
    assert found.everything.value is not None
    assert found.everything.value < 0.4
    assert "Changes when the weights are randomised" in trust.verdict(found)


def test_methods_with_fewer_draws_stop_earlier() -> None:
    net, images = drawn(Smooth()), pixels()
    subject = prepare(net, images[:1])
    methods: tuple[Method, ...] = (Gradient(), IntegratedGradients(steps=2))
    trials = [
        trust.RandomisationTrial(method, method.attribute(subject, images, TARGETS), draws)
        for method, draws in zip(methods, (2, 1), strict=True)
    ]
    work: list[float] = []
    found = trust.randomise(trials, lambda _draw: (subject, subject), images, TARGETS, work.append)
    assert [found[method.key].draws for method in methods] == [2, 1]
    assert sum(work) == 3 * 2 * (2 * methods[0].passes((12, 14)) + methods[1].passes((12, 14)))
    assert all(result.everything.value == pytest.approx(1.0) for result in found.values())


@pytest.mark.parametrize(
    ("classifier", "everything", "said"),
    [
        (0.95, 0.9, "every weight is randomised"),
        (0.95, 0.1, "Hardly changes when the classifier"),
        (0.6, 0.5, "Partly unchanged"),
        (0.6, 0.1, "Changes when the weights"),
        (0.1, -0.5, "Changes when the weights"),
        (None, 0.2, "Cannot be judged"),
        (0.2, None, "Cannot be judged"),
    ],
)
def test_verdicts(classifier: float | None, everything: float | None, said: str) -> None:
    both = [MapCorrelation(value, 0 if value is None else 4, None) for value in (classifier, everything)]
    assert said in trust.verdict(RandomisationResult(both[0], both[1], 1))
