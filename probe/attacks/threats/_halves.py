"""Which images a change for all images is made on, and on which it is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.attacks.threats._base import ThreatSubject
from probe.core.errors import NotApplicableError


def halves(subject: ThreatSubject) -> tuple[Tensor, Tensor]:
    """Return the places of two halves of the images, drawn by the seed: one to optimise on, one to measure on.

    Raises NotApplicableError with fewer than two images.
    """
    count = len(subject.images)
    if count < 2:
        raise NotApplicableError("One image has no second half to measure on.")
    order = torch.randperm(count, generator=subject.draws("halves")).to(subject.images.device)
    return order[: count // 2].sort().values, order[count // 2 :].sort().values
