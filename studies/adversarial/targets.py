"""Target classes of a targeted attack, from the value of --target."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.core.errors import UsageError, did_you_mean
from probe.core.seeds import generator

LEAST_LIKELY = "least-likely"
RANDOM = "random"


@dataclass(frozen=True)
class Target:
    """How targets are chosen: one ``label`` for all, or by ``rule``."""

    rule: str
    label: int | None = None

    def targets(self, logits: Tensor, labels: Tensor, seed: int, key: str) -> Tensor:
        """Return target classes (N,), given clean ``logits`` (N, K); only a fixed class may equal the label."""
        if self.label is not None:
            return torch.full_like(labels, self.label)
        others = logits.scatter(1, labels[:, None], torch.inf)
        if self.rule == LEAST_LIKELY:
            return others.argmin(1)
        draws = generator(seed, "target", key)
        step = torch.randint(1, logits.shape[1], labels.shape, generator=draws).to(labels)
        return (labels + step) % logits.shape[1]


def parse_target(word: str, class_names: tuple[str, ...] | None, num_classes: int) -> Target:
    """Parse the value of ``--target``: ``least-likely``, ``random``, a class's number or its name.

    Raises UsageError for anything else, with the nearest names.
    """
    if word in (LEAST_LIKELY, RANDOM):
        return Target(word)
    if word.isdigit():
        if int(word) >= num_classes:
            raise UsageError(f"There is no class {word}: the network has classes 0 to {num_classes - 1}.")
        return Target("class", int(word))
    names = class_names or ()
    folded = [name.lower() for name in names]
    if word.lower() in folded:
        return Target("class", folded.index(word.lower()))
    raise UsageError(
        f"There is no class '{word}'.{did_you_mean(word, names)} --target takes a class's name or number, least-likely or random."
    )
