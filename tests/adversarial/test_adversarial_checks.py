"""Every validity check fires on something broken on purpose, and none on a healthy network."""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from helpers.adversarial_networks import (
    Careless,
    Constant,
    Denoising,
    Narrow,
    NoRunningStatistics,
    OnlyAtGreyLevels,
    Recalling,
    Refusing,
    Rounded,
    Saturated,
    Smoothed,
    Softmax,
    StraightThrough,
    Stuck,
    Thermometer,
    TwoFaced,
    Wrapped,
    batch,
    digits,
    evidence_of,
    trained,
)
from torch import Tensor, nn

from probe.attacks.families.gradient import PGD, Trace
from probe.attacks.select import SelectedAttack
from probe.core.document import Check
from probe.core.errors import NotApplicableError
from probe.core.state import fingerprint
from studies.adversarial.checks.incomplete_optimisation import last_rises
from studies.adversarial.checks.zero_epsilon import shorten
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

WEAK = "pgd?steps=2&step=0.05"
HEALTHY, LARGE = 0.1, 0.4

Make = Callable[[], Evidence]


def zeros() -> tuple[Tensor, Tensor]:
    """Twenty digits 0."""
    images, labels = digits()
    rows = (labels == 0).nonzero()[-20:, 0]
    return images[rows], labels[rows]


def in_train_mode() -> Evidence:
    network = Wrapped()
    network.train()
    return evidence_of(network)


def fabricated() -> Evidence:
    """A run in which attacks of another library returned something else than what they found."""
    evidence = evidence_of(Wrapped())
    outcomes = {
        name: dataclasses.replace(outcome, totals=outcome.totals + np.array([0, 0, 0, 3]))
        for name, outcome in evidence.results.attacks.items()
    }
    results = dataclasses.replace(evidence.results, attacks=outcomes)
    return dataclasses.replace(evidence, space=dataclasses.replace(evidence.space, results=results))


def assumed() -> Evidence:
    """A run of a network whose normalisation is not known."""
    evidence = evidence_of(Wrapped())
    run = evidence.space.run
    model = dataclasses.replace(run.model, assumed=("normalisation",))
    space = dataclasses.replace(evidence.space, run=dataclasses.replace(run, model=model))
    return dataclasses.replace(evidence, space=space)


def careless() -> Evidence:
    return evidence_of(Wrapped(), ["pgd"], own=[SelectedAttack("careless", "careless", Careless())])


MADE: dict[str, Make] = {
    "rounded": lambda: evidence_of(Rounded()),
    "rounded, weak attack": lambda: evidence_of(Rounded(), ["pgd?steps=2"], 0.25),
    "straight through": lambda: evidence_of(StraightThrough()),
    "saturated": lambda: evidence_of(Saturated()),
    "saturated, only cross-entropy": lambda: evidence_of(Saturated(), ["pgd"]),
    "smoothed": lambda: evidence_of(Smoothed()),
    "smoothed, last iterate": lambda: evidence_of(Smoothed(), ["mifgsm"], 0.15),
    "softmax": lambda: evidence_of(Softmax()),
    "denoising": lambda: evidence_of(Denoising()),
    "two-faced": lambda: evidence_of(TwoFaced()),
    "gradient only at grey levels": lambda: evidence_of(OnlyAtGreyLevels()),
    "thermometer": lambda: evidence_of(Thermometer()),
    "recalling": lambda: evidence_of(Recalling()),
    "refusing": lambda: evidence_of(Refusing(), data=zeros()),
    "narrow": lambda: evidence_of(Narrow(), ["pgd"]),
    "constant": lambda: evidence_of(Constant(), data=zeros()),
    "train mode": in_train_mode,
    "assumed": assumed,
    "no running statistics": lambda: evidence_of(NoRunningStatistics()),
    "stuck in train mode": lambda: evidence_of(Stuck()),
    "fabricated": fabricated,
    "careless attack": careless,
    "few steps": lambda: evidence_of(Wrapped(), [WEAK]),
    "fgsm": lambda: evidence_of(Wrapped(), ["fgsm"], 0.15),
    "noise alone": lambda: evidence_of(Wrapped(), ["noise"], LARGE),
    "two classes": lambda: evidence_of(Wrapped(trained(2)), ["apgd-dlr"], data=batch(2)),
    "three classes": lambda: evidence_of(Wrapped(trained(3)), ["apgd-t"], data=batch(3)),
}
"""What is broken, and the evidence on it."""

CONTROLS: dict[str, list[str]] = {
    "assumed-preprocessing": ["assumed"],
    "batch-dependence": ["no running statistics"],
    "black-box-beats-white-box": ["rounded", "thermometer", "gradient only at grey levels", "few steps"],
    "gradient-free": ["rounded", "thermometer", "gradient only at grey levels"],
    "incomplete-optimisation": ["narrow", "few steps"],
    "inner-optimisation": ["denoising"],
    "more-steps": ["few steps", "saturated, only cross-entropy"],
    "random-noise": ["rounded, weak attack"],
    "randomised-forward": ["smoothed"],
    "reference-attack": ["fgsm", "few steps", "noise alone", "saturated, only cross-entropy"],
    "rising-epsilon": ["recalling"],
    "silent-success": ["fabricated", "smoothed, last iterate"],
    "single-step": ["gradient only at grey levels", "few steps"],
    "softmax-output": ["softmax"],
    "too-few-classes": ["two classes", "three classes"],
    "train-mode": ["train mode", "stuck in train mode"],
    "transfer-failure": ["two-faced"],
    "unavailable-gradients": ["rounded", "gradient only at grey levels", "constant"],
    "unbounded": ["refusing", "constant"],
    "unconstrained-failure": ["refusing", "rounded", "constant"],
    "unstable-predictions": ["rounded", "straight through", "smoothed", "thermometer"],
    "zero-epsilon": ["careless attack"],
    "zero-gradients": ["rounded", "saturated", "saturated, only cross-entropy", "constant"],
}
"""On what each check has to fire."""

WARNS = {
    ("zero-gradients", "saturated"),
    ("inner-optimisation", "denoising"),
    ("assumed-preprocessing", "assumed"),
    ("silent-success", "fabricated"),
    ("silent-success", "smoothed, last iterate"),
    ("too-few-classes", "two classes"),
    ("too-few-classes", "three classes"),
    ("train-mode", "train mode"),
    ("unstable-predictions", "rounded"),
    ("unstable-predictions", "straight through"),
    ("unstable-predictions", "thermometer"),
    ("zero-epsilon", "careless attack"),
    ("incomplete-optimisation", "narrow"),
}
"""Those of them in which the numbers may hold; the others fail."""


@cache
def evidence_for(name: str) -> Evidence:
    return MADE[name]()


def outcome(name: str, evidence: Evidence) -> Check | None:
    try:
        return CHECKS.get(name)(evidence)
    except NotApplicableError as error:
        if not str(error).endswith("."):
            raise
        return None


def fired(evidence: Evidence) -> dict[str, str]:
    """The checks that did not pass, with their details."""
    checks = {name: outcome(name, evidence) for name in CHECKS.names()}
    return {name: f"{c.status}: {c.detail}" for name, c in checks.items() if c and c.status != "pass"}


def test_every_check_has_a_control() -> None:
    assert set(CHECKS.names()) == set(CONTROLS)
    assert all(CONTROLS.values())
    assert {name for names in CONTROLS.values() for name in names} == set(MADE)
    assert all(control in CONTROLS[check] for check, control in WARNS)


@pytest.mark.parametrize(("name", "control"), [(n, c) for n, cs in CONTROLS.items() for c in cs])
def test_checks_fire_on_what_is_broken(name: str, control: str) -> None:
    check = outcome(name, evidence_for(control))
    assert check is not None
    assert check.status == ("warn" if (name, control) in WARNS else "fail"), check.detail
    well_formed(check)


def well_formed(check: Check) -> None:
    """A finite value, and one sentence with its numbers and, when it did not pass, what to do."""
    assert isinstance(check.value, bool | int | float | str)
    assert math.isfinite(float(check.value))
    assert check.detail.endswith(".")
    assert not check.detail.endswith("..")
    assert ". " not in check.detail
    assert "\n" not in check.detail
    assert check.name[0].isupper()
    if check.status != "pass":
        assert any(character.isdigit() for character in check.detail)
        assert ": " in check.detail or " so " in check.detail


@pytest.mark.parametrize("epsilon", [0.05, HEALTHY, 0.15, LARGE])
def test_no_check_fires_on_a_healthy_network(epsilon: float) -> None:
    evidence = evidence_of(Wrapped(), epsilon=epsilon)
    broken = int(evidence.chosen.sum())
    assert (broken == evidence.n == 16) if epsilon == LARGE else (0 < broken < evidence.n == 16)
    assert fired(evidence) == {}
    for name in CHECKS.names():
        check = outcome(name, evidence)
        assert check is not None
        well_formed(check)


@pytest.mark.parametrize(
    ("attacks", "epsilon", "norm"),
    [
        (("apgd-ce", "apgd-dlr"), 0.6, "L2"),
        (("apgd-ce", "apgd-dlr"), 2.0, "L1"),
        (("sigma-zero?steps=300", "fmn?steps=300"), 3.0, "L0"),
        (("fab", "deepfool"), 0.1, "Linf"),
        (("standard?steps=10&queries=100",), 0.1, "Linf"),
        (("pgd",), 0.1, "Linf"),
    ],
)
def test_no_check_fires_on_it_with_other_norms_and_attacks(
    attacks: tuple[str, ...], epsilon: float, norm: str
) -> None:
    evidence = evidence_of(Wrapped(), attacks, epsilon, norm=norm)
    assert 0 < int(evidence.chosen.sum()) < evidence.n
    assert fired(evidence) == {}


def test_a_weak_attack_in_l0_is_called_weak_and_gradients_are_not_blamed() -> None:
    """PGD's step in L0 is no good one: σ-zero and a search without gradients go further."""
    found = fired(evidence_of(Wrapped(), ("pgd?steps=150&restarts=3&loss=margin",), 3.0, norm="L0"))
    assert set(found) == {"black-box-beats-white-box"}
    assert "σ-zero breaks these too" in found["black-box-beats-white-box"]
    assert "sigma-zero" in found["black-box-beats-white-box"]


def test_no_check_fires_with_targets_or_reduced_precision() -> None:
    targets = (batch()[1] + 1) % 10
    assert fired(evidence_of(Wrapped(), epsilon=0.2, targets=targets)) == {}
    assert fired(evidence_of(Wrapped(), bf16=True)) == {}


def test_where_everything_is_broken_nothing_is_said_to_be_hidden() -> None:
    evidence = evidence_of(Wrapped(), epsilon=LARGE)
    for name in (
        "black-box-beats-white-box",
        "gradient-free",
        "more-steps",
        "reference-attack",
        "incomplete-optimisation",
        "random-noise",
    ):
        check = outcome(name, evidence)
        assert check is not None
        assert "all 16 images" in check.detail.lower()
    # A network that gives probabilities and is broken all the same cannot be less robust than 0.
    check = outcome("softmax-output", evidence_of(Softmax(), epsilon=LARGE))
    assert check is not None
    assert check.status == "warn"


def test_averaged_gradients_soften_what_is_said_about_chance() -> None:
    evidence = evidence_of(Smoothed(), ["rand?steps=10&eot=3"])
    for name in ("randomised-forward", "unstable-predictions"):
        check = outcome(name, evidence)
        assert check is not None
        assert check.status == "warn"


def test_a_weak_attack_is_not_taken_for_masked_gradients() -> None:
    evidence = evidence_for("few steps")
    assert fired(evidence).keys().isdisjoint({"gradient-free", "unavailable-gradients", "zero-gradients"})
    check = outcome("black-box-beats-white-box", evidence)
    assert check is not None
    assert "a plain PGD breaks these too" in check.detail


@pytest.mark.parametrize("epsilon", [HEALTHY, 0.0])
def test_without_a_sample_or_an_epsilon_only_bookkeeping_is_checked(epsilon: float) -> None:
    images, labels = batch()
    data = (images, (trained()(images).argmax(1) + 1) % 10 if epsilon else labels)
    evidence = evidence_of(Wrapped(), epsilon=epsilon, data=data)
    assert (evidence.n == 0) == (epsilon > 0)
    applied = {name for name in CHECKS.names() if outcome(name, evidence) is not None}
    assert applied == {
        "silent-success",
        "too-few-classes",
        "train-mode",
        "assumed-preprocessing",
        "batch-dependence",
    }


def test_one_image_is_enough_to_fire() -> None:
    images, labels = zeros()
    evidence = evidence_of(Refusing(), data=(images[:1], labels[:1]))
    assert evidence.n == 1
    check = outcome("unconstrained-failure", evidence)
    assert check is not None
    assert check.status == "fail"


def test_targets_leave_guessing_out() -> None:
    evidence = evidence_of(Wrapped(), ["pgd"], targets=(batch()[1] + 1) % 10)
    assert outcome("unbounded", evidence) is None
    assert outcome("too-few-classes", evidence) is None
    assert outcome("unconstrained-failure", evidence) is not None


def test_checks_agree_with_themselves() -> None:
    for kind in (Wrapped, Smoothed):
        first, second = evidence_of(kind()), evidence_of(kind())
        assert [outcome(name, first) for name in CHECKS.names()] == [
            outcome(name, second) for name in reversed(CHECKS.names())
        ][::-1]


@pytest.mark.parametrize("kind", [Wrapped, Smoothed, Denoising, Rounded, TwoFaced])
def test_checks_leave_everything_as_it_was(kind: type[nn.Module]) -> None:
    network = kind()
    evidence = evidence_of(network)
    before = fingerprint(network), evidence.images.clone()
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    profile = sys.getprofile()
    fired(evidence)
    assert fingerprint(network) == before[0]
    assert torch.equal(evidence.images, before[1])
    assert not evidence.images.requires_grad
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]
    assert sys.getprofile() is profile


class Failing(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] == 1:
            raise ArithmeticError("no single images")
        return super().forward(x)


@pytest.fixture
def profile() -> Iterator[Callable[..., None]]:
    """A profile function of somebody else that is set."""

    class Counting:
        calls = 0

        def __call__(self, *_: Any) -> None:
            type(self).calls += 1

    before = sys.getprofile()
    counting = Counting()
    sys.setprofile(counting)
    try:
        yield counting
    finally:
        sys.setprofile(before)


def test_a_profile_function_goes_on_and_comes_back(profile: Any) -> None:
    evidence = evidence_of(Denoising(), ["fgsm"])
    before = type(profile).calls
    check = outcome("inner-optimisation", evidence)
    assert check is not None
    assert check.value == 2
    assert sys.getprofile() is profile
    assert type(profile).calls > before
    run = dataclasses.replace(evidence.space.run, attacked=failing_model())
    failing = dataclasses.replace(evidence, space=dataclasses.replace(evidence.space, run=run))
    with pytest.raises(ArithmeticError):
        outcome("inner-optimisation", failing)
    assert sys.getprofile() is profile


def failing_model() -> Any:
    model = copy.copy(evidence_of(Wrapped(), ["fgsm"]).model)
    model.module = Failing()
    return model


def test_rises_of_known_losses() -> None:
    steps = torch.arange(41.0)
    climbing, settled = steps, 1 - 0.5**steps
    swinging = torch.where(steps < 20, steps, 20.0 + (-1.0) ** steps)
    flat = torch.full_like(steps, 3.0)
    dropped = torch.where(steps < 5, steps, torch.nan)
    losses = torch.stack([climbing, settled, swinging, flat, dropped], dim=1)
    rises = last_rises(Trace(losses=list(losses)))
    assert rises[:4].tolist() == pytest.approx([0.25, 0, 0, 0], abs=1e-6)
    assert rises[4].isnan()
    short = last_rises(Trace(losses=list(steps[:3, None])))
    assert short.tolist() == [1.0]


def test_attacks_are_shortened_and_otherwise_the_same() -> None:
    assert shorten(PGD(steps=100, restarts=5, step=0.1, eot=20)) == PGD(steps=3, restarts=1, step=0.1, eot=1)
    assert shorten(PGD(steps=2)) == PGD(steps=2)
    assert shorten(Careless()) == Careless()


def test_a_reference_that_still_climbs_is_no_fault_of_another_attack() -> None:
    check = CHECKS.get("incomplete-optimisation")(evidence_of(Narrow(), ["apgd-ce", "apgd-dlr"]))
    assert check.status == "pass"
    assert isinstance(check.value, int)
    assert check.value > 0
    assert "a longer run breaks nothing" in check.detail
