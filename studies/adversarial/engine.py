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
"""The part of an attack's steps used at the other epsilons of a curve; at the first one, without a warm start."""

_BISECTIONS = 7
"""Bisections of the way from a success back to the image; the size is then known to 1%."""


@dataclass(frozen=True)
class Task:
    """The task of every attack: the norm, the epsilons (ascending, above 0), and the reported one.

    With ``is_curve`` the user gave only the reported one, and the others make the curve around it.

    ``extra_epsilons`` are epsilons beyond the last one, tried on what nothing has broken by then.
    """

    norm: Norm
    epsilons: tuple[float, ...]
    epsilon: float
    extra_epsilons: tuple[float, ...]
    is_curve: bool
    seed: int


class BatchAttack:
    """The attacks on one batch of at least one image, (N, C, H, W) on the device.

    ``done`` (N,) marks images that are misclassified already, or in their target class. ``logits`` (N, K) are those
    without attack, where they are known. With ``keep``, ``adversarial_images`` (N, C, H, W) has the adversarial image
    that the worst case describes; the image itself where there is none within the reported epsilon.
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
            (logits,) = memory.map(rows, lambda part: [model.verdict(images[part])])
        self.done = adversarial(logits, labels, targets)
        self.adversarial_images = images.clone() if keep else None
        self._adversarial_size: NDArray[Any] = np.full(len(images), np.inf, dtype=np.float32)

    def run(self, chosen: Sequence[SelectedAttack]) -> Iterator[tuple[str, Outcome]]:
        """Yield every attack's outcome as it finishes, and finally ``worst``: image by image that of the best."""
        outcomes: dict[str, Outcome] = {}
        for selected in chosen:
            with _count_cost(self.model) as totals:
                outcome = self._attack(selected)
            outcome.totals[:] = totals
            outcomes[selected.text] = outcome
            yield selected.text, outcome
        with _count_cost(self.model) as totals:
            worst = worst_of(list(outcomes.values()))
            self._go_further(chosen, worst)
        worst.totals[:] = totals
        yield "worst", worst

    def _attack(self, selected: SelectedAttack) -> Outcome:
        outcome = Outcome.blank(len(self.images))
        outcome.smallest[_numpy(self.done)] = 0.0
        if selected.fixed:
            self._climb(selected, outcome)
        else:
            self._minimum(selected, outcome)
        return outcome

    def _climb(self, selected: SelectedAttack, outcome: Outcome) -> None:
        """Attack at each epsilon the images that smaller ones have not broken, from where the last one ended.

        At the reported epsilon the attack runs with all its steps; at the others of a curve with fewer, since steps
        add up from one epsilon to the next. An attack without warm start runs with all its steps at every epsilon
        that the user gave.
        """
        warm_starts = self.images.clone()
        continues = selected.attack.can_warm_start(self.task.norm, self.targets)
        for number, epsilon in enumerate(self.task.epsilons):
            attack = selected.attack
            if epsilon != self.task.epsilon and (continues or self.task.is_curve):
                attack = selected.attack.with_fewer_steps(
                    _PART if number or self.task.is_curve else _FIRST_PART
                )
            rows = self._left(outcome, epsilon)
            if len(rows) == 0:
                return
            cold = number == 0 and attack == selected.attack
            self._try(replace(selected, attack=attack), rows, epsilon, epsilon, outcome, warm_starts, cold)

    def _left(self, outcome: Outcome, epsilon: float) -> Tensor:
        unbroken = np.flatnonzero(~outcome.success(epsilon))
        return torch.from_numpy(unbroken).to(self.images.device)

    def _at(self, selected: SelectedAttack, epsilon: float, outcome: Outcome) -> None:
        """Attack at one epsilon the images that smaller ones have not broken."""
        rows = self._left(outcome, epsilon)
        if len(rows):
            self._try(selected, rows, epsilon, epsilon, outcome)

    def _minimum(self, selected: SelectedAttack, outcome: Outcome) -> None:
        """Attack once; the sizes that a minimum-norm attack returns serve every epsilon."""
        rows = self._left(outcome, 0.0)
        reach = max((*self.task.epsilons, *self.task.extra_epsilons), default=0.0)
        anything = self.task.norm.largest(tuple(self.images.shape[1:]))
        if len(rows) and reach > 0:
            self._try(selected, rows, reach, anything, outcome)

    def _try(
        self,
        selected: SelectedAttack,
        rows: Tensor,
        epsilon: float,
        allowed: float,
        outcome: Outcome,
        warm_starts: Tensor | None = None,
        cold: bool = False,
    ) -> None:
        """Let the attack propose images at ``epsilon``, judge them within ``allowed``, and record the outcome.

        ``known`` (N, C, H, W) is where the attack ended at smaller epsilons (at first the image itself), and where it
        starts now unless ``cold``; it is updated.
        """
        norm = self.task.norm
        first = int(rows[0])

        def work(part: Tensor) -> list[Tensor]:
            images, labels, goal = self.images[part], self.labels[part], pick(self.targets, part)
            draws = generator(
                self.task.seed, "attack", selected.text, self.key, str(epsilon), int(part[0]) - first
            )
            start = None if warm_starts is None or cold else warm_starts[part]
            inputs = AttackInputs(self.model, images, labels, norm, epsilon, draws, goal, start)
            within = replace(inputs, epsilon=allowed)
            verdict = within.judge(selected.attack.run(inputs))
            if warm_starts is not None:
                warm_starts[part] = verdict.images
            size, closest = self._draw_back(images, verdict, labels, goal)
            if not selected.fixed:
                verdict = within.judge(closest)
            return [
                verdict.success,
                size.clamp_max(allowed),  # inside up to rounding, says the judge, is inside
                verdict.outside,
                verdict.invalid,
                *_measures(images, verdict),
                *([] if self.adversarial_images is None else [verdict.images]),
            ]

        success, size, outside, invalid, prediction, *measures = self.memory.map(rows, work)
        where = _numpy(rows)
        outcome.outside[where] |= _numpy(outside)
        outcome.invalid[where] |= _numpy(invalid)
        won = _numpy(success)
        outcome.smallest[where[won]] = np.minimum(outcome.smallest[where[won]], _numpy(size)[won])
        # The image within the reported epsilon is described; those found beyond it only extend the curve.
        reported = won & (_numpy(size) <= self.task.epsilon * (1 + 1e-6) + 1e-9)
        outcome.prediction[where[reported]] = _numpy(prediction)[reported]
        if self.adversarial_images is not None:
            self._keep(where, reported, _numpy(size), measures.pop())
        for name, values in zip(MEASURES, measures, strict=True):
            getattr(outcome, name)[where[reported]] = _numpy(values)[reported]

    def _keep(self, where: NDArray[Any], reported: NDArray[Any], size: NDArray[Any], images: Tensor) -> None:
        """Keep the images at ``where`` that are ``reported`` and need less than those kept so far."""
        better = np.flatnonzero(reported & (size < self._adversarial_size[where]))
        self._adversarial_size[where[better]] = size[better]
        if self.adversarial_images is not None and len(better):
            rows = torch.from_numpy(np.stack([where[better], better])).to(images.device)
            self.adversarial_images[rows[0]] = images[rows[1]]

    def _draw_back(
        self, images: Tensor, verdict: Judgement, labels: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Scale each success back along its perturbation until it only just succeeds; return sizes (N,) and images.

        By bisection between it and the clean image; every image returned was verified to be adversarial.
        """
        norm = self.task.norm
        rows = verdict.success.nonzero()[:, 0]
        sizes, closest = verdict.sizes.clone(), verdict.images.clone()
        if isinstance(norm, L0) or len(rows) == 0:
            return sizes, closest
        origin, delta = images[rows], verdict.images[rows] - images[rows]
        low, high = torch.zeros_like(sizes[rows]), torch.ones_like(sizes[rows])
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            logits = self.model.verdict(origin + per_image(middle, delta) * delta)
            hit = adversarial(logits, labels[rows], pick(targets, rows))
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        back = origin + per_image(high, delta) * delta
        moved = high < 1
        closest[rows[moved]] = back[moved]
        sizes[rows[moved]] = norm.size(back - origin)[moved]
        return sizes, closest

    def _go_further(self, chosen: Sequence[SelectedAttack], worst: Outcome) -> None:
        """Try larger epsilons, with few steps, on unbroken images, so that the curve reaches its end."""
        for epsilon in self.task.extra_epsilons:
            for selected in chosen:
                if selected.fixed and goes_further(selected):
                    self._at(
                        replace(selected, attack=selected.attack.with_fewer_steps(_PART)), epsilon, worst
                    )


def goes_further(selected: SelectedAttack) -> bool:
    """Tell whether an attack is tried at the extra epsilons: all are that use the network."""
    return not selected.fixed or selected.attack.traits.access != "none"


@contextmanager
def _count_cost(model: AttackedModel) -> Iterator[NDArray[Any]]:
    """Count the cost of a block: an array of passes, gradients, seconds and rescued images, filled at its end."""
    totals: NDArray[Any] = np.zeros(4)

    def now() -> NDArray[Any]:
        return np.array([model.queries, model.gradients, time.perf_counter(), model.rescued], dtype=float)

    before = now()
    yield totals
    totals[:] = now() - before


def _measures(images: Tensor, verdict: Judgement) -> list[Tensor]:
    """Return prediction, confidence, the perturbation's size in each norm, and SSIM, (N,) each."""
    delta = verdict.images - images
    sizes = [NORMS[name].size(delta) for name in ("Linf", "L2", "L1", "L0")]
    return [verdict.predictions, verdict.confidences, *sizes, ssim(images, verdict.images)]


def _numpy(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().cpu().numpy()
    return array
