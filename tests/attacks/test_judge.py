"""The judge: what it projects, what it reports, and what it never counts as success."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from probe.attacks.judge import judge, margin, within
from probe.attacks.model import AttackedModel
from probe.attacks.norms import L0, L1, L2, NORMS, Linf


class Means(nn.Module):
    """One logit per channel: its mean brightness; ``spoiled`` says how an image's logits lose their meaning."""

    def __init__(self, spoiled: float | None = None) -> None:
        super().__init__()
        self.spoiled = spoiled

    def forward(self, x: Tensor) -> Tensor:
        logits = x.mean((2, 3)) * 10
        if self.spoiled is not None:
            logits = logits.clone()
            logits[:, 2] = self.spoiled
        return logits


def model(spoiled: float | None = None) -> AttackedModel:
    return AttackedModel(Means(spoiled))


def scene() -> tuple[Tensor, Tensor]:
    """Two images of which the first channel is brightest: class 0."""
    images = torch.full((2, 3, 4, 4), 0.5)
    images[:, 0] = 0.6
    return images, torch.zeros(2, dtype=torch.long)


def test_inside_is_judged_as_it_is() -> None:
    images, labels = scene()
    proposals = images.clone()
    proposals[1, 1] = 0.65
    verdict = judge(model(), images, proposals, labels, Linf(), 0.2)
    assert torch.equal(verdict.images, proposals)
    assert verdict.success.tolist() == [False, True]
    assert verdict.predictions.tolist() == [0, 1]
    assert verdict.margins.tolist() == pytest.approx([1.0, -0.5], abs=1e-5)
    assert verdict.sizes.tolist() == pytest.approx([0, 0.15], abs=1e-6)
    assert not verdict.outside.any()
    assert not verdict.invalid.any()
    expected = [math.exp(a) / (math.exp(6) + math.exp(b) + math.exp(5)) for a, b in [(6, 5), (6.5, 6.5)]]
    assert verdict.confidences.tolist() == pytest.approx(expected, rel=1e-4)


def test_outside_the_ball_is_projected_judged_again_and_reported() -> None:
    images, labels = scene()
    proposals = images.clone()
    proposals[:, 1] = 0.95  # succeeds as proposed
    proposals[1, 0] = 0.5
    assert (model().verdict(proposals).argmax(1) == 1).all()
    verdict = judge(model(), images, proposals, labels, Linf(), 0.05)
    assert verdict.outside.tolist() == [True, True]
    # What is left: 0.6 against 0.55 is still class 0; 0.55 against 0.55 is no longer ahead of anything.
    assert verdict.images[0, 1].flatten().tolist() == pytest.approx([0.55] * 16)
    assert verdict.success.tolist()[0] is False
    assert verdict.sizes.tolist() == pytest.approx([0.05, 0.05], abs=1e-6)


def test_projected_proposal_may_still_succeed() -> None:
    images, labels = scene()
    proposals = images.clone()
    proposals[:, 1] = 1.5
    verdict = judge(model(), images, proposals, labels, Linf(), 0.2)
    assert verdict.outside.all()
    assert verdict.success.all()
    assert verdict.images.max() <= 0.7 + 1e-6


@pytest.mark.parametrize("norm", [Linf(), L2(), L1()], ids=["Linf", "L2", "L1"])
@pytest.mark.parametrize("epsilon", [0.05, 0.5, 3.0])
def test_rounding_is_not_reported_and_more_is(norm: object, epsilon: float) -> None:
    images, labels = torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, dtype=torch.long)
    if isinstance(norm, Linf):
        epsilon = min(epsilon, 0.4)
    for excess, expected in [(3e-7, False), (1e-3, True)]:
        delta = torch.zeros_like(images)
        if isinstance(norm, Linf):
            delta[0, 0, 0, 0] = epsilon + excess
        else:
            delta[0] = 1.0
            delta *= epsilon * (1 + excess) / norm.size(delta)  # type: ignore[attr-defined]
        verdict = judge(model(), images, images + delta, labels, norm, epsilon)  # type: ignore[arg-type]
        assert verdict.outside.tolist() == [expected], excess


@pytest.mark.parametrize(
    ("value", "reported"), [(-5e-7, False), (1 + 5e-7, False), (-0.01, True), (1.01, True)]
)
def test_range_is_kept_and_reported_beyond_rounding(value: float, reported: bool) -> None:
    images, labels = scene()
    images[0, 2, 0, 0] = min(max(value, 0.0), 1.0)
    proposals = images.clone()
    proposals[0, 2, 0, 0] = value
    verdict = judge(model(), images, proposals, labels, Linf(), 0.2)
    assert verdict.outside.tolist() == [reported, False]
    assert verdict.images.min() >= 0
    assert verdict.images.max() <= 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("norm", list(NORMS.values()), ids=list(NORMS))
def test_proposal_that_is_not_finite_gives_the_clean_image(norm: object, value: float) -> None:
    images, labels = scene()
    proposals = images.clone()
    proposals[0, 1] = 0.9
    proposals[0, 0, 2, 2] = value
    verdict = judge(model(), images, proposals, labels, norm, 1.0)  # type: ignore[arg-type]
    assert torch.equal(verdict.images[0], images[0])
    assert verdict.invalid.tolist() == [True, False]
    assert not verdict.success[0]
    assert not verdict.outside[0]
    assert verdict.sizes[0] == 0


@pytest.mark.parametrize("spoiled", [math.nan, math.inf])
def test_logits_that_are_not_finite_never_succeed(spoiled: float) -> None:
    images, labels = scene()
    verdict = judge(model(spoiled), images, images, labels, Linf(), 0.1)
    assert verdict.predictions.tolist() == [2, 2]  # argmax takes what is not finite for the largest
    assert not verdict.success.any()
    aimed = judge(model(spoiled), images, images, labels, Linf(), 0.1, torch.tensor([2, 2]))
    assert not aimed.success.any()


def test_targeted_success_is_to_reach_the_target() -> None:
    images, labels = scene()
    proposals = images.clone()
    proposals[:, 1] = 0.65
    verdict = judge(model(), images, proposals, labels, Linf(), 0.2, torch.tensor([1, 2]))
    assert verdict.success.tolist() == [True, False]
    # the best of the others less the target
    assert verdict.margins.tolist() == pytest.approx([-0.5, 1.5], abs=1e-5)


def test_margins_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, -2.0], [3.0, 1.0, -2.0], [0.0, 5.0, 4.0]])
    labels = torch.tensor([0, 1, 2])
    assert margin(logits, labels).tolist() == [2.0, -2.0, -1.0]
    assert margin(logits, labels, torch.tensor([2, 0, 1])).tolist() == [5.0, -2.0, -1.0]


def test_shapes_must_agree() -> None:
    images, labels = scene()
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) for \(2, 3, 4, 4\)"):
        judge(model(), images, images[:1], labels, Linf(), 0.1)


def test_pixels_are_counted_without_tolerance() -> None:
    images, labels = scene()
    proposals = images.clone()
    proposals[0, :, 0, :3] += 1e-3
    proposals[1, 1, :2] = 1.0  # 8 pixels
    verdict = judge(model(), images, proposals, labels, L0(), 3.0)
    assert verdict.outside.tolist() == [False, True]
    assert verdict.sizes.tolist() == [3, 3]
    assert within(images, proposals, L0(), 8.0).all()


def test_proposals_of_another_type_are_taken_as_float32() -> None:
    images, labels = scene()
    verdict = judge(model(), images, images.double().requires_grad_(), labels, Linf(), 0.1)
    assert verdict.images.dtype == torch.float32
    assert not verdict.images.requires_grad
