"""Subjects for threat models."""

from __future__ import annotations

from torch import Tensor, nn

from probe.attacks.model import AttackedModel
from probe.attacks.norms import Linf
from probe.attacks.threats._base import ThreatSubject


def subject(network: nn.Module, images: Tensor, labels: Tensor, epsilon: float = 0.1) -> ThreatSubject:
    """Return the subject of an untargeted attack in Linf."""
    return ThreatSubject(
        AttackedModel(network.eval()), images, labels, None, Linf(), epsilon, seed=0, batch_size=16
    )
