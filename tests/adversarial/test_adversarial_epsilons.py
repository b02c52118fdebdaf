"""Which attack is made at which epsilon, and which epsilons are reported."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from helpers.adversarial_networks import batch, trained
from helpers.adversarial_runs import NONE, QUICK, image_set, model_of, study, value
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.attacks.base import Attack, AttackInputs
from probe.attacks.families.apgd import ApgdCE, ApgdT
from probe.attacks.families.ensembles import Rand
from probe.attacks.families.gradient import FGSM, PGD
from probe.attacks.families.noise import Noise
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS
from probe.attacks.select import SelectedAttack
from probe.core.blocks import Table
from studies.adversarial import AdversarialConfig, ComparisonModels
from studies.adversarial.attack_run import AttackRun, make_task
from studies.adversarial.engine import BatchAttack
from studies.adversarial.microbatch import MicroBatcher
from studies.adversarial.outcome import Outcome
from studies.adversarial.refine import ACCURACY, END, RefineInputs, leapt
from studies.adversarial.results import Results
from studies.adversarial.study import examine


def attacks_made(
    monkeypatch: pytest.MonkeyPatch,
    attack: Attack,
    epsilons: tuple[float, ...],
    norm: str,
) -> dict[float, tuple[Attack, int]]:
    """The attack that was made at each epsilon, in that order, and on how many images."""
    attacks: dict[float, tuple[Attack, int]] = {}
    plain = Attack.run

    def run(self: Attack, inputs: AttackInputs) -> Tensor:
        if type(self) is type(attack):
            attacks[inputs.epsilon] = self, len(inputs.images)
        return plain(self, inputs)

    monkeypatch.setattr(Attack, "run", run)
    images, labels = batch(n=8)
    task = make_task(epsilons, NORMS[norm], (1, 8, 8), 0)
    bench = BatchAttack(AttackedModel(trained()), images, labels, None, task, MicroBatcher(8), "test")
    dict(bench.run([SelectedAttack("it", "it", attack)]))
    return attacks


@pytest.mark.parametrize(
    ("attack", "epsilons", "norm"),
    [
        (ApgdT(steps=6, classes=2), (0.002, 0.005, 0.01), "Linf"),
        (ApgdCE(steps=10), (0.04, 0.08, 0.12), "Linf"),
        (PGD(steps=6, restarts=2), (1.0, 2.0, 3.0), "L0"),
        (Rand(steps=6, eot=1), (0.002, 0.005, 0.01), "Linf"),
        (PGD(steps=10), (0.04,), "Linf"),
    ],
)
def test_at_every_epsilon_attacks_are_made_in_full_from_the_largest_on(
    monkeypatch: pytest.MonkeyPatch, attack: Attack, epsilons: tuple[float, ...], norm: str
) -> None:
    made = attacks_made(monkeypatch, attack, epsilons, norm)
    assert {kind for kind, _ in made.values()} == {attack}
    assert len(made) > 1
    below = [epsilon for epsilon in made if epsilon <= epsilons[-1]]
    assert below == sorted(below, reverse=True)
    assert below[0] == epsilons[-1]


def test_what_resists_one_epsilon_is_attacked_at_smaller_ones_only_where_that_is_no_waste(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    epsilons = (0.001, 0.002)
    with monkeypatch.context() as patch:
        assert set(attacks_made(patch, PGD(steps=10), epsilons, "Linf")) == {0.002}
    with monkeypatch.context() as patch:
        made = attacks_made(patch, FGSM(), epsilons, "Linf")
    assert {epsilon: n for epsilon, (_, n) in made.items()} == {0.002: 8, 0.001: 8}
    assert not PGD(steps=3).rules_out_smaller
    assert not PGD(stop=False).rules_out_smaller


CASES: list[tuple[tuple[str, ...], str, tuple[float, ...]]] = [
    ((), "Linf", (0.05, 0.08, 0.12, 0.15, 0.2)),
    (("pgd",), "Linf", (0.05, 0.08, 0.12, 0.15, 0.2)),
    (("fgsm",), "Linf", (0.02, 0.05, 0.1, 0.2, 0.5)),
    (("pgd",), "L2", (0.2, 0.4, 0.6, 0.8, 1.0)),
]


@pytest.mark.parametrize(("attacks", "norm", "epsilons"), CASES)
def test_every_point_of_the_curve_is_that_of_a_run_that_reports_it(
    attacks: tuple[str, ...], norm: str, epsilons: tuple[float, ...]
) -> None:
    """Within one image; and the quartiles do not depend on the epsilons, within the stated accuracy."""
    config = AdversarialConfig(norm=norm, attacks=attacks, views=("curve",), checks=NONE)

    def results(*chosen: float) -> Results:
        return examine(model_of(), image_set(60), dataclasses.replace(config, epsilons=chosen))[1].results

    together = results(*epsilons)
    from_below = results(epsilons[0])  # larger ones are added until nothing resists
    counts, refined = [], []
    for epsilon in epsilons:
        single = results(epsilon)
        counts.append(int(single.robust(single.worst, epsilon).sum()))
        refined.append(single.quartiles(single.worst))
        for other in (together, from_below):
            robust = int(other.robust(other.worst, epsilon).sum())
            if other is together or epsilon in other.epsilons:
                assert abs(robust - counts[-1]) <= 1
    assert len(set(counts)) >= 3
    if attacks != ("fgsm",):  # overshoots, so that its sizes are bounds from the epsilons alone
        for quartiles in [*refined, from_below.quartiles(from_below.worst)]:
            expected = together.quartiles(together.worst)
            # An epsilon asked for alone is followed by larger ones, which break more images.
            pairs = [(a, b) for a, b in zip(quartiles, expected, strict=True) if math.isfinite(b)]
            assert len(pairs) >= 2
            assert [a for a, _ in pairs] == pytest.approx([b for _, b in pairs], rel=ACCURACY)


def linear_network(norm: str) -> tuple[AttackedModel, Tensor, Tensor, NDArray[Any]]:
    """A linear network of two classes, images far from the edges of the pixel range, labels, and distances.

    The distances are closed forms: |w·x + b| over the dual norm of w.
    """
    draws = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 16, generator=draws)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network[1].weight.copy_(weights)
        network[1].bias.copy_(-0.5 * weights.sum(1))
    images = 0.5 + 0.05 * torch.randn(24, 1, 4, 4, generator=draws)
    model = AttackedModel(network.eval())
    logits = model.verdict(images)
    normal = weights[0] - weights[1]
    length = normal.abs().sum() if norm == "Linf" else normal.norm()
    distances = ((logits[:, 0] - logits[:, 1]).abs() / length).numpy()
    return model, images, logits.argmax(1), distances


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_leap_lands_in_the_smallest_ball_that_holds_an_adversarial_image(norm: str) -> None:
    model, images, labels, distances = linear_network(norm)
    order = np.sort(distances)
    # Each radius is at least 5% away from every distance.
    gaps = np.flatnonzero(order[1:] > 1.11 * order[:-1])[:6]
    radii = [float(np.sqrt(order[gap] * order[gap + 1])) for gap in gaps] + [float(order[-1] * 1.5)]
    assert len(radii) >= 4
    inputs = RefineInputs(model, images, labels, None, NORMS[norm])
    weight = dict(model.module.named_parameters())["1.weight"].detach()
    towards = torch.where(labels[:, None] == 0, weight[1] - weight[0], weight[0] - weight[1])
    known = images + radii[-1] * NORMS[norm].steepest(towards.reshape(images.shape))
    size = NORMS[norm].size(known - images)
    found, sizes = leapt(inputs, known, size, radii)
    assert bool((model.verdict(found).argmax(1) != labels).all())
    assert sizes.tolist() == pytest.approx(NORMS[norm].size(found - images).tolist())
    ball = np.searchsorted(radii, distances)
    assert (np.searchsorted(np.array(radii) * (1 + 1e-5), sizes.numpy()) == ball).all()
    assert len(set(ball.tolist())) >= 4


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("epsilons", [(0.3,), (0.02, 0.3), (0.05, 0.1, 0.2, 0.4)])
def test_the_smallest_perturbations_of_a_linear_network_are_its_distances(
    norm: str, epsilons: tuple[float, ...]
) -> None:
    """In closed form."""
    model, images, labels, distances = linear_network(norm)
    task = make_task(epsilons, NORMS[norm], (1, 4, 4), 0)
    bench = BatchAttack(model, images, labels, None, task, MicroBatcher(8), "test")
    worst = dict(bench.run([SelectedAttack("pgd", "pgd", PGD())]))["worst"]
    reached = distances < 0.95 * epsilons[-1]
    assert reached.sum() >= 12
    assert (worst.smallest >= distances * (1 - 1e-4) - 1e-7).all()
    # At distances near 0, rounding is all that is left to find.
    assert (worst.smallest[reached] <= distances[reached] * (1 + END) + 1e-6).all()
    for epsilon in (*task.epsilons, *task.extra_epsilons):
        clear = np.abs(distances - epsilon) > END * epsilon
        np.testing.assert_array_equal(worst.success(epsilon)[clear], (distances <= epsilon)[clear])


def test_what_was_broken_before_is_counted_and_not_attacked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a linear network; at the reported epsilon only, and each attack counts what those before it broke."""
    model, images, labels, distances = linear_network("Linf")
    reported = float(np.quantile(distances, 0.75))
    within, beyond = np.flatnonzero((distances > 0) & (distances < 0.5 * reported))[:2]
    before = Outcome.blank(len(images))
    before.smallest[within], before.smallest[beyond] = 0.9 * reported, 1.1 * reported
    task = dataclasses.replace(make_task((reported,), NORMS["Linf"], (1, 4, 4), 0), epsilons=(reported,))
    bench = BatchAttack(model, images, labels, None, task, MicroBatcher(8), "test", before=before)
    attacked: Counter[type[Attack]] = Counter()
    plain = Attack.run

    def run(self: Attack, inputs: AttackInputs) -> Tensor:
        attacked[type(self)] += len(inputs.images) if inputs.epsilon == reported else 0
        return plain(self, inputs)

    monkeypatch.setattr(Attack, "run", run)
    first, second = SelectedAttack("pgd", "pgd", PGD()), SelectedAttack("noise", "noise", Noise())
    outcomes = dict(bench.run([first, second]))
    pgd, noise = outcomes["pgd"], outcomes["noise"]
    assert pgd.smallest[within] == np.float32(0.9 * reported)
    assert pgd.smallest[beyond] <= distances[beyond] * (1 + END) + 1e-6
    assert (noise.success(reported) >= pgd.success(reported)).all()
    assert attacked == {PGD: len(images) - 1, Noise: int((~pgd.success(reported)).sum())}


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
