"""What a threat model is: a family of changes of an image with a budget, the worst one found, and a control."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from probe.attacks.losses import adversarial, pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm
from probe.core.progress import Advance
from probe.core.seeds import generator


@dataclass(frozen=True)
class ThreatSubject:
    """The images that are attacked, (N, C, H, W) in [0, 1], with their classes, on the device of the network.

    ``norm`` and ``epsilon`` are those of the run, for threats that have a size in a norm.
    """

    model: AttackedModel
    images: Tensor
    labels: Tensor
    targets: Tensor | None
    norm: Norm
    epsilon: float
    seed: int
    batch_size: int = 32
    advance: Advance = lambda _: None

    def rows(self, rows: Tensor) -> Self:
        """Return the subject with some of the images."""
        goal = pick(self.targets, rows)
        return replace(self, images=self.images[rows], labels=self.labels[rows], targets=goal)

    def broken(self, images: Tensor, rows: Tensor) -> Tensor:
        """Return which of the changed images of ``rows`` the plain network takes for another class, or for the target, (N,)."""
        found = []
        for part in torch.split(torch.arange(len(rows), device=rows.device), self.batch_size):
            logits = self.model.verdict(images[part].clamp(0, 1))
            where = rows[part]
            found.append(
                adversarial(logits, self.labels[where], pick(self.targets, where)) & logits.isfinite().all(1)
            )
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool, device=images.device)

    def draws(self, *key: str | int) -> torch.Generator:
        """Return the generator for one purpose, named by ``key``."""
        return generator(self.seed, "threat", *map(str, key))


@dataclass
class ThreatOutcome:
    """What became of the images at ``rows`` of the subject.

    ``smallest`` (M,): the smallest budget with which each was broken; 0 where it was wrong without any, infinite where none was
    found. ``control`` (M, budgets): which a change drawn at random, with the whole of each budget allowed, broke. ``examples``:
    a few broken images, by their place among the M.
    """

    budgets: tuple[float, ...]
    rows: Tensor
    smallest: Tensor
    control: Tensor
    examples: dict[int, Tensor] = field(default_factory=dict)

    def record(self, places: Tensor, hit: Tensor, changed: Tensor, budget: float) -> None:
        """Record what became of some of the images: which were ``hit`` at a budget, and the ``changed`` images."""
        where = places[hit]
        self.smallest[where] = self.smallest[where].clamp_max(budget)
        for place, image in zip(where.tolist(), changed[hit], strict=True):
            if len(self.examples) < EXAMPLES:
                self.examples.setdefault(place, image.clamp(0, 1))

    def robust(self, budget: float) -> Tensor:
        """Return which images nothing within the budget broke, (M,)."""
        return self.smallest > budget * (1 + 1e-6)


class Threat(ABC):
    """Base class of threat models; subclasses are frozen dataclasses whose fields are the options."""

    title: ClassVar[str]
    paper: ClassVar[str]
    axis: ClassVar[str]
    """What the budget is, with its unit, for an axis."""

    @abstractmethod
    def attack(self, subject: ThreatSubject) -> ThreatOutcome:
        """Attack all images within every budget; raises NotApplicableError where the images or the norm do not allow it."""

    @abstractmethod
    def describe(self, budget: float) -> str:
        """Write what a budget allows: ``rotations up to 30° and shifts up to 10%``."""

    @property
    @abstractmethod
    def work(self) -> int:
        """How often ``attack`` tells of its progress, about."""

    @property
    @abstractmethod
    def how(self) -> str:
        """How the worst change was looked for, and what the control is, in one or two sentences."""


EXAMPLES = 4
"""Broken images that an outcome keeps, at most."""


def blank(subject: ThreatSubject, rows: Tensor, budgets: Sequence[float]) -> ThreatOutcome:
    """Return the outcome of the images at ``rows`` before anything was tried; ``control`` has no columns yet."""
    part = subject.rows(rows)
    places = torch.arange(len(rows), device=rows.device)
    smallest = torch.full((len(rows),), torch.inf, device=rows.device)
    smallest[part.broken(part.images, places)] = 0
    return ThreatOutcome(tuple(budgets), rows, smallest, torch.zeros(len(rows), 0, dtype=torch.bool))
