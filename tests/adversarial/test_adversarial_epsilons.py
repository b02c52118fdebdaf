"""Which attack is made at which epsilon, and which epsilons are reported."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.adversarial_networks import batch, trained
from helpers.adversarial_runs import NONE, QUICK, image_set, model_of, study, value
from torch import Tensor

from probe.attacks.base import Attack, AttackInputs
from probe.attacks.families.apgd import ApgdCE, ApgdT
from probe.attacks.families.ensembles import Rand
from probe.attacks.families.gradient import PGD
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS
from probe.attacks.select import SelectedAttack
from probe.core.document import Table
from studies.adversarial import ComparisonModels
from studies.adversarial.attack_run import AttackRun, make_task
from studies.adversarial.engine import BatchAttack
from studies.adversarial.microbatch import MicroBatcher
from studies.adversarial.results import Results


def attacks_tried(
    monkeypatch: pytest.MonkeyPatch,
    attack: Attack,
    epsilons: tuple[float, ...],
    norm: str,
    targets: Tensor | None,
) -> dict[float, Attack]:
    """The attack that was made at each epsilon."""
    attacks: dict[float, Attack] = {}
    plain = Attack.run

    def run(self: Attack, inputs: AttackInputs) -> Tensor:
        if type(self) is type(attack):
            attacks[inputs.epsilon] = self
        return plain(self, inputs)

    monkeypatch.setattr(Attack, "run", run)
    images, labels = batch(n=8)
    task = make_task(epsilons, NORMS[norm], (1, 8, 8), 0)
    bench = BatchAttack(AttackedModel(trained()), images, labels, targets, task, MicroBatcher(8), "test")
    dict(bench.run([SelectedAttack("it", "it", attack)]))
    return attacks


@pytest.mark.parametrize(
    ("attack", "epsilons", "norm"),
    [
        (ApgdT(steps=6, classes=2), (0.01, 0.02, 0.03), "Linf"),
        (PGD(steps=6, restarts=2), (1.0, 2.0, 3.0), "L0"),
        (Rand(steps=6, eot=1), (0.01, 0.02, 0.03), "Linf"),
    ],
)
def test_attacks_that_begin_anew_are_made_in_full_where_it_was_asked(
    monkeypatch: pytest.MonkeyPatch, attack: Attack, epsilons: tuple[float, ...], norm: str
) -> None:
    assert not attack.can_warm_start(NORMS[norm], None)
    found = attacks_tried(monkeypatch, attack, epsilons, norm, None)
    assert found == dict.fromkeys(epsilons, attack)


def test_attacks_that_go_on_are_shortened_below_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    _, labels = batch(n=8)
    for attack, targets in (
        (PGD(steps=10), None),
        (ApgdCE(steps=10), None),
        (ApgdT(steps=10), (labels + 1) % 10),
    ):
        assert attack.can_warm_start(NORMS["Linf"], targets)
        found = attacks_tried(monkeypatch, attack, (0.01, 0.02, 0.03), "Linf", targets)
        assert [getattr(found[epsilon], "steps", 0) for epsilon in (0.01, 0.02, 0.03)] == [5, 4, 10]


def test_on_a_curve_that_was_not_asked_for_all_are_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    found = attacks_tried(monkeypatch, ApgdT(steps=10, classes=2), (0.04,), "Linf", None)
    assert found.pop(0.04) == ApgdT(steps=10, classes=2)
    assert {getattr(attack, "steps", 0) for attack in found.values()} == {4}


@pytest.mark.parametrize("attacks", [("deepfool",), ("fab", "pgd")])
def test_epsilon_zero_with_a_minimum_norm_attack_is_clean_accuracy(attacks: tuple[str, ...]) -> None:
    config = dataclasses.replace(QUICK, epsilons=(0.0,), norm="L2", attacks=attacks, steps=None)
    report = study(config)
    assert value(report, "robust_accuracy") == value(report, "clean_accuracy") > 0
    assert report.config["epsilons"] == [0.0]


def test_epsilons_at_which_nothing_is_tried_are_not_reported() -> None:
    config = dataclasses.replace(QUICK, epsilons=(0.02,), attacks=("noise",), views=("curve",), checks=NONE)
    report = study(config)
    assert value(report, "robust_accuracy") > 0
    assert max(report.config["epsilons"]) == 0.02
    assert "the largest epsilon tried" in report.sections[0].summary
    more = study(dataclasses.replace(config, attacks=("noise", "fgsm")))
    assert max(more.config["epsilons"]) > 0.02
    config = dataclasses.replace(config, norm="L2", attacks=("deepfool",), steps=None)
    assert max(study(config).config["epsilons"]) > 0.02


@pytest.mark.parametrize("epsilons", [(0.03,), (0.02, 0.05)])
def test_both_networks_are_attacked_alike(
    monkeypatch: pytest.MonkeyPatch, epsilons: tuple[float, ...]
) -> None:
    """A network against itself: not one number differs, the passes included."""
    found: list[Results] = []
    plain = AttackRun.run

    def run(self: AttackRun) -> Results:
        found.append(plain(self))
        return found[-1]

    monkeypatch.setattr(AttackRun, "run", run)
    config = dataclasses.replace(
        QUICK, epsilons=epsilons, attacks=("apgd-ce", "apgd-t?classes=2"), views=("against",), checks=NONE
    )
    report = study(config, image_set(16), others=ComparisonModels(against=model_of(name="itself")))
    ours, theirs = found
    assert ours.epsilons == theirs.epsilons
    for name in ours.attacks:
        np.testing.assert_array_equal(ours.attacks[name].smallest, theirs.attacks[name].smallest)
        assert ours.attacks[name].queries == theirs.attacks[name].queries
    np.testing.assert_array_equal(ours.worst.smallest, theirs.worst.smallest)
    table = next(b for b in report.sections[0].blocks if isinstance(b, Table))
    names = [column.name for column in table.columns]
    assert len(table.rows) == len(ours.epsilons)
    for row in table.rows:
        by_name = dict(zip(names, row, strict=True))
        assert by_name["Difference"] == by_name["Only first"] == by_name["Only second"] == 0
        assert by_name["p"] == 1
