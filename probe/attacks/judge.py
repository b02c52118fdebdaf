"""Verification of proposed adversarial images on the plain network in float32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm

TOLERANCE = 1e-6
"""Tolerance per value for the rounding of the float32 sum image + perturbation; for other norms also relative."""


@dataclass(frozen=True)
class Judgement:
    """The verified result for N proposals.

    ``images`` are inside the ball and [0, 1]; ``success`` (N,): whether the prediction is not the label, or is the
    target; ``predictions``, ``confidences`` (N,) and ``margins`` (N,) are those of the plain network. ``outside`` (N,)
    marks proposals outside the ball or [0, 1], which were projected first, ``invalid`` those with values that are
    not finite, which were replaced by the clean image.
    """

    images: Tensor
    success: Tensor
    predictions: Tensor
    confidences: Tensor
    margins: Tensor
    sizes: Tensor
    outside: Tensor
    invalid: Tensor


def judge(
    model: AttackedModel,
    images: Tensor,
    proposals: Tensor,
    labels: Tensor,
    norm: Norm,
    epsilon: float,
    targets: Tensor | None = None,
) -> Judgement:
    """Check proposals (N, C, H, W) for ``images``: the ball, the range, and the plain network's prediction.

    A proposal outside the ball or [0, 1] is projected, and the projection is judged. Logits that are not
    finite never count as success. Raises ValueError when the shapes differ.
    """
    if proposals.shape != images.shape:
        raise ValueError(f"the attack returned {tuple(proposals.shape)} for {tuple(images.shape)}")
    proposals = proposals.detach().to(images)
    invalid = ~proposals.isfinite().flatten(1).all(1)
    proposals = torch.where(_wide(invalid, images), images, proposals)
    outside = ~within(images, proposals, norm, epsilon)
    # Rounding errors are clipped silently; only larger violations are reported.
    inside = torch.where(
        _wide(outside, images), norm.project(images, proposals, epsilon), proposals.clamp(0, 1)
    )
    logits = model.verdict(inside)
    predictions = logits.argmax(1)
    reached = predictions != labels if targets is None else predictions == targets
    probabilities = logits.double().softmax(1)
    return Judgement(
        images=inside,
        success=reached & logits.isfinite().all(1),
        predictions=predictions,
        confidences=probabilities.amax(1).float(),
        margins=margin(logits, labels, targets),
        sizes=norm.size(inside - images),
        outside=outside,
        invalid=invalid,
    )


def within(images: Tensor, proposals: Tensor, norm: Norm, epsilon: float) -> Tensor:
    """Return which proposals are inside the ball and [0, 1], up to rounding, (N,)."""
    slack = TOLERANCE if norm.name == "Linf" else max(TOLERANCE, 1e-5 * epsilon)
    small = norm.size(proposals - images) <= (epsilon if norm.name == "L0" else epsilon + slack)
    flat = proposals.flatten(1)
    return small & (flat.amin(1) >= -TOLERANCE) & (flat.amax(1) <= 1 + TOLERANCE)


def margin(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Return the label's logit minus the best other one, (N,); with targets, the best other logit minus the target's.

    The margin is negative for adversarial images.
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    if targets is not None:
        others = logits.scatter(1, targets[:, None], -torch.inf).amax(1)
        return others - logits.gather(1, targets[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)


def _wide(mask: Tensor, images: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (images.dim() - 1))
