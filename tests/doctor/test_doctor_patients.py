"""Patients with one planted fault each are told apart, and healthy networks are let go."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers.broken_networks import (
    HEALTHY,
    SICK,
    Patient,
    data,
    dense,
    healthy_small_rate,
    small,
    with_large_rate,
    with_zero_by_zero,
)
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.core.state import fingerprint
from probe.tools.doctor.checkup import collect_layer_stats, examine, make_plan
from probe.tools.doctor.diagnosis import Findings
from probe.tools.doctor.labels import outside, trivial_loss
from probe.tools.doctor.operations import first_bad
from probe.tools.doctor.registries import CAUSES
from probe.tools.doctor.report_sections import gradients_section, results
from probe.tools.doctor.training_run import judge, run_training


class Examined(NamedTuple):
    """What was found of a patient, and whether its module and torch's random state stayed as they were."""

    patient: Patient
    found: Findings
    unchanged: bool


@cache
def examined(make: Callable[[], Patient]) -> Examined:
    patient = make()
    before, state = fingerprint(patient.module), torch.get_rng_state()
    found = patient.examine()
    same = fingerprint(patient.module) == before and torch.equal(torch.get_rng_state(), state)
    return Examined(patient, found, same)


@pytest.mark.parametrize("make", SICK, ids=lambda make: make.__name__)
def test_the_planted_cause_is_the_first_and_only_one(make: Callable[[], Patient]) -> None:
    patient, found, unchanged = examined(make)
    assert found.cause == patient.cause
    assert [one.cause for one in found.faults] == [patient.cause]
    assert not found.healthy
    assert found.faults[0].advice
    assert any(letter.isdigit() for letter in found.faults[0].text)
    assert found.faults[0].text in found.text
    assert unchanged


@pytest.mark.parametrize("make", HEALTHY, ids=lambda make: make.__name__)
def test_a_healthy_network_has_no_fault(make: Callable[[], Patient]) -> None:
    patient = make()
    before = fingerprint(patient.module)
    found = patient.examine()
    assert found.healthy
    assert found.cause is None
    assert not found.risks
    assert found.text.startswith("No fault found in ")
    assert "would not have been" in found.text
    assert fingerprint(patient.module) == before


def test_a_better_rate_is_named_where_one_was_tried() -> None:
    """The rates are trained at again, one by one."""
    patient = healthy_small_rate()
    found = patient.examine()
    rate, after = re.search(r"learning rate of (\S+): to ([\d.e-]+), at 0.0002 to", found.text).groups()
    steps = found.evidence.sweep.steps
    losses = {}
    for lr in (2e-4, float(rate)):
        course = healthy_small_rate().examine(lr=lr, steps=steps).course
        losses[lr] = course.after
    assert losses[float(rate)] == pytest.approx(float(after), rel=0.02)
    assert losses[float(rate)] < losses[2e-4]
    assert "falls further" not in patient.examine(lr=float(rate)).text


def test_every_cause_has_a_patient_that_it_alone_explains() -> None:
    assert {make().cause for make in SICK} == set(CAUSES.names())


def test_what_is_named_is_where_it_was_planted() -> None:
    texts = {make.__name__: examined(make).found.faults[0].text for make in SICK}
    assert "images 37," in texts["with_nan_pixel"]
    assert "24 of 96 labels" in texts["with_label_outside"]
    assert "1 of the 576 values of 3.weight" in texts["with_nan_weight"]
    assert "sqrt in layer 2 (broken_networks.py, line" in texts["with_square_root_of_negatives"]
    assert "the gradient of sqrt in layer 2" in texts["with_root_at_zero"]
    assert "log (broken_networks.py, line" in texts["with_log_of_zero"]
    assert "1 of 1 divisors is 0" in texts["with_zero_by_zero"]
    assert "the largest float16 value is 6.55e+04" in texts["with_float16"]
    assert "8 of 16 units" in texts["with_low_biases"]


def test_consequences_are_not_causes() -> None:
    found = with_large_rate().examine()
    assert [one.cause for one in found.consequences] == ["dead-relus"]
    assert "possibly consequences of this: dead ReLUs" in found.text


def test_numbers_in_the_text_are_those_of_the_data() -> None:
    images, labels = data()
    found = examine(small(), images / 255, labels, steps=20, batch_size=16)
    text = next(one.text for one in found.all if one.cause == "input-scale")
    assert f"standard deviation {float((images / 255).double().std(correction=0)):.3g}" in text


def test_a_loss_that_fails_later_is_the_loss_where_it_was_falling() -> None:
    """1 − p of the label's class reaches 0 when the network is sure: the better it learns, the sooner."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        p = torch.softmax(20 * logits, 1)[torch.arange(len(labels)), labels]
        return F.cross_entropy(logits, labels) + 0 * torch.log((1 - p).round(decimals=3)).mean()

    found = examine(small(), *data(), loss=loss, lr=0.01, steps=40, batch_size=16)
    assert found.course is not None
    assert found.course.failed_at
    assert found.cause == "undefined-loss"


def test_an_exception_of_the_loss_leaves_the_module_as_it_was() -> None:
    module = small()
    calls = 0

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise RuntimeError("no more")
        return F.cross_entropy(logits, labels)

    before, state = fingerprint(module), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no more"):
        examine(module, *data(), loss=loss, batch_size=16)
    assert fingerprint(module) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_and_flags_of_the_caller_are_kept() -> None:
    module = small().eval()
    module[0].weight.requires_grad_(False)
    module[3].weight.grad = torch.ones_like(module[3].weight)
    kept = module[3].weight.grad
    before = fingerprint(module)
    examine(module, *data(), steps=3, batch_size=16, try_rates=False)
    assert fingerprint(module) == before
    assert module[3].weight.grad is kept
    assert bool((kept == 1).all())


def test_what_cannot_be_examined_is_refused() -> None:
    images, labels = data(8)
    with pytest.raises(UsageError, match="nothing to train"):
        examine(small().requires_grad_(False), images, labels)
    with pytest.raises(UsageError, match="8 images and 7 labels"):
        examine(small(), images, labels[:7])
    with pytest.raises(UsageError, match="not one number"):
        examine(small(), images, labels, loss=lambda x, y: F.cross_entropy(x, y, reduction="none"))
    with pytest.raises(UsageError, match="no optimiser 'adam'"):
        examine(small(), images, labels, optimiser="adam")
    with pytest.raises(UsageError, match="does not depend on the network"):
        examine(small(), images, labels, loss=lambda x, y: (0 * x.detach()).sum() + 1)


def test_the_users_optimiser_is_the_one_that_steps() -> None:
    made: list[float] = []

    def adagrad(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        made.append(lr)
        return torch.optim.Adagrad(parameters, lr)

    examine(small(), *data(), optimiser=adagrad, lr=0.02, steps=2, batch_size=16, try_rates=False)
    assert set(made) == {0.02}


def test_labels_that_a_loss_of_ones_own_takes_are_no_fault() -> None:
    """Ages from 20 to 50 in tens, with a network of four outputs: no classes."""
    images, labels = data()

    def loss(outputs: Tensor, ages: Tensor) -> Tensor:
        return F.mse_loss(outputs.mean(1), ages.float() / 50)

    found = examine(small(), images, 20 + 10 * labels, loss=loss, steps=20, batch_size=16)
    assert found.course is not None
    assert "labels" not in [one.cause for one in found.all if one.found]


def test_the_run_is_stochastic_gradient_descent() -> None:
    """Two steps by hand on a linear network, in float64."""
    images, labels = data(16)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    weight, bias = (one.detach().clone() for one in module.parameters())

    def plain(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr)

    plan = make_plan(module, images, labels, F.cross_entropy, 0.1, 2, plain, 16, "float32", 0)
    course = run_training(plan)
    x = images.double().flatten(1)
    for step in range(2):
        p = torch.softmax(x @ weight.T + bias, 1)
        assert course.losses[step] == pytest.approx(
            float(-p[torch.arange(16), labels].log().mean()), rel=1e-9
        )
        error = (p - F.one_hot(labels, 4)) / 16
        assert course.norms[step, 0] == pytest.approx(float((error.T @ x).norm()), rel=1e-9)
        weight, bias = weight - 0.1 * error.T @ x, bias - 0.1 * error.sum(0)
    p = torch.softmax(x @ weight.T + bias, 1)
    assert course.after == pytest.approx(float(-p[torch.arange(16), labels].log().mean()), rel=1e-9)


def test_the_census_by_hand() -> None:
    images, labels = data(16)
    module = small()
    plan = make_plan(module, images, labels, F.cross_entropy, None, 2, "sgd", 16, "float32", 0)
    seen = collect_layer_stats(plan)
    with torch.no_grad():
        first = module[0](images)
    fires = (first.relu() != 0).any(3).any(2).any(0)
    assert [one.name for one in seen.layers] == ["0", "3", "7"]
    assert seen.layers[0].rms == pytest.approx(float(first.double().square().mean().sqrt()), rel=1e-6)
    assert seen.layers[0].weight == pytest.approx(float(module[0].weight.detach().norm()), rel=1e-6)
    assert (seen.relus[0].name, seen.relus[0].dead, seen.relus[0].units) == ("1", int((~fires).sum()), 8)
    assert seen.shape == (16, 4)


def test_relus_that_are_functions_are_counted_too() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.a(x) - 1e6)).relu()  # type: ignore[no-any-return]

    plan = make_plan(
        Functional(), torch.rand(8, 4), torch.arange(8) % 2, F.cross_entropy, None, 2, "sgd", 4, "float32", 0
    )
    relus = collect_layer_stats(plan).relus
    assert (relus[0].dead, relus[0].units) == (3, 3)
    assert len(relus) == 2


@pytest.mark.parametrize(
    ("before", "after", "trivial", "outcome"),
    [
        (2.3, 1.0, 2.3, "learned"),
        (2.3, 2.29, 2.3, "stalled"),
        (3.0, 2.3, 2.3, "stalled"),
        (3.0, 2.3, None, "learned"),
        (0.1, 0.1, 2.3, "learned"),
        (2.3, 9.0, 2.3, "grew"),
        (2.3, math.nan, 2.3, "diverged"),
        (-1.0, -2.0, None, "learned"),
    ],
)
def test_what_a_loss_says_of_a_run(before: float, after: float, trivial: float | None, outcome: str) -> None:
    assert judge(before, after, False, trivial) == outcome


def test_labels_by_hand() -> None:
    assert trivial_loss(torch.tensor([0, 0, 1, 1])) == pytest.approx(math.log(2))
    assert trivial_loss(torch.tensor([0, 0, 0, 1, -100])) == pytest.approx(
        0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    )
    assert trivial_loss(torch.rand(4)) is None
    wrong = outside(torch.tensor([0, 3, 4, -1, -100]), (5, 4))
    assert wrong is not None
    assert wrong.tolist() == [4, -1]
    assert outside(torch.rand(4), (4, 3)) is None


def test_a_mask_of_minus_infinity_is_not_a_fault() -> None:
    """Attention masks are meant; the first operation that is not is the division after it."""
    module = nn.Linear(3, 3)
    x = torch.ones(2, 3)

    def loss(outputs: Tensor) -> Tensor:
        masked = outputs.masked_fill(torch.tensor([True, False, False]), float("-inf"))
        return masked.softmax(1).sum() / (outputs * 0).sum()

    found = first_bad(module, lambda: module(x), loss)
    assert found is not None
    assert (found.name, found.layer, found.singular) == ("truediv", None, True) or found.name == "div"
    assert found.place.startswith("test_doctor_patients.py, line")


def test_no_operation_is_blamed_where_all_is_finite() -> None:
    module = small()
    images, labels = data(8)
    assert first_bad(module, lambda: module(images), lambda out: F.cross_entropy(out, labels)) is None


def test_without_a_sweep_the_rate_is_only_probable() -> None:
    found = with_large_rate().examine(try_rates=False)
    assert found.cause in ("learning-rate", "dead-relus")
    rate = next(one for one in found.all if one.cause == "learning-rate")
    assert not rate.certain


def test_first_steps_that_fail_are_not_swept() -> None:
    evidence = with_zero_by_zero().examine().evidence
    assert evidence.sweep is None
    assert "before any update" in evidence.unswept


def test_saturation_is_seen_where_activations_are_functions() -> None:
    found = examine(dense(12, nn.Tanh, gain=0.05), *data(), optimiser="sgd", steps=20, batch_size=16)
    assert found.cause == "vanishing-gradients"


def test_the_gradients_ratio_is_of_the_first_layer_over_the_last_and_small_where_they_vanish() -> None:
    found = examine(dense(12, nn.Sigmoid), *data(), optimiser="sgd", steps=20, batch_size=16)
    shares = [share for _, _, share in found.evidence.gradients]
    assert shares[0] < 1e-4 * shares[-1]
    words = gradients_section(found).summary.lower()
    assert "first layer's gradient norm over the last layer's" in words
    assert f": {shares[0] / shares[-1]:.2g}. " in words
    (number,) = (result for result in results(found) if result.name == "gradient_first_to_last_layer")
    assert number.value == shares[0] / shares[-1]


def test_what_is_unusual_and_does_no_harm_is_a_risk() -> None:
    """Batch normalisation takes the scale of the pixels away."""
    images, labels = data()
    patient = Patient("input-scale", HEALTHY[1]().module, 50 * images + 120, labels, {"optimiser": "sgd"})
    found = patient.examine()
    assert not found.faults
    assert [one.cause for one in found.risks] == [found.cause] == ["input-scale"]
    assert not found.healthy
    assert found.text.startswith("No fault found")
    assert "unusual" in found.text


def test_labels_without_a_pattern_are_not_explained() -> None:
    """Nothing can be learned of them; the answer is that none of the causes explains it."""
    images, _ = data()
    labels = torch.randint(0, 4, (len(images),), generator=torch.Generator().manual_seed(3))
    found = examine(small(), images, labels, steps=10, batch_size=16)
    assert found.cause is None
    assert not found.healthy
    assert "does not learn" in found.text
    assert "none of the" in found.text
