"""The attack loop: every attack on every image of a batch, every proposal judged, the smallest success kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.attacks.base import AttackInputs
from probe.attacks.judge import Judgement
from probe.attacks.losses import adversarial, pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import L0, NORMS, Norm, per_image
from probe.attacks.select import SelectedAttack
from probe.core.seeds import generator
from probe.core.ssim import ssim
from studies.adversarial.microbatch import MicroBatcher
from studies.adversarial.outcome import MEASURES, Outcome, worst_of

_PART, _FIRST_PART = 0.4, 0.5
"""The part of an attack's steps that is made at a curve's other epsilons; at the first, where nothing precedes."""

_BISECTIONS = 7
"""Halvings of the way back from a success; the size is then known to 1% of it."""


@dataclass(frozen=True)
class Task:
    """What is asked of every attack: the norm, the epsilons (ascending, above 0), and the one that is reported.

    With ``is_curve`` only the reported one was asked for by the user, and the others make the curve around it.

    ``extra_epsilons`` are epsilons beyond the last one, tried on what nothing has broken by then.
    """

    norm: Norm
    epsilons: tuple[float, ...]
    epsilon: float
    extra_epsilons: tuple[float, ...]
    is_curve: bool
    seed: int


class BatchAttack:
    """One batch under attack: at least one image, (N, C, H, W) on the device, and what is done without any attack.

    ``done`` (N,) is what is wrong already, or at its target. ``logits`` (N, K) are those without attack, where they
    are known. With ``keep``, ``kept`` (N, C, H, W) has the adversarial image that the worst case describes; the
    image itself where there is none within the reported epsilon.
    """

    def __init__(
        self,
        model: AttackedModel,
        images: Tensor,
        labels: Tensor,
        targets: Tensor | None,
        task: Task,
        memory: MicroBatcher,
        key: str,
        logits: Tensor | None = None,
        keep: bool = False,
    ) -> None:
        self.model, self.images, self.labels, self.targets = model, images, labels, targets
        self.task, self.memory, self.key = task, memory, key
        if logits is None:
            rows = torch.arange(len(images), device=images.device)
            (logits,) = memory.over(rows, lambda part: [model.verdict(images[part])])
        self.done = adversarial(logits, labels, targets)
        self.kept = images.clone() if keep else None
        self._kept_size: NDArray[Any] = np.full(len(images), np.inf, dtype=np.float32)

    def run(self, chosen: Sequence[SelectedAttack]) -> Iterator[tuple[str, Outcome]]:
        """Yield every attack's outcome as it is done, and at last ``worst``: what the best of them found."""
        outcomes: dict[str, Outcome] = {}
        for one in chosen:
            with _counted(self.model) as counted:
                outcome = self._attack(one)
            outcome.totals[:] = counted
            outcomes[one.text] = outcome
            yield one.text, outcome
        with _counted(self.model) as counted:
            worst = worst_of(list(outcomes.values()))
            self._go_further(chosen, worst)
        worst.totals[:] = counted
        yield "worst", worst

    def _attack(self, one: SelectedAttack) -> Outcome:
        outcome = Outcome.blank(len(self.images))
        outcome.smallest[_numpy(self.done)] = 0.0
        if one.fixed:
            self._climb(one, outcome)
        else:
            self._minimum(one, outcome)
        return outcome

    def _climb(self, one: SelectedAttack, outcome: Outcome) -> None:
        """Attack at each epsilon what smaller ones have not broken, from where the last one ended.

        At the reported epsilon the attack is made in full; at the others of a curve its steps are fewer, since they
        add up from one epsilon to the next. An attack that does not go on from there is made in full at every
        epsilon that was asked for.
        """
        known = self.images.clone()
        continues = one.attack.can_warm_start(self.task.norm, self.targets)
        for number, epsilon in enumerate(self.task.epsilons):
            attack = one.attack
            if epsilon != self.task.epsilon and (continues or self.task.is_curve):
                attack = one.attack.with_fewer_steps(_PART if number or self.task.is_curve else _FIRST_PART)
            rows = self._left(outcome, epsilon)
            if len(rows) == 0:
                return
            cold = number == 0 and attack == one.attack
            self._try(replace(one, attack=attack), rows, epsilon, epsilon, outcome, known, cold)

    def _left(self, outcome: Outcome, epsilon: float) -> Tensor:
        left = np.flatnonzero(~outcome.success(epsilon))
        return torch.from_numpy(left).to(self.images.device)

    def _at(self, one: SelectedAttack, epsilon: float, outcome: Outcome) -> None:
        """Attack at one epsilon what smaller ones have not broken."""
        rows = self._left(outcome, epsilon)
        if len(rows):
            self._try(one, rows, epsilon, epsilon, outcome)

    def _minimum(self, one: SelectedAttack, outcome: Outcome) -> None:
        """Attack once; the sizes that come back serve every epsilon."""
        rows = self._left(outcome, 0.0)
        reach = max((*self.task.epsilons, *self.task.extra_epsilons), default=0.0)
        anything = self.task.norm.largest(tuple(self.images.shape[1:]))
        if len(rows) and reach > 0:
            self._try(one, rows, reach, anything, outcome)

    def _try(
        self,
        one: SelectedAttack,
        rows: Tensor,
        epsilon: float,
        allowed: float,
        outcome: Outcome,
        known: Tensor | None = None,
        cold: bool = False,
    ) -> None:
        """Let the attack propose at ``epsilon``, judge within ``allowed``, and note what it found.

        ``known`` (N, C, H, W) is where the attack ended at smaller epsilons (the image itself: nowhere yet), and
        begins now unless ``cold``; it is brought up to date.
        """
        norm = self.task.norm
        first = int(rows[0])

        def work(part: Tensor) -> list[Tensor]:
            images, labels, goal = self.images[part], self.labels[part], pick(self.targets, part)
            draws = generator(
                self.task.seed, "attack", one.text, self.key, str(epsilon), int(part[0]) - first
            )
            start = None if known is None or cold else known[part]
            inputs = AttackInputs(self.model, images, labels, norm, epsilon, draws, goal, start)
            within = replace(inputs, epsilon=allowed)
            verdict = within.judge(one.attack.run(inputs))
            if known is not None:
                known[part] = verdict.images
            size, drawn = self._draw_back(images, verdict, labels, goal)
            if not one.fixed:
                verdict = within.judge(drawn)
            return [
                verdict.success,
                size.clamp_max(allowed),  # inside up to rounding, says the judge, is inside
                verdict.outside,
                verdict.invalid,
                *_measured(images, verdict),
                *([] if self.kept is None else [verdict.images]),
            ]

        success, size, outside, invalid, prediction, *measures = self.memory.over(rows, work)
        where = _numpy(rows)
        outcome.outside[where] |= _numpy(outside)
        outcome.invalid[where] |= _numpy(invalid)
        won = _numpy(success)
        outcome.smallest[where[won]] = np.minimum(outcome.smallest[where[won]], _numpy(size)[won])
        # What is reported is the image at the asked epsilon; those found beyond it only move the curve.
        shown = won & (_numpy(size) <= self.task.epsilon * (1 + 1e-6) + 1e-9)
        outcome.prediction[where[shown]] = _numpy(prediction)[shown]
        if self.kept is not None:
            self._keep(where, shown, _numpy(size), measures.pop())
        for name, values in zip(MEASURES, measures, strict=True):
            getattr(outcome, name)[where[shown]] = _numpy(values)[shown]

    def _keep(self, where: NDArray[Any], shown: NDArray[Any], size: NDArray[Any], images: Tensor) -> None:
        """Keep the images at ``where`` that are ``shown`` and need less than those kept so far."""
        better = np.flatnonzero(shown & (size < self._kept_size[where]))
        self._kept_size[where[better]] = size[better]
        if self.kept is not None and len(better):
            rows = torch.from_numpy(np.stack([where[better], better])).to(images.device)
            self.kept[rows[0]] = images[rows[1]]

    def _draw_back(
        self, images: Tensor, verdict: Judgement, labels: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return how far each success can be drawn back along its perturbation: sizes (N,) and images.

        By bisection of the way to the clean image: what is returned was seen to be adversarial.
        """
        norm = self.task.norm
        rows = verdict.success.nonzero()[:, 0]
        sizes, drawn = verdict.sizes.clone(), verdict.images.clone()
        if isinstance(norm, L0) or len(rows) == 0:
            return sizes, drawn
        origin, delta = images[rows], verdict.images[rows] - images[rows]
        low, high = torch.zeros_like(sizes[rows]), torch.ones_like(sizes[rows])
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            logits = self.model.verdict(origin + per_image(middle, delta) * delta)
            hit = adversarial(logits, labels[rows], pick(targets, rows))
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        back = origin + per_image(high, delta) * delta
        moved = high < 1
        drawn[rows[moved]] = back[moved]
        sizes[rows[moved]] = norm.size(back - origin)[moved]
        return sizes, drawn

    def _go_further(self, chosen: Sequence[SelectedAttack], worst: Outcome) -> None:
        """Try larger epsilons on what nothing has broken, so that the curve reaches its end; lightly, as below it."""
        for epsilon in self.task.extra_epsilons:
            for one in chosen:
                if one.fixed and goes_further(one):
                    self._at(replace(one, attack=one.attack.with_fewer_steps(_PART)), epsilon, worst)


def goes_further(one: SelectedAttack) -> bool:
    """Tell whether an attack is tried at the further epsilons: those that look at the network are."""
    return not one.fixed or one.attack.traits.access != "none"


@contextmanager
def _counted(model: AttackedModel) -> Iterator[NDArray[Any]]:
    """Count what a block takes: an array of passes, gradients, seconds and rescued images, filled at its end."""
    totals: NDArray[Any] = np.zeros(4)

    def now() -> NDArray[Any]:
        return np.array([model.queries, model.gradients, time.perf_counter(), model.rescued], dtype=float)

    before = now()
    yield totals
    totals[:] = now() - before


def _measured(images: Tensor, verdict: Judgement) -> list[Tensor]:
    """Return prediction, confidence, the perturbation's size in each norm, and SSIM, (N,) each."""
    delta = verdict.images - images
    sizes = [NORMS[name].size(delta) for name in ("Linf", "L2", "L1", "L0")]
    return [verdict.predictions, verdict.confidences, *sizes, ssim(images, verdict.images)]


def _numpy(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().cpu().numpy()
    return array
