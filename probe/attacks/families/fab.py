"""Fast adaptive boundary attack: the smallest perturbation by projections onto linearised boundaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.families.apgd import likeliest_others
from probe.attacks.linearised import NearestBoundary
from probe.attacks.losses import adversarial, ascent, difference, margin_to, pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import L1, L2, Linf, Norm, per_image
from probe.attacks.smallest import Smallest


def step_to_hyperplane(x: Tensor, normal: Tensor, deficit: Tensor, norm: Norm) -> Tensor:
    """Return the smallest step (N, D) from ``x`` (N, D) that adds ``deficit`` (N,) to ⟨normal, x⟩ within [0, 1].

    ``normal`` (N, D). A negative deficit steps the other way. Raises ValueError for an unsupported norm.
    """
    signed = normal * deficit.sign()[:, None]
    weight, room = signed.abs(), torch.where(signed > 0, 1 - x, x)
    room = torch.where(weight > 0, room.clamp_min(0), torch.zeros_like(room))
    need = deficit.abs()
    if isinstance(norm, Linf):
        length = _linf(weight, room, need)
    elif isinstance(norm, L2):
        length = _l2(weight, room, need)
    elif isinstance(norm, L1):
        length = _l1(weight, room, need)
    else:
        raise ValueError(f"no projection onto a hyperplane in {norm.name}")
    return length * signed.sign()


def _linf(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Solve Σ w min(t, room) = need for t; the sum is increasing and concave in t."""
    ordered, order = room.sort(dim=1)
    sorted_weight = weight.gather(1, order)
    spent = (sorted_weight * ordered).cumsum(1)
    left = sorted_weight.sum(1, keepdim=True) - sorted_weight.cumsum(1)
    reached = spent + ordered * left  # the gain at t = ordered[i]
    threshold = _solve(reached, ordered, spent, left, sorted_weight, need)
    return torch.minimum(room, threshold[:, None])


def _l2(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Solve Σ w min(t w, room) = need for t."""
    limits = torch.where(weight > 0, room / weight.clamp_min(1e-38), torch.zeros_like(room))
    ordered, order = limits.sort(dim=1)
    squares = (weight * weight).gather(1, order)
    spent = (weight * room).gather(1, order).cumsum(1)
    left = squares.sum(1, keepdim=True) - squares.cumsum(1)
    reached = spent + ordered * left
    threshold = _solve(reached, ordered, spent, left, squares, need)
    return torch.minimum(room, threshold[:, None] * weight)


def _solve(
    reached: Tensor, ordered: Tensor, spent: Tensor, left: Tensor, rate: Tensor, need: Tensor
) -> Tensor:
    """Return the t at which the piecewise linear gain equals ``need``, or the last breakpoint if it never does."""
    count = reached.shape[1]
    place = torch.searchsorted(reached.cummax(1).values.contiguous(), need[:, None].contiguous())
    inside = place.clamp_max(count - 1)
    before = (inside - 1).clamp_min(0)
    first = inside == 0
    base = torch.where(first, 0.0, spent.gather(1, before))
    slope = torch.where(first, left.gather(1, inside) + rate.gather(1, inside), left.gather(1, before))
    t = (need[:, None] - base) / slope.clamp_min(1e-38)
    t = torch.where(place >= count, ordered[:, -1:], t.clamp_min(0))
    return torch.where(slope > 0, torch.minimum(t, ordered[:, -1:]), ordered[:, -1:])[:, 0]


def _l1(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Change the values with the largest weights first, the last one only partly."""
    order = weight.argsort(dim=1, descending=True)
    gain = (weight * room).gather(1, order)
    before = gain.cumsum(1) - gain
    share = ((need[:, None] - before) / gain.clamp_min(1e-38)).clamp(0, 1)
    part = torch.zeros_like(share).scatter_(1, order, share)
    return part * room


def biased_step(
    x: Tensor, origin: Tensor, deficit: Tensor, normal: Tensor, norm: Norm, alpha: float, eta: float
) -> Tensor:
    """Move to a mean of the boundary's nearest points to ``x`` and to the original (equation 7 of FAB).

    The boundary of ``x`` (N, C, H, W) is that of ``step_to_hyperplane``; ``alpha`` bounds the weight of the original's
    point, and ``eta`` is the overshoot.
    """
    flat, base = x.flatten(1), origin.flatten(1)
    from_origin = deficit + (normal * (flat - base)).sum(1)
    both = step_to_hyperplane(
        torch.cat([flat, base]), torch.cat([normal, normal]), torch.cat([deficit, from_origin]), norm
    )
    here, there = (part.reshape(x.shape) for part in both.chunk(2))
    near, far = norm.size(here).clamp_min(1e-8), norm.size(there).clamp_min(1e-8)
    pull = per_image((near / (near + far)).clamp(0, alpha), x)
    return ((1 - pull) * (x + eta * here) + pull * (origin + eta * there)).clamp(0, 1)


_TRAITS = Traits(
    norms=("Linf", "L2", "L1"),
    access="white-box",
    minimum_norm=True,
    targeted=True,
    paper='Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", 2020',
)


@dataclass(frozen=True)
class _Fab(Attack):
    """Base class of both FAB attacks. ``enough`` stops an image once its perturbation is at most epsilon.

    ``alpha`` bounds the bias towards the original, ``eta`` is the overshoot, ``beta`` the backward step after a success.
    ``candidates`` limits the boundaries that an untargeted attack considers to the most likely classes (None: all).
    """

    steps: int = 100
    restarts: int = 1
    alpha: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    enough: bool = False
    candidates: int | None = 30

    def _run(
        self,
        model: AttackedModel,
        images: Tensor,
        labels: Tensor,
        norm: Norm,
        epsilon: float,
        best: Smallest,
        where: Tensor,
        start: Tensor,
        targets: Tensor | None,
        targeted: bool,
    ) -> None:
        """Improve ``best`` at ``where``; ``targets`` select the boundary and, if ``targeted``, the class to reach."""
        x, origin, own = start, images[where], labels[where]
        nearest = NearestBoundary(model, len(images), norm, self.candidates)
        for _ in range(self.steps):
            if targets is None:
                deficit, normal = nearest(x, own, model.verdict(x), where)
            else:
                deficit, normal = self._boundary(model, x, own, targets, targeted)
            x = biased_step(x, origin, deficit, normal, norm, self.alpha, self.eta)
            hit = adversarial(model.verdict(x), own, targets if targeted else None)
            if not bool(hit.any()):
                continue
            best.offer(hit, x, where)
            x[hit] = origin[hit] + (x[hit] - origin[hit]) * self.beta
            if self.enough:
                alive = best.sizes[where] > epsilon
                where, x, origin, own = where[alive], x[alive], origin[alive], own[alive]
                targets = pick(targets, alive)
                if len(where) == 0:
                    return

    def _boundary(
        self, model: AttackedModel, x: Tensor, labels: Tensor, targets: Tensor, targeted: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the deficit (N,) and normal (N, D) of the linearised boundary to the ``targets``.

        A targeted attack has to overtake the most likely other class, which need not be the label.
        """
        loss = difference if targeted else towards
        _, gain, gradient = ascent(model, x, labels, targets, loss)
        return -gain, gradient.flatten(1)

    def _start(
        self, images: Tensor, best: Smallest, where: Tensor, norm: Norm, epsilon: float, g: torch.Generator
    ) -> Tensor:
        """Return a random start for another restart, half as far away as the best image so far."""
        radius = best.sizes[where].clamp_max(epsilon) / 2
        direction = norm.start(images[where], 1.0, g) - images[where]
        unit = direction / per_image(norm.size(direction).clamp_min(1e-12), images)
        return (images[where] + per_image(radius, images) * unit).clamp(0, 1)


def towards(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Return the target's logit minus the label's, (N,)."""
    return -margin_to(logits, labels, targets)


@ATTACKS.register("fab")
@dataclass(frozen=True)
class Fab(_Fab):
    """Fast adaptive boundary attack on the nearest class at every step (Croce and Hein 2020)."""

    traits: ClassVar[Traits] = _TRAITS

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        model, images, labels, targets = inputs.model, inputs.images, inputs.labels, inputs.targets
        norm, epsilon, generator = inputs.norm, inputs.epsilon, inputs.generator
        best = Smallest(inputs)
        every = torch.arange(len(images), device=images.device)
        with model.in_float32():
            for restart in range(self.restarts):
                start = images if restart == 0 else self._start(images, best, every, norm, epsilon, generator)
                self._run(
                    model, images, labels, norm, epsilon, best, every, start, targets, targets is not None
                )
        return best.images


@ATTACKS.register("fab-t")
@dataclass(frozen=True)
class FabT(_Fab):
    """Fast adaptive boundary attack on the boundaries to the nine most likely classes (Croce and Hein 2020).

    ``classes`` is at most the number of other classes. If a target is given, it is the only target class.
    """

    classes: int = 9

    traits: ClassVar[Traits] = _TRAITS

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        model, images, labels, targets = inputs.model, inputs.images, inputs.labels, inputs.targets
        norm, epsilon, generator = inputs.norm, inputs.epsilon, inputs.generator
        best, targeted = Smallest(inputs), targets is not None
        columns = (
            targets[:, None] if targets is not None else likeliest_others(model, images, labels, self.classes)
        )
        with model.in_float32():
            for restart in range(self.restarts):
                for column in columns.unbind(1):
                    where = torch.arange(len(images), device=images.device)
                    if self.enough:
                        where = where[best.sizes > epsilon]
                    if len(where) == 0:
                        break
                    start = images[where]
                    if restart:
                        start = self._start(images, best, where, norm, epsilon, generator)
                    self._run(
                        model, images, labels, norm, epsilon, best, where, start, column[where], targeted
                    )
        return best.images
