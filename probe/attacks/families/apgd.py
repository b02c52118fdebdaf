"""Auto-PGD: projected gradient ascent that chooses its own step sizes (Croce and Hein 2020, 2021)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.base import ATTACKS, Attack, AttackInputs, Traits
from probe.attacks.families.gradient import sparse
from probe.attacks.losses import LOSSES, LossName, ascent, broken, pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import L0, L1, Norm, per_image

_TRAITS = Traits(
    norms=("Linf", "L2", "L1"),
    access="white-box",
    targeted=True,
    paper='Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse '
    'parameter-free attacks", 2020; for L1 "Mind the box", 2021',
)
_MOMENTUM = 0.75
_FIRST_SHARE = 0.2
_L1_SHRINK, _L1_LEAST = 1.5, 10.0


@dataclass
class _State:
    """The state of the images not yet broken: ``where`` are their indices in the batch; the rest has one row each.

    ``rises`` counts the steps since the last checkpoint that increased the loss. ``share`` is the fraction of the
    values that an L1 step changes, ``changed`` how many differed at the last checkpoint.
    """

    where: Tensor
    x: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best_x: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    step: Tensor
    rises: Tensor
    checked_loss: Tensor
    just_halved: Tensor
    share: Tensor
    changed: Tensor

    @classmethod
    def at(cls, x: Tensor, step: float) -> _State:
        """Return the state at ``x`` (N, C, H, W), before any pass."""
        low = x.new_full((len(x),), -torch.inf)
        return cls(
            where=torch.arange(len(x), device=x.device),
            x=x,
            previous=x,
            gradient=torch.zeros_like(x),
            loss=-low,  # so that the first pass does not count as a rise
            best_x=x.clone(),
            best_gradient=torch.zeros_like(x),
            best_loss=low.clone(),
            step=x.new_full((len(x),), step),
            rises=torch.zeros(len(x), dtype=torch.int64, device=x.device),
            checked_loss=low.clone(),
            just_halved=torch.ones(len(x), dtype=torch.bool, device=x.device),
            share=x.new_full((len(x),), _FIRST_SHARE),
            changed=x.new_full((len(x),), float(x[0].numel())),
        )

    def keep(self, alive: Tensor) -> None:
        """Drop the rows that are not alive."""
        for name, value in vars(self).items():
            setattr(self, name, value[alive])

    def take(self, losses: Tensor, gradient: Tensor) -> None:
        """Record a pass at ``x``: losses (N,) and gradients."""
        self.rises += losses > self.loss
        self.loss, self.gradient = losses, gradient
        better = losses > self.best_loss
        wide = better.reshape(-1, *[1] * (self.x.dim() - 1))
        self.best_loss = torch.where(better, losses, self.best_loss)
        self.best_x = torch.where(wide, self.x, self.best_x)
        self.best_gradient = torch.where(wide, gradient, self.best_gradient)

    def return_to_best(self, rows: Tensor) -> None:
        """Reset the given rows to their best image."""
        wide = rows.reshape(-1, *[1] * (self.x.dim() - 1))
        self.x = torch.where(wide, self.best_x, self.x)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)


@dataclass(frozen=True)
class AutoPGD(Attack):
    """Base class of the Auto-PGD attacks, which differ in the loss. An image is not changed further once it is broken.

    ``rho``: the step is halved if fewer than this fraction of the steps increased the loss. ``eot``: passes
    averaged per gradient.
    """

    steps: int = 100
    restarts: int = 1
    rho: float = 0.75
    eot: int = 1

    loss: ClassVar[LossName] = "ce"

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        return self._runs(inputs, inputs.targets)[0]

    def _runs(self, inputs: AttackInputs, target_classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the final images of all restarts, (N, C, H, W), and which are adversarial, (N,).

        ``target_classes`` (N,) are the classes that count as success, None: any class other than the label.
        """
        images, start = inputs.images, inputs.start
        result, done = images.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device)
        for restart in range(self.restarts):
            remaining = (~done).nonzero()[:, 0]
            if len(remaining) == 0:
                break
            first = images[remaining] if start is None else start[remaining]
            if start is None or restart:
                first = boundary_start(images[remaining], inputs.norm, inputs.epsilon, inputs.generator)
            result[remaining], done[remaining] = self.climb(
                inputs.rows(remaining).begin_at(first), pick(target_classes, remaining)
            )
        return result, done

    @property
    def rules_out_smaller(self) -> bool:
        """True from ten steps on."""
        return self.steps >= 10

    def climb(self, inputs: AttackInputs, target_classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the final images of one run from the inputs' start, (N, C, H, W), and which are adversarial, (N,).

        The loss leads towards the inputs' targets, or away from the label. An image is broken when the prediction is
        ``target_classes`` (N,), or any class other than the label if ``target_classes`` is None.
        """
        model, images, labels = inputs.model, inputs.images, inputs.labels
        norm, epsilon = inputs.norm, inputs.epsilon
        start, targets = inputs.begin, inputs.targets
        state = _State.at(start, epsilon * (1.0 if isinstance(norm, L1) else 2.0))
        result, done = start.clone(), torch.zeros(len(start), dtype=torch.bool, device=start.device)
        for index, window in enumerate([*windows(self.steps, isinstance(norm, L1)), 0]):
            goal = pick(targets, state.where)
            logits, losses, gradient = ascent(
                model, state.x, labels[state.where], goal, LOSSES[self.loss], self.eot
            )
            state.take(losses, gradient)
            hit = broken(model, state.x, logits, labels[state.where], pick(target_classes, state.where))
            if bool(hit.any()):
                result[state.where[hit]], done[state.where[hit]] = state.x[hit], True
                state.keep(~hit)
            if index == self.steps or len(state.where) == 0:
                break
            if index > 0 and window:
                self._adapt(state, images[state.where], norm, epsilon, window)
            _advance(state, images[state.where], norm, epsilon, first=index == 0)
        result[state.where] = state.best_x
        return result, done

    def _adapt(self, state: _State, images: Tensor, norm: Norm, epsilon: float, window: int) -> None:
        if isinstance(norm, L1):
            _adapt_l1(state, images, epsilon)
            return
        stalled = state.rises <= self.rho * window
        stalled |= ~state.just_halved & (state.checked_loss >= state.best_loss)
        state.step = torch.where(stalled, state.step / 2, state.step)
        state.return_to_best(stalled)
        state.just_halved, state.checked_loss = stalled, state.best_loss.clone()
        state.rises.zero_()


@ATTACKS.register("apgd-ce")
@dataclass(frozen=True)
class ApgdCE(AutoPGD):
    """Auto-PGD on the cross-entropy (Croce and Hein 2020)."""

    traits: ClassVar[Traits] = _TRAITS
    loss: ClassVar[LossName] = "ce"


@ATTACKS.register("apgd-dlr")
@dataclass(frozen=True)
class ApgdDLR(AutoPGD):
    """Auto-PGD on the difference of logits ratio (Croce and Hein 2020).

    With two classes there is no third logit for the ratio; then the loss is the plain difference of logits.
    """

    traits: ClassVar[Traits] = _TRAITS
    loss: ClassVar[LossName] = "dlr"


@ATTACKS.register("apgd-t")
@dataclass(frozen=True)
class ApgdT(AutoPGD):
    """Auto-PGD towards each of the nine most likely other classes in turn (Croce and Hein 2020).

    ``classes`` is the number of target classes, at most the number of other classes. If a target is given, it is the
    only target class.
    """

    classes: int = 9

    traits: ClassVar[Traits] = _TRAITS
    loss: ClassVar[LossName] = "dlr"

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        if inputs.targets is not None:
            return super()._perturb(inputs)
        result = inputs.images.clone()
        remaining = torch.arange(len(result), device=result.device)
        for column in likeliest_others(inputs.model, inputs.images, inputs.labels, self.classes).unbind(1):
            if len(remaining) == 0:
                break
            part = replace(inputs.rows(remaining), targets=column[remaining], start=None)
            # Any class other than the label is a success.
            result[remaining], done = self._runs(part, None)
            remaining = remaining[~done]
        return result


def likeliest_others(model: AttackedModel, images: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the classes other than the label with the largest logits, in descending order, (N, min(count, K − 1))."""
    logits = model.verdict(images)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices


def boundary_start(images: Tensor, norm: Norm, epsilon: float, generator: torch.Generator) -> Tensor:
    """Return images perturbed in a random direction with size epsilon (then clipped to [0, 1])."""
    inside = norm.start(images, epsilon, generator)
    if isinstance(norm, L0):  # the start already changes as many pixels as allowed
        return inside
    delta = inside - images
    full = delta * per_image(epsilon / norm.size(delta).clamp_min(1e-12), delta)
    return norm.project(images, images + full, epsilon)


def windows(steps: int, l1: bool) -> list[int]:
    """Return, for each step, the length of the window that ends there, or 0 if there is no checkpoint.

    The first window is 22% of the steps; each is 3% shorter than the previous one, but at least 6%. For L1 all are 4%.
    """
    window = max(int((0.04 if l1 else 0.22) * steps), 1)
    least, shrink = max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    ends, since = [0] * steps, 0
    for index in range(1, steps):
        since += 1
        if since == window:
            ends[index], since = window, 0
            window = window if l1 else max(window - shrink, least)
    return ends


def _advance(state: _State, images: Tensor, norm: Norm, epsilon: float, first: bool) -> None:
    """Make one projected step along the gradient, with momentum except for L1."""
    if isinstance(norm, L1):
        move = per_image(state.step, images) * sparse(state.gradient, state.share)
        state.previous, state.x = state.x, norm.project(images, state.x + move, epsilon)
        return
    move = per_image(state.step, images) * norm.steepest(state.gradient)
    reached = norm.project(images, state.x + move, epsilon)
    if not first:
        momentum = state.x - state.previous
        reached = state.x + _MOMENTUM * (reached - state.x) + (1 - _MOMENTUM) * momentum
        reached = norm.project(images, reached, epsilon)
    state.previous, state.x = state.x, reached


def _adapt_l1(state: _State, images: Tensor, epsilon: float) -> None:
    """Make the steps as sparse as the best image; if its sparsity has converged, shorten them instead."""
    changed = (state.best_x - images).flatten(1).ne(0).sum(1).to(state.loss)
    settling = changed / state.changed < 0.95
    state.share = (changed / images[0].numel() / _L1_SHRINK).clamp_min(0)
    shorter = (state.step / _L1_SHRINK).clamp_min(epsilon / _L1_LEAST)
    state.step = torch.where(settling, torch.full_like(shorter, epsilon), shorter)
    state.return_to_best(settling)
    state.changed = changed.clamp_min(1)
    state.rises.zero_()
