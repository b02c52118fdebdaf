"""AutoAttack: the published members in their order, each on what the ones before it have left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from helpers.attack_scenes import LINF, TWO, rng, small_batch, small_net
from torch import Tensor

from probe.attacks.base import Attack, AttackInputs, Traits
from probe.attacks.families.apgd import ApgdCE, ApgdDLR, ApgdT
from probe.attacks.families.ensembles import Plus, Rand, Standard, _Ensemble
from probe.attacks.families.fab import Fab, FabT
from probe.attacks.families.square import Square
from probe.attacks.model import AttackedModel

SHORT = Standard(steps=12, classes=3, queries=40)
EPSILON = 0.1


def model() -> AttackedModel:
    return AttackedModel(small_net())


def survivors(found: Tensor) -> set[int]:
    labels = small_batch()[1]
    return set((model().verdict(found).argmax(1) == labels).nonzero()[:, 0].tolist())


@contextmanager
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """Note which attack is run on how many images."""
    notes: list[tuple[str, int]] = []
    plain = Attack.run

    def run(self: Attack, inputs: AttackInputs) -> Tensor:
        notes.append((type(self).__name__, len(inputs.images)))
        return plain(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(Attack, "run", run)
        yield notes


def test_standard_has_the_published_members() -> None:
    # Croce and Hein 2020, section 5: 100 steps, one restart, 9 targets, 5000 queries; alpha, beta, eta of FAB
    # 0.1, 0.9, 1.05; p of Square 0.8; rho of APGD 0.75.
    members = list(Standard().members())
    assert [type(member) for member in members] == [ApgdCE, ApgdT, FabT, Square]
    ce, targeted, fab, square = members
    assert (ce.steps, ce.restarts, ce.rho, ce.eot) == (100, 1, 0.75, 1)
    assert (targeted.steps, targeted.restarts, targeted.rho, targeted.classes) == (100, 1, 0.75, 9)
    assert targeted.loss == "dlr"
    assert (fab.steps, fab.restarts, fab.classes) == (100, 1, 9)
    assert (fab.alpha, fab.beta, fab.eta) == (0.1, 0.9, 1.05)
    assert (square.queries, square.p, square.rescale) == (5000, 0.8, False)


def test_rand_has_the_published_members() -> None:
    members = list(Rand().members())
    assert [(type(m), m.steps, m.restarts, m.eot) for m in members] == [
        (ApgdCE, 100, 1, 20),
        (ApgdDLR, 100, 1, 20),
    ]


def test_plus_has_the_published_members() -> None:
    # Croce and Hein 2020: untargeted attacks with five restarts, then the targeted ones.
    members = list(Plus().members())
    assert [type(member) for member in members] == [ApgdCE, ApgdDLR, Fab, Square, ApgdT, FabT]
    assert [member.restarts for member in members[:3]] == [5, 5, 5]
    assert [member.classes for member in members[4:]] == [9, 9]


def test_options_reach_the_members() -> None:
    ce, targeted, fab, square = SHORT.members()
    assert (ce.steps, targeted.steps, fab.steps) == (12, 12, 12)
    assert (targeted.classes, fab.classes, square.queries) == (3, 3, 40)
    assert [member.eot for member in Rand(steps=5, eot=2).members()] == [2, 2]


def test_members_are_run_in_order_on_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = small_batch()
    with noted(monkeypatch) as notes:
        found = SHORT.perturb(model(), images, labels, LINF, EPSILON, rng())
    names = [name for name, _ in notes]
    counts = [count for _, count in notes]
    assert names == ["Standard", "ApgdCE", "ApgdT", "FabT", "Square"]
    assert counts[1] == len(images)
    assert counts == sorted(counts, reverse=True)
    assert 0 < counts[2] < len(images)
    assert len(survivors(found)) <= counts[-1]
    # What the second was given is what the first alone leaves, drawn from the same generator.
    first = ApgdCE(steps=12).perturb(model(), images, labels, LINF, EPSILON, rng())
    assert counts[2] == len(survivors(first))


@pytest.mark.parametrize(("norm", "epsilon"), [(LINF, 0.08), (LINF, EPSILON), (TWO, 0.5)])
def test_survivors_survive_each_member_alone(norm: Any, epsilon: float) -> None:
    images, labels = small_batch()
    left = survivors(SHORT.perturb(model(), images, labels, norm, epsilon, rng()))
    assert 0 < len(left) < len(images)
    for member in SHORT.members():
        alone = survivors(member.perturb(model(), images, labels, norm, epsilon, rng()))
        if isinstance(member, FabT):
            outside = norm.size(
                member.perturb(model(), images, labels, norm, epsilon, rng()) - images
            ) > epsilon * (1 + 1e-6)
            alone |= set(outside.nonzero()[:, 0].tolist())
        if isinstance(member, ApgdCE | FabT):  # the same draws, or none
            assert left <= alone
        else:  # other draws than in the ensemble
            assert len(left - alone) <= 1


def test_ensemble_takes_fewer_passes_than_its_members_on_all_images() -> None:
    images, labels = small_batch()
    together, apart = model(), model()
    SHORT.perturb(together, images, labels, LINF, 0.14, rng())
    for member in SHORT.members():
        member.perturb(apart, images, labels, LINF, 0.14, rng())
    assert together.queries < 0.8 * apart.queries
    assert together.gradients < 0.9 * apart.gradients


@dataclass(frozen=True)
class Fixed(Attack):
    """Proposes a given image for every image."""

    proposal: Any = None

    traits: ClassVar[Traits] = Traits(norms=("Linf",), access="none", paper="none", targeted=True)

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        return inputs.images + self.proposal


@dataclass(frozen=True)
class Two(_Ensemble):
    """Two proposals."""

    first: Any = None
    second: Any = None

    traits: ClassVar[Traits] = Fixed.traits

    def members(self) -> Iterator[Attack]:
        yield Fixed(self.first)
        yield Fixed(self.second)


def test_an_ensemble_without_members_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="members"):
        _Ensemble()  # type: ignore[abstract]


def test_success_outside_the_ball_is_no_success() -> None:
    images, labels = small_batch()
    found = ApgdCE(steps=12).perturb(model(), images[:1], labels[:1], LINF, 0.3, rng())
    good = found - images[:1]
    assert model().verdict(found).argmax(1) != labels[:1]
    ensemble = Two(first=good * 5, second=torch.zeros(1))
    proposed = ensemble.perturb(model(), images[:1], labels[:1], LINF, 0.02, rng())
    assert torch.equal(proposed, images[:1]), "the second was run, for the first had not succeeded"
    last = Two(first=torch.zeros(1), second=good * 5).perturb(
        model(), images[:1], labels[:1], LINF, 0.02, rng()
    )
    assert 0.01 < LINF.size(last - images[:1]) <= 0.02 + 1e-6, "what comes back last is inside too"
    inside = Two(first=good, second=torch.zeros(1)).perturb(model(), images[:1], labels[:1], LINF, 0.3, rng())
    assert torch.allclose(inside, found, atol=1e-6)


def test_targeted_ensemble_goes_on_until_the_target_is_reached() -> None:
    images, labels = small_batch()
    targets = (labels + 1) % 10
    found = SHORT.perturb(model(), images, labels, LINF, 0.3, rng(), targets)
    assert (model().verdict(found).argmax(1) == targets).sum() > 15


def test_rand_breaks_a_network_that_answers_at_random() -> None:
    class Shaky(torch.nn.Module):
        """A trained network that looks through noise."""

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = small_net()(x + 0.03 * torch.randn(x.shape, generator=draws))
            return logits

    draws = rng(1)
    images, labels = small_batch()
    shaky = AttackedModel(Shaky())
    found = Rand(steps=6, eot=4).perturb(shaky, images[:6], labels[:6], LINF, 0.25, rng())
    assert (shaky.verdict(found).argmax(1) != labels[:6]).sum() >= 5
    assert shaky.gradients >= 4 * 6
