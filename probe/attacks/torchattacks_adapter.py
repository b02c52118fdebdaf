"""Other libraries' attacks behind our contract: silence, randomness, rescue; and the base class for torchattacks."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from probe.attacks.base import Attack, AttackInputs
from probe.attacks.judge import within
from probe.attacks.model import AttackedModel
from probe.core.seeds import scoped

PEERS = r"(torchattacks|foolbox|eagerpy|numba)(\.|$)"
"""Modules whose own warnings are not shown."""


@dataclass(frozen=True)
class WrappedInputs(AttackInputs):
    """The inputs with what a peer's constructor or the check of its result asks for besides.

    ``images`` are contiguous; ``classes`` is how many logits the network gives; ``seed`` was drawn from the generator.
    """

    seed: int = 0
    classes: int = 0

    def reached(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return which of the images in ``rows`` are adversarial, given their logits (len(rows), classes)."""
        predictions = logits.argmax(1)
        left = predictions != self.labels[rows] if self.targets is None else predictions == self.targets[rows]
        return left & logits.isfinite().all(1)


class BestSeen:
    """Keeps what an attack found on its way, in case it returns something else.

    Many attacks pass an adversarial image inside the ball and return a later iterate. For every image the
    first such iterate is kept (``smallest``: the smallest of any size, for minimum-norm attacks). A pass is
    looked at when it has as many images as ``rows``. Whether it has them in the same order need not be
    known: row i is kept only if it is itself near image i and adversarial for label i.
    """

    def __init__(self, case: WrappedInputs, *, smallest: bool) -> None:
        self.case = case
        self.smallest = smallest
        self.kept = case.images.clone()
        self.sizes = torch.full_like(case.labels, math.inf, dtype=case.images.dtype)
        self.rows = torch.arange(len(case.images), device=case.images.device)

    @contextlib.contextmanager
    def only(self, rows: Tensor) -> Iterator[None]:
        """Expect passes over the images ``rows`` (M,) inside the block."""
        before, self.rows = self.rows, rows
        try:
            yield
        finally:
            self.rows = before

    def seen(self, images: Tensor, logits: Tensor) -> None:
        """Keep what is better than what is kept; called for every pass of the network."""
        case, rows = self.case, self.rows
        if images.shape != (len(rows), *case.images.shape[1:]):
            return
        better = case.reached(logits, rows)
        if not better.any():
            return
        clean = case.images[rows]
        sizes = case.norm.size(images - clean)
        better &= within(clean, images, case.norm, math.inf if self.smallest else case.epsilon)
        better &= sizes < self.sizes[rows] if self.smallest else self.sizes[rows].isinf()
        if case.model.approximate and better.any():
            better &= case.reached(case.model.verdict(images), rows)
        self.kept[rows[better]] = images[better].to(self.kept)
        self.sizes[rows[better]] = sizes[better].to(self.sizes)

    def result(self, found: Tensor) -> Tensor:
        """Return the attack's images (N, C, H, W), or the kept ones where those are better; count the rescued.

        Values that are not finite give the clean image, and so does a minimum-norm attack that found nothing.
        """
        case = self.case
        clean = case.images
        found = torch.where(_wide(found.isfinite().flatten(1).all(1)), found, clean)
        rows = torch.arange(len(clean), device=clean.device)
        good = case.reached(case.model.verdict(found), rows)
        if not self.smallest:
            good &= within(clean, found, case.norm, case.epsilon)
        elif not good.all():
            # DeepFool and its like may stop within rounding of the boundary.
            further = (clean + 1.001 * (found - clean)).clamp(0, 1)
            found = torch.where(_wide(good), found, further)
            good |= case.reached(case.model.verdict(found), rows)
        kept = self.sizes.isfinite()
        if kept.any():
            kept &= case.reached(case.model.verdict(self.kept), rows)
        case.model.rescued += int((kept & ~good).sum())
        if self.smallest:
            found = torch.where(_wide(good), found, clean)
            kept &= ~good | (self.sizes < case.norm.size(found - clean))
        else:
            kept &= ~good
        return torch.where(_wide(kept), self.kept, found)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Swallow what a peer prints and its own warnings; those of the network still come through."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=PEERS)
        yield


def draw_seed(generator: torch.Generator) -> int:
    """Draw a seed below 2**31, which every library accepts."""
    return int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))


def wrapped_inputs(inputs: AttackInputs) -> WrappedInputs:
    """Prepare the images for a peer and look up what it needs to know; takes one forward pass of one image."""
    # Some peers call .view on what they are given, which channels_last images refuse.
    prepared = inputs.images.detach().clamp(0, 1).contiguous(memory_format=torch.contiguous_format)
    classes = inputs.model.verdict(prepared[:1]).shape[1]
    own = {field.name: getattr(inputs, field.name) for field in fields(AttackInputs)}
    return WrappedInputs(**{**own, "images": prepared}, seed=draw_seed(inputs.generator), classes=classes)


class _PlainGradient(torch.autograd.Function):
    """Hands images on and their gradient back contiguous: that of a channels_last network is not."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


class ModelWrapper(nn.Module):
    """A network as a peer sees it; its mode is not the peer's to change, and gradients can be viewed as they like."""

    def __init__(self, model: AttackedModel) -> None:
        super().__init__()
        self.model = model
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Return itself."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes)."""
        logits: Tensor = self.model(_PlainGradient.apply(images))
        return logits


class PositiveLogits(ModelWrapper):
    """Shifts every image's logits to be at least 0, for losses that mask a logit by multiplying it with 0."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) with their differences as they were."""
        logits = super().forward(images)
        return logits - logits.detach().amin(1, keepdim=True)


class FirstChannel(ModelWrapper):
    """Reads the first of three channels: for attacks written for colour on a network for grey images."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images[:, :1]."""
        return super().forward(images[:, :1])


def as_colour(case: WrappedInputs) -> WrappedInputs:
    """Return a case of one-channel images with the channel three times over, to go with ``FirstChannel``."""
    return replace(case, images=case.images.expand(-1, 3, -1, -1))


@dataclass(frozen=True)
class TorchattacksAttack(Attack):
    """Runs an attack of torchattacks; a subclass builds it for one case."""

    network: ClassVar[type[ModelWrapper]] = ModelWrapper
    """How the peer sees the network."""

    one_by_one: ClassVar[bool] = False
    """For peers that go through the batch image by image: then what each passes on its way can be told apart."""

    targets_as_labels: ClassVar[bool] = False
    """For peers whose targeted mode expects the targets where the labels go."""

    @abstractmethod
    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        """Return the peer's attack on ``model``."""

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        case = wrapped_inputs(inputs)
        rescue = BestSeen(case, smallest=self.traits.minimum_norm)
        with silent(), scoped(case.seed, type(self).__name__), case.model.on_forward(rescue.seen):
            found = self._run(case, rescue)
        return rescue.result(found.detach().to(case.images).clamp(0, 1))

    def _run(self, case: WrappedInputs, rescue: BestSeen) -> Tensor:
        """Return what the peer finds for all images."""
        if self.one_by_one:
            return one_by_one(self, case, rescue)
        return run_wrapped(self._build(self.network(case.model), case), self._shown(case))

    def _shown(self, case: WrappedInputs) -> WrappedInputs:
        """Return the case with the labels that the peer is to read."""
        if case.targets is None or not self.targets_as_labels:
            return case
        return replace(case, labels=case.targets)


def one_by_one(attack: TorchattacksAttack, case: WrappedInputs, rescue: BestSeen) -> Tensor:
    """Return what the attack finds for all images, run on each of them alone."""
    shown, found = attack._shown(case), []
    for row in rescue.rows[:, None]:
        with rescue.only(row):
            peer = attack._build(attack.network(case.model), case)
            found.append(run_wrapped(peer, shown, row).detach())
    return torch.cat(found)


def run_wrapped(peer: Any, case: WrappedInputs, rows: Tensor | None = None) -> Tensor:
    """Run a torchattacks attack on the images ``rows`` of the case (by default all); (len(rows), C, H, W)."""
    chosen = slice(None) if rows is None else rows
    # Set by hand: a network without parameters does not tell its device.
    peer.set_device(case.images.device)
    if case.targets is not None:
        # Asked once for the whole batch, at the start of the attack; PGDRS, which asks in parts, is told not to.
        goals = case.targets[chosen]
        peer.set_mode_targeted_by_function(lambda images, labels: matching(goals, labels), quiet=True)
    found: Tensor = peer(
        case.images[chosen].clone(memory_format=torch.contiguous_format), case.labels[chosen].clone()
    )
    return found


def matching(targets: Tensor, labels: Tensor) -> Tensor:
    """Return the targets; RuntimeError when a peer asks for those of a part of the batch, which part is unknown."""
    if len(targets) != len(labels):
        raise RuntimeError(f"the attack asked for {len(labels)} targets of {len(targets)}")
    return targets


def per_step(step: float | None, epsilon: float, steps: int) -> float:
    """Return the step size in pixel units: ``step`` parts of epsilon, or 2.5/steps, which can cross the ball."""
    return epsilon * (2.5 / max(steps, 1) if step is None else step)


def _wide(mask: Tensor) -> Tensor:
    return mask.reshape(-1, 1, 1, 1)
