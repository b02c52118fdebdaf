"""RetrainResult arms: the same seed gives the same weights and results, wherever and whenever they are trained."""

from __future__ import annotations

import dataclasses
import re
from functools import partial

import numpy as np
import pytest
import torch
from helpers import ablation_networks as nets
from torch import nn

from probe.core.errors import NotApplicableError
from probe.core.jobs import portable
from probe.core.state import fingerprint
from probe.train.loop.fit import Recipe
from studies.ablation import arms
from studies.ablation.arms import Arm, Setting, TrainedArm, build, from_arrays, to_arrays, train_arm
from studies.ablation.evaluate import paired_difference, paired_points
from studies.ablation.retrain import RetrainResult, variants_of
from studies.ablation.side_reports import gradients_section
from studies.ablation.widen import widen_to


def setting(factory: object = None, **changes: object) -> Setting:
    """Two classes that differ by brightness, so that a few steps learn them."""
    labels = np.arange(48) % 2
    images = (0.2 + 0.5 * labels[:, None, None, None]) + 0.05 * np.random.default_rng(0).random(
        (48, 1, 16, 16)
    )
    images = images.astype(np.float32)
    made = Setting(
        factories={None: portable(factory or partial(nets.Residual))},
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        size=(3, 16, 16),
        channels_last=False,
        device="cpu",
        images=images,
        labels=labels,
        held_images=images[:20],
        held_labels=labels[:20],
        num_classes=5,
        recipe=Recipe(epochs=2, batch_size=16, lr=0.05),
        also=(),
        norm="Linf",
        epsilon=0.05,
    )
    return dataclasses.replace(made, **changes)


def same(first: TrainedArm, second: TrainedArm) -> None:
    for field in dataclasses.fields(TrainedArm):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else repr(a) == repr(b), field.name


def test_one_seed_gives_one_training_and_another_another() -> None:
    arm = Arm(("shortcut",), seed=1)
    first, again, other = (
        train_arm((setting(), variant)) for variant in (arm, arm, dataclasses.replace(arm, seed=2))
    )
    same(first, again)
    assert first.history != other.history
    assert first.removed == 4
    assert first.anatomy.paths == 1


def test_arms_of_a_seed_begin_with_the_same_weights() -> None:
    intact, _, _ = build(setting(), Arm((), seed=3))
    cut, removed, factor = build(setting(), Arm(("shortcut",), seed=3))
    whole = dict(intact.named_parameters())
    for name, parameter in cut.named_parameters():
        assert torch.equal(parameter, whole[name]), name
    assert (removed, factor) == (4, 1.0)
    assert all(parameter.requires_grad for parameter in cut.parameters())


def test_a_training_survives_the_journal() -> None:
    trained = train_arm((setting(also=("calibration", "robustness")), Arm((), seed=0)))
    assert len(trained.confidence) == 20
    assert len(trained.robust) == 20
    same(trained, from_arrays(to_arrays(trained)))


def test_robust_images_are_right_ones() -> None:
    trained = train_arm(
        (setting(also=("robustness",), recipe=Recipe(epochs=4, batch_size=16, lr=0.05)), Arm((), seed=0))
    )
    assert not (trained.robust & ~trained.right[: len(trained.robust)]).any()


def test_robustness_looks_at_images_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "ROBUST_IMAGES", 3)
    made = setting(also=("robustness",), epsilon=0.0)
    # As in a folder, one class after the other; the second one's labels are wrong, so that it has none right.
    order = np.argsort(made.labels[:20], kind="stable")
    wrong = np.where(made.labels[:20] == 1, 3, 0)[order]
    recipe = Recipe(epochs=4, batch_size=16, lr=0.05)
    trained = train_arm(
        (
            dataclasses.replace(made, held_images=made.images[order], held_labels=wrong, recipe=recipe),
            Arm((), seed=0),
        )
    )
    assert trained.robust.tolist() == trained.right[[0, 10, 19]].tolist() == [True, False, False]


class Exploding(nn.Module):
    """Its third layer overflows whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.huge = nn.Conv2d(4, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)
        nn.init.constant_(self.huge.weight, 1e38)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.huge(torch.relu(self.conv(x)) + 10)).mean((2, 3)))


def test_a_training_that_is_not_finite_stops_alone_and_names_the_layer() -> None:
    trained = train_arm((setting(Exploding), Arm((), seed=0)))
    assert trained.fault is not None
    assert trained.fault.kind == "output"
    assert trained.fault.layer.endswith("huge")
    assert trained.fault.step == 0
    assert np.isnan(trained.accuracy)
    same(trained, from_arrays(to_arrays(trained)))


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.a = nets.Block(16, 16)
        self.b = nets.Block(16, 16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.b(self.a(self.stem(x))).mean((2, 3)))


def test_matching_widens_the_cut_arm_to_the_number_of_parameters() -> None:
    whole = sum(p.numel() for p in Wide().parameters())
    arm = Arm(("block",), seed=0, sites=("a",), match=whole)
    module, removed, factor = build(setting(Wide), arm)
    found = sum(p.numel() for p in module.parameters())
    assert removed == 1
    assert factor > 1.2
    assert abs(found - whole) < 0.05 * whole


def test_a_network_that_holds_its_channel_numbers_is_not_widened() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.conv2 = nn.Conv2d(8, 8, 3)
            self.fc = nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv2(self.conv(x)).mean((2, 3)).view(-1, 8))

    with pytest.raises(NotApplicableError, match="cannot be widened"):
        widen_to(Fixed().eval(), 2000, lambda network: network, nets.image())


def test_widening_changes_nothing_in_the_network() -> None:
    network = Wide().eval()
    before = fingerprint(network)
    widen_to(network, 30000, lambda wide: wide, nets.image())
    assert fingerprint(network) == before


def test_variants() -> None:
    assert variants_of(["a"]) == ((), ("a",))
    assert variants_of(["a", "b"]) == ((), ("a",), ("b",), ("a", "b"))


def test_the_gradients_ratio_is_of_the_first_layer_over_the_last_and_small_where_they_vanish() -> None:
    made = setting()
    trained = train_arm((made, Arm((), seed=0)))
    layers = trained.norms.shape[1]
    # Geometric means over two seeds: 1e-6 over 1e-1, and 1e2 over 1e-1.
    vanishing = [np.geomspace(first, last, layers)[None] for first, last in ((1e-7, 1e-2), (1e-5, 1.0))]
    exploding = [np.geomspace(first, last, layers)[None] for first, last in ((1e1, 1e-2), (1e3, 1.0))]
    arms_of = {
        variant: tuple(dataclasses.replace(trained, norms=each, steps=(0,)) for each in norms)
        for variant, norms in (((), vanishing), (("relu",), exploding))
    }
    retrained = RetrainResult(
        ((), ("relu",)), (None,), {(variant, None): arms for variant, arms in arms_of.items()}, made, ""
    )
    words = gradients_section(retrained).summary.lower()
    assert "first layer's gradient norm over the last layer's" in words
    assert re.search(r"intact (\S+), without relu (\S+)\.", words).groups() == ("1e-05", "1e+03")  # type: ignore[union-attr]


def test_differences_leave_out_seeds_that_diverged() -> None:
    difference, ci, p = paired_difference(np.array([0.9, 0.8, np.nan]), np.array([0.5, 0.6, 0.7]))
    assert difference == pytest.approx(0.3)
    assert ci is not None
    assert ci[0] < 0.3 < ci[1]
    assert p == pytest.approx(0.2048, abs=1e-3)
    wild = np.array([0.9, 0.1]), np.array([0.2, 0.1])
    assert paired_difference(*wild)[1] == (
        pytest.approx(0.35 - 0.35 * 12.7062, rel=1e-4),
        pytest.approx(0.35 + 0.35 * 12.7062, rel=1e-4),
    )
    assert paired_points(*wild) == (
        pytest.approx(0.35),
        (-1.0, 1.0),
        pytest.approx(0.5),
    )  # Cauchy's distribution
    assert paired_difference(np.array([0.9]), np.array([0.4])) == (pytest.approx(0.5), None, None)
    assert paired_difference(np.array([np.nan]), np.array([0.4])) == (None, None, None)
