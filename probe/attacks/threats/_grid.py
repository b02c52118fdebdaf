"""Threats with a few parameters: within each budget all points of a grid are tried."""

from __future__ import annotations

from abc import abstractmethod
from itertools import product

import torch
from torch import Tensor

from probe.attacks.threats._base import Threat, ThreatOutcome, ThreatSubject, blank

BUDGETS = (0.25, 0.5, 0.75, 1.0)
"""Parts of the largest change."""


class GridThreat(Threat):
    """A threat with parameters in [−1, 1], in parts of the largest change; the size of a change is the largest of them."""

    @property
    @abstractmethod
    def counts(self) -> tuple[int, ...]:
        """Points of the grid along each parameter."""

    @abstractmethod
    def change(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Return images (N, C, H, W) changed by parameters (N, P)."""

    @property
    def work(self) -> int:
        """The number of changes."""
        return len(BUDGETS) * len(self.grid)

    @property
    def grid(self) -> list[tuple[float, ...]]:
        """All changes of the largest budget but none at all, the smallest first."""
        axes = [torch.linspace(-1, 1, count).tolist() if count > 1 else [0.0] for count in self.counts]
        points = [point for point in product(*axes) if any(abs(value) > 1e-6 for value in point)]
        return sorted(points, key=lambda point: max(map(abs, point)))

    def attack(self, subject: ThreatSubject) -> ThreatOutcome:
        """Try a whole grid within each budget on every image; the control is one change drawn evenly within it."""
        self.check(subject)
        outcome = blank(subject, torch.arange(len(subject.images), device=subject.images.device), BUDGETS)
        wrong, columns = outcome.smallest == 0, []
        for budget in BUDGETS:
            for point in self.grid:
                subject.advance(1)
                left = outcome.smallest.isinf().nonzero()[:, 0]
                if len(left) == 0:
                    continue
                images = subject.images[left]
                changed = self.change(images, budget * images.new_tensor(point).expand(len(left), -1))
                outcome.record(left, subject.broken(changed, left), changed, budget)
            drawn = torch.rand(
                len(outcome.rows), len(self.counts), generator=subject.draws(self.title, str(budget))
            )
            drawn = (budget * (2 * drawn - 1)).to(subject.images)
            columns.append(wrong | subject.broken(self.change(subject.images, drawn), outcome.rows))
        outcome.control = torch.stack(columns, 1)
        return outcome

    def check(self, subject: ThreatSubject) -> None:
        """Raise NotApplicableError where the images cannot be changed so."""
