"""The attack loop: every attack in full on every image of a batch, every proposal judged, the smallest success kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from studies.adversarial.outcome import MEASURES, THEN, Outcome, best_attack, broken_by, just_beyond, worst_of
from studies.adversarial.refine import RefineInputs, is_refined, leapt, refined

_BISECTIONS = 5
"""Bisections of the way from a success back to the image, to 3% of its size; a refinement may follow."""


@dataclass(frozen=True)
class Task:
    """The task of every attack: the norm, the epsilons (ascending, above 0), and the reported one, the largest.

    ``extra_epsilons`` are epsilons beyond the last one, tried on what nothing has broken by then.
    """

    norm: Norm
    epsilons: tuple[float, ...]
    epsilon: float
    extra_epsilons: tuple[float, ...]
    seed: int


class BatchAttack:
    """The attacks on one batch of at least one image, (N, C, H, W) on the device.

    ``done`` (N,) marks images that are misclassified already, or in their target class. ``logits`` (N, K) are those
    without attack, where they are known. With ``keep``, ``adversarial_images`` (N, C, H, W) has the adversarial image
    that the worst case describes; the image itself where there is none within the reported epsilon. Where ``before`` is given,
    each attack goes on with what ``before`` and the attacks before it left at that epsilon, and includes what they broke.
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
        before: Outcome | None = None,
    ) -> None:
        self.model, self.images, self.labels, self.targets = model, images, labels, targets
        self.task, self.memory, self.key, self.before = task, memory, key, before
        if logits is None:
            rows = torch.arange(len(images), device=images.device)
            (logits,) = memory.map(rows, lambda part: [model.verdict(images[part])])
        self.done = adversarial(logits, labels, targets)
        self.adversarial_images = images.clone() if keep else None
        self._described = images.clone() if keep else None
        self._closest = images.clone()
        self._closest_size: NDArray[Any] = np.full(len(images), np.inf, dtype=np.float32)
        self._refinable: NDArray[Any] = np.zeros(len(images), dtype=bool)

    def run(self, chosen: Sequence[SelectedAttack]) -> Iterator[tuple[str, Outcome]]:
        """Yield every attack's outcome as it finishes, and finally ``worst``: image by image that of the best."""
        outcomes: dict[str, Outcome] = {}
        described: list[Tensor] = []
        for selected in chosen:
            with _count_cost(self.model) as totals:
                outcome = self._attack(selected, tuple(outcomes.values()))
            outcome.totals[:] = totals
            outcomes[selected.text] = outcome
            if self._described is not None:
                described.append(self._described.clone())
            yield selected.text, outcome
        with _count_cost(self.model) as totals:
            worst = worst_of(list(outcomes.values()))
            if described:
                best = torch.from_numpy(best_attack(list(outcomes.values()))).to(self.images.device)
                rows = torch.arange(len(best), device=best.device)
                self.adversarial_images = torch.stack(described)[best, rows]
            self._closest_size.fill(np.inf)
            self._go_further(chosen, worst)
            self._refine(worst)
        worst.totals[:] = totals
        yield "worst", worst

    def _attack(self, selected: SelectedAttack, earlier: Sequence[Outcome]) -> Outcome:
        outcome = Outcome.blank(len(self.images))
        if self.before is not None:
            outcome = broken_by((self.before, *earlier), self.task.epsilon)
        outcome.smallest[_numpy(self.done)] = 0.0
        if self._described is not None:
            self._described = self.images.clone()
        self._closest_size.fill(np.inf)
        if selected.fixed:
            self._descend(selected, outcome)
            self._refine(outcome)
        else:
            self._minimum(selected, outcome)
        return outcome

    def _descend(self, selected: SelectedAttack, outcome: Outcome) -> None:
        """Attack in full at every epsilon, the largest first, the images that no success found so far covers.

        A success often needs few steps, a failure needs all: an image that resists an attack for which that rules out
        smaller epsilons is not attacked there again, and a short search from a success looks for one in smaller balls.
        """
        candidates = self._left(outcome, 0.0)
        for epsilon in reversed(self.task.epsilons):
            # Scaled back, a success in a larger ball can lie in this one.
            rows = candidates[~self._success(outcome, epsilon)[candidates]]
            if len(rows):
                self._try(selected, rows, epsilon, epsilon, outcome)
            if selected.attack.rules_out_smaller:
                candidates = candidates[self._success(outcome, epsilon)[candidates]]
                if is_refined(selected, self.task.norm):
                    self._leap(selected, rows[self._success(outcome, epsilon)[rows]], epsilon, outcome)

    def _leap(self, selected: SelectedAttack, rows: Tensor, epsilon: float, outcome: Outcome) -> None:
        """Record adversarial images in smaller balls that a short search finds from those known at ``epsilon``."""
        if len(rows) == 0:
            return
        nearer = self._closest.clone()
        known = torch.from_numpy(outcome.smallest).to(self.images)

        def work(part: Tensor) -> list[Tensor]:
            images, sizes = leapt(
                self._refine_inputs(part), self._closest[part], known[part], self.task.epsilons
            )
            nearer[part] = images
            return [sizes]

        (sizes,) = self.memory.map(rows, work)
        rows = rows[sizes < known[rows]]
        if len(rows):
            self._record(selected, rows, epsilon, lambda part: nearer[part], outcome)

    def _left(self, outcome: Outcome, epsilon: float) -> Tensor:
        return (~self._success(outcome, epsilon)).nonzero()[:, 0]

    def _success(self, outcome: Outcome, epsilon: float) -> Tensor:
        return torch.from_numpy(outcome.success(epsilon)).to(self.images.device)

    def _minimum(self, selected: SelectedAttack, outcome: Outcome) -> None:
        """Attack once; the sizes that a minimum-norm attack returns serve every epsilon."""
        rows = self._left(outcome, 0.0)
        reach = max((*self.task.epsilons, *self.task.extra_epsilons), default=0.0)
        anything = self.task.norm.largest(tuple(self.images.shape[1:]))
        if len(rows) and reach > 0:
            self._try(selected, rows, reach, anything, outcome)

    def _inputs(self, part: Tensor, epsilon: float, draws: torch.Generator) -> AttackInputs:
        goal = pick(self.targets, part)
        return AttackInputs(
            self.model, self.images[part], self.labels[part], self.task.norm, epsilon, draws, goal
        )

    def _refine_inputs(self, part: Tensor) -> RefineInputs:
        goal = pick(self.targets, part)
        return RefineInputs(self.model, self.images[part], self.labels[part], goal, self.task.norm)

    def _try(
        self,
        selected: SelectedAttack,
        rows: Tensor,
        epsilon: float,
        allowed: float,
        outcome: Outcome,
    ) -> None:
        """Let the attack propose images at ``epsilon``, judge them within ``allowed``, and record the outcome."""
        first = int(rows[0])

        def proposals(part: Tensor) -> Tensor:
            # An attack draws the same whether others came before it or not.
            name = selected.text.removeprefix(THEN)
            draws = generator(self.task.seed, "attack", name, self.key, str(epsilon), int(part[0]) - first)
            return selected.attack.run(self._inputs(part, epsilon, draws))

        self._record(selected, rows, allowed, proposals, outcome)

    def _record(
        self,
        selected: SelectedAttack,
        rows: Tensor,
        allowed: float,
        proposals: Callable[[Tensor], Tensor],
        outcome: Outcome,
    ) -> None:
        """Judge an attack's ``proposals`` for parts of ``rows`` within ``allowed``, and record the outcome."""

        def work(part: Tensor) -> list[Tensor]:
            images, labels, goal = self.images[part], self.labels[part], pick(self.targets, part)
            within = self._inputs(part, allowed, torch.Generator())
            verdict = within.judge(proposals(part))
            size, closest = self._draw_back(images, verdict, labels, goal)
            described = self._shorten(images, verdict, size) if selected.fixed else closest
            judged = within.judge(described)
            # What is described must be adversarial, too; the attack's own image is when a shorter one is not.
            if selected.fixed and bool((verdict.success & ~judged.success).any()):
                undone = per_image(verdict.success & ~judged.success, images).bool()
                judged = within.judge(torch.where(undone, verdict.images, described))
            outside, invalid, success, verdict = verdict.outside, verdict.invalid, verdict.success, judged
            return [
                success,
                size.clamp_max(allowed),  # inside up to rounding, says the judge, is inside
                outside,
                invalid,
                closest,
                *_measures(images, verdict),
                *([] if self._described is None else [verdict.images]),
            ]

        success, size, outside, invalid, closest, prediction, *measures = self.memory.map(rows, work)
        where = _numpy(rows)
        outcome.outside[where] |= _numpy(outside)
        outcome.invalid[where] |= _numpy(invalid)
        won = _numpy(success)
        outcome.smallest[where[won]] = np.minimum(outcome.smallest[where[won]], _numpy(size)[won])
        self._remember(selected, rows, success, size, closest)
        # The image within the reported epsilon is described; those found beyond it only extend the curve.
        reported = won & (_numpy(size) <= self.task.epsilon * (1 + 1e-6) + 1e-9)
        outcome.prediction[where[reported]] = _numpy(prediction)[reported]
        if self._described is not None:
            images, chosen = measures.pop(), torch.from_numpy(reported).to(rows.device)
            self._described[rows[chosen]] = images[chosen]
        for name, values in zip(MEASURES, measures, strict=True):
            getattr(outcome, name)[where[reported]] = _numpy(values)[reported]

    def _remember(
        self, selected: SelectedAttack, rows: Tensor, success: Tensor, size: Tensor, closest: Tensor
    ) -> None:
        """Remember the closest adversarial images, from which ``_refine`` starts."""
        where = _numpy(rows)
        better = _numpy(success) & (_numpy(size) < self._closest_size[where])
        self._closest_size[where[better]] = _numpy(size)[better]
        self._refinable[where[better]] = is_refined(selected, self.task.norm)
        chosen = torch.from_numpy(better).to(rows.device)
        self._closest[rows[chosen]] = closest[chosen]

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

    def _shorten(self, images: Tensor, verdict: Judgement, size: Tensor) -> Tensor:
        """Return the judged images, scaled back to the smallest epsilon of the task that holds the ``size`` (N,)."""
        norm = self.task.norm
        if isinstance(norm, L0):
            return verdict.images
        radius = verdict.sizes.clone()
        for epsilon in reversed(self.task.epsilons):
            radius = torch.where(size <= epsilon, radius.clamp_max(epsilon), radius)
        scale = per_image(radius / verdict.sizes.clamp_min(1e-12), images)
        shorter = images + scale * (verdict.images - images)
        return torch.where(per_image(verdict.success, images).bool(), shorter, verdict.images)

    def _go_further(self, chosen: Sequence[SelectedAttack], worst: Outcome) -> None:
        """Try larger epsilons on unbroken images, in full, so that the curve reaches its end.

        Every second epsilon is tried until one succeeds, and then the ones below it: an image that resists at one is not
        attacked at smaller ones, except by attacks for which a failure does not rule out smaller epsilons.
        """
        epsilons, further = self.task.extra_epsilons, [s for s in chosen if s.fixed and goes_further(s)]
        hasty = [s for s in further if not s.attack.rules_out_smaller]
        for epsilon in epsilons:
            self._all(hasty, self._left(worst, epsilon), epsilon, worst)
        patient = [s for s in further if s.attack.rules_out_smaller]
        rows = self._left(worst, self.task.epsilon)
        failed = np.full(len(self.images), -1)
        while patient and epsilons and len(rows):
            place = _numpy(rows)
            success = np.stack([worst.success(epsilon)[place] for epsilon in epsilons])
            found = np.where(success.any(0), success.argmax(0), len(epsilons))
            upwards = np.minimum(failed[place] + 2, len(epsilons) - 1)
            following = np.where(found < len(epsilons), found - 1, upwards)
            still_open = found - failed[place] > 1
            for number in np.unique(following[still_open]):
                here = place[still_open & (following == number)]
                self._all(patient, torch.from_numpy(here).to(self.images.device), epsilons[number], worst)
                failed[here[~worst.success(epsilons[number])[here]]] = number
            rows = torch.from_numpy(place[still_open]).to(self.images.device)

    def _all(self, chosen: Sequence[SelectedAttack], rows: Tensor, epsilon: float, outcome: Outcome) -> None:
        """Make the attacks one after the other at one epsilon, each on those of ``rows`` that are unbroken by then."""
        for selected in chosen:
            remaining = rows[~self._success(outcome, epsilon)[rows]]
            if len(remaining):
                self._try(selected, remaining, epsilon, epsilon, outcome)

    def _refine(self, outcome: Outcome) -> None:
        """Refine the smallest perturbations that a white-box attack found at fixed epsilons, between two of them.

        An image stays broken at the epsilons at which the attacks broke it, and at no other.
        """
        wanted = np.isfinite(self._closest_size) & self._refinable
        if not wanted.any():
            return
        floors = np.zeros(len(self.images))
        for epsilon in (*self.task.epsilons, *self.task.extra_epsilons):
            floors = np.where(outcome.success(epsilon), floors, np.maximum(floors, just_beyond(epsilon)))
        rows = torch.from_numpy(np.flatnonzero(wanted)).to(self.images.device)
        low, high = (torch.from_numpy(v).to(self.images) for v in (floors, outcome.smallest))

        def work(part: Tensor) -> list[Tensor]:
            return [refined(self._refine_inputs(part), self._closest[part], low[part], high[part])]

        (sizes,) = self.memory.map(rows, work)
        outcome.smallest[_numpy(rows)] = np.minimum(outcome.smallest[_numpy(rows)], _numpy(sizes))


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
