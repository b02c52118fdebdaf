"""What the doctor says of losses and first updates: the form of a loss, the numbers in its sentences, and what it tried."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from helpers.broken_networks import (
    data,
    small,
    with_ascent,
    with_equal_units,
    with_exploding_first_update,
    with_exploding_first_update_in_float16,
    with_negative_loss,
    with_nll_of_logits,
    with_rate_a_thousand_times_too_small,
    with_reciprocal_loss,
    with_softmax_and_smoothed_labels,
    with_softmax_twice,
)
from scipy.stats import binom
from torch import Tensor, nn

from probe.tools.doctor.checkup import examine, make_plan
from probe.tools.doctor.loss_form import LossForm, given, least_after_softmax, loss_form
from probe.tools.doctor.plan import Loss, TrainingPlan
from probe.tools.doctor.sweep import grid, wide_grid
from probe.tools.doctor.training_run import Hits, count_hits, run_training


def plan(loss: Loss, module: nn.Module | None = None) -> TrainingPlan:
    return make_plan(module or small(), *data(32), loss, 0.1, 2, "sgd", 16, "float32", 0)


def focal(outputs: Tensor, labels: Tensor) -> Tensor:
    entropy = F.cross_entropy(outputs, labels, reduction="none")
    return ((1 - torch.exp(-entropy)) ** 2 * entropy).mean()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (F.cross_entropy, LossForm("cross-entropy", 1)),
        (lambda x, y: -0.25 * F.cross_entropy(x, y), LossForm("cross-entropy", -0.25)),
        (nn.CrossEntropyLoss(label_smoothing=0.2), LossForm("cross-entropy", 1, 0.2)),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 2.0, 9.0])), LossForm("cross-entropy", 1)),
        (F.nll_loss, LossForm("nll", 1)),
        (lambda x, y: F.nll_loss(torch.log_softmax(x, 1), y), LossForm("cross-entropy", 1)),
        (focal, None),
        (F.multi_margin_loss, None),
        (lambda x, y: F.mse_loss(x, F.one_hot(y, 4).float()), None),
        (lambda x, y: 1 / (0 * x.sum()), None),
    ],
)
def test_a_loss_is_known_by_its_values(loss: Loss, expected: LossForm | None) -> None:
    found = loss_form(plan(loss), (32, 4))
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.name == expected.name
        assert found.scale == pytest.approx(expected.scale, rel=1e-3)
        assert found.smoothing == pytest.approx(expected.smoothing, abs=2e-3)


def test_outputs_are_told_apart() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert given(logits) == "other"
    assert given(logits.sigmoid()) == "other"
    assert given(logits.softmax(1)) == "probabilities"
    assert given(logits.log_softmax(1)) == "log-probabilities"


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_the_floor_of_a_second_softmax_is_that_of_a_perfect_network(classes: int) -> None:
    labels = torch.arange(classes)
    perfect = F.one_hot(labels, classes).float()
    assert least_after_softmax(classes) == pytest.approx(float(F.cross_entropy(perfect, labels)), rel=1e-6)


def test_the_sentence_on_a_second_softmax_has_the_floor_and_the_control() -> None:
    found = with_softmax_twice().examine()
    text = found.faults[0].text
    assert "cannot fall below 0.744" in text
    assert found.course is not None
    assert found.course.after > 0.744
    ends = [float(end) for end in re.findall(r"to ([0-9.]+) in", text)]
    assert ends[1] < 0.744 < ends[0]
    smoothed = with_softmax_and_smoothed_labels().examine().faults[0].text
    assert "cannot fall below" not in smoothed, "the floor is known for plain cross-entropy only"


def test_negative_log_likelihood_of_logits_says_what_the_rows_sum_to() -> None:
    patient = with_nll_of_logits()
    with torch.no_grad():
        sums = patient.module.train()(patient.images).exp().sum(1)
    text = patient.examine().faults[0].text
    assert f"sum to {float(sums.min()):.3g} to {float(sums.max()):.3g}" in text


@pytest.mark.parametrize("make", [with_negative_loss, with_ascent])
def test_the_wrong_sign_is_told_with_the_accuracy(make) -> None:
    found = make().examine()
    assert found.course is not None
    after = found.course.hits_after
    assert after is not None
    text = found.faults[0].text
    assert f"{after.right} after" in text
    assert "training on the negative loss from the same start gives" in text
    control = re.search(r"gives (\d+) of 96", text)
    assert control is not None
    assert int(control[1]) > after.right


def test_the_sign_of_an_unknown_loss_is_only_probable() -> None:
    assert not with_reciprocal_loss().examine().faults[0].certain
    assert with_negative_loss().examine().faults[0].certain
    assert with_ascent().examine().faults[0].certain


def test_labels_without_a_pattern_are_not_a_wrong_sign() -> None:
    images, _ = data()
    labels = torch.randint(0, 4, (len(images),), generator=torch.Generator().manual_seed(3))
    found = examine(small(), images, labels, steps=20, batch_size=16)
    assert "loss-sign" not in [one.cause for one in found.all if one.found]


def test_hits_by_hand() -> None:
    outputs = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    hits = count_hits(outputs, torch.tensor([0, 1, 1, 0, -100]))
    # Predictions 0, 1, 0, 0 and labels 0, 1, 1, 0: three of four right, by chance 3/4 · 2/4 + 1/4 · 2/4.
    assert hits == Hits(3, 4, 0.5)
    assert count_hits(outputs, torch.rand(5)) is None
    assert Hits(24, 96, 0.25).below_chance is False
    low = int(binom.ppf(0.001, 96, 0.25))
    assert Hits(low - 1, 96, 0.25).below_chance
    assert not Hits(low + 1, 96, 0.25).below_chance


def test_the_first_update_is_measured_relative_to_the_weights() -> None:
    images, labels = data(16)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

    def plain(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr)

    made = make_plan(module, images, labels, F.cross_entropy, 3.0, 2, plain, 16, "float32", 0)
    course = run_training(made)
    assert course.first_update is not None
    expected = 3.0 * course.norms[0, 0] / float(module[1].weight.detach().norm())
    assert course.first_update == ("1", pytest.approx(expected, rel=1e-5))


def test_an_exploding_first_update_is_the_cause_and_the_loss_its_consequence() -> None:
    found = with_exploding_first_update().examine()
    assert "undefined-loss" in [one.cause for one in found.consequences]
    assert "The first update changes the weights of layer 7" in found.faults[0].text
    assert found.faults[0].certain
    without = with_exploding_first_update().examine(try_rates=False)
    assert without.cause == "learning-rate"
    assert not without.faults[0].certain
    assert "No other rate was tried" in without.faults[0].text
    half = with_exploding_first_update_in_float16().examine()
    overflow = next(one for one in half.all if one.cause == "overflow")
    assert overflow.grade == "clear"
    assert "In float32" in overflow.text


def test_the_rates_that_were_tried_are_told() -> None:
    found = with_rate_a_thousand_times_too_small().examine()
    tried = found.evidence.sweep
    assert tried is not None
    assert f"The sweep tried {len(tried.points)} rates between 1e-09 and 10." in found.faults[0].text
    best = tried.best
    assert best is not None
    assert best.lr > 1e-6 * 100
    assert not found.faults[0].certain


def test_the_wide_grid_holds_the_rate_and_no_near_duplicates() -> None:
    for rate in (1e-6, 0.003, 1e4):
        rates = wide_grid(rate)
        assert any(math.isclose(one, rate) for one in rates)
        assert min(b / a for a, b in pairwise(rates)) > 1.2
        assert rates[0] <= 1e-5
        assert rates[-1] >= 10 * 0.99
        assert set(grid(rate)[::2]) <= set(rates)


def test_equal_units_are_told_with_a_control() -> None:
    found = with_equal_units().examine()
    assert found.course is not None
    assert found.course.outcome == "learned"
    assert "4 of 4 layers are the same in all units" in found.faults[0].text
    assert "with random weights there" in found.faults[0].text


def test_what_is_unusual_in_a_failed_training_is_not_called_harmless() -> None:
    images, labels = data()
    shuffled = torch.randint(0, 4, (len(images),), generator=torch.Generator().manual_seed(3))
    found = examine(small(), images * 1000, shuffled, lr=1e-9, steps=10, batch_size=16)
    assert found.risks
    assert "but the network learns" not in found.text
    assert len(labels) == len(shuffled)
