"""Adapters for attacks of other libraries (output, randomness, best results), and the base class for torchattacks."""

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
"""Modules whose warnings are suppressed."""


@dataclass(frozen=True)
class WrappedInputs(AttackInputs):
    """The inputs, with the additional values that other libraries and the check of their results need.

    ``images`` are contiguous; ``classes`` is the number of logits; ``seed`` was drawn from the generator.
    """

    seed: int = 0
    classes: int = 0

    def reached(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return which of the images in ``rows`` are adversarial, given their logits (len(rows), classes)."""
        predictions = logits.argmax(1)
        misclassified = (
            predictions != self.labels[rows] if self.targets is None else predictions == self.targets[rows]
        )
        return misclassified & logits.isfinite().all(1)


class BestSeen:
    """The best adversarial images that an attack passed to the network, in case it returns others.

    Many attacks reach an adversarial image inside the ball but return a later iterate. For every image, the
    first such iterate is kept (``smallest``: the smallest one of any size, for minimum-norm attacks). Only passes with
    as many images as ``rows`` are considered. Their order does not matter: row i is kept only if it is near image i and
    adversarial for label i.
    """

    def __init__(self, case: WrappedInputs, *, smallest: bool) -> None:
        self.case = case
        self.smallest = smallest
        self.best = case.images.clone()
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

    def observe(self, images: Tensor, logits: Tensor) -> None:
        """Keep images that are better than those kept so far; called for every pass of the network."""
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
        self.best[rows[better]] = images[better].to(self.best)
        self.sizes[rows[better]] = sizes[better].to(self.sizes)

    def result(self, proposals: Tensor) -> Tensor:
        """Return the attack's images (N, C, H, W), or the kept ones if they are better; count the rescued images.

        The result is the clean image for values that are not finite, and if a minimum-norm attack did not succeed.
        """
        case = self.case
        clean = case.images
        proposals = torch.where(_wide(proposals.isfinite().flatten(1).all(1)), proposals, clean)
        rows = torch.arange(len(clean), device=clean.device)
        good = case.reached(case.model.verdict(proposals), rows)
        if not self.smallest:
            good &= within(clean, proposals, case.norm, case.epsilon)
        elif not good.all():
            # DeepFool and similar attacks may stop within rounding error of the boundary.
            further = (clean + 1.001 * (proposals - clean)).clamp(0, 1)
            proposals = torch.where(_wide(good), proposals, further)
            good |= case.reached(case.model.verdict(proposals), rows)
        use_best = self.sizes.isfinite()
        if use_best.any():
            use_best &= case.reached(case.model.verdict(self.best), rows)
        case.model.rescued += int((use_best & ~good).sum())
        if self.smallest:
            proposals = torch.where(_wide(good), proposals, clean)
            use_best &= ~good | (self.sizes < case.norm.size(proposals - clean))
        else:
            use_best &= ~good
        return torch.where(_wide(use_best), self.best, proposals)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Suppress the output and the warnings of another library; warnings of the network are still shown."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=PEERS)
        yield


def draw_seed(generator: torch.Generator) -> int:
    """Draw a seed below 2**31, which every library accepts."""
    return int(torch.randint(2**31 - 1, (), generator=generator, device=generator.device))


def wrapped_inputs(inputs: AttackInputs) -> WrappedInputs:
    """Prepare the inputs for another library; needs one forward pass of one image."""
    # Some libraries call .view on the images, which fails for channels_last.
    prepared = inputs.images.detach().clamp(0, 1).contiguous(memory_format=torch.contiguous_format)
    classes = inputs.model.verdict(prepared[:1]).shape[1]
    own = {field.name: getattr(inputs, field.name) for field in fields(AttackInputs)}
    return WrappedInputs(**{**own, "images": prepared}, seed=draw_seed(inputs.generator), classes=classes)


class _PlainGradient(torch.autograd.Function):
    """Identity with a contiguous gradient, because the gradient of a channels_last network is not contiguous."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


class ModelWrapper(nn.Module):
    """A network for other libraries: they cannot change its mode, and its gradients are contiguous."""

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
    """A network with logits shifted to be at least 0, for losses that mask a logit by multiplying it by 0."""

    def forward(self, images: Tensor) -> Tensor:
        """Return shifted logits (N, classes) with unchanged differences."""
        logits = super().forward(images)
        return logits - logits.detach().amin(1, keepdim=True)


class FirstChannels(ModelWrapper):
    """A network that reads the first of three channels, for colour-only attacks on a network for fewer channels."""

    def __init__(self, model: AttackedModel, channels: int) -> None:
        super().__init__(model)
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the first channels."""
        return super().forward(images[:, : self.channels])


def as_colour(case: WrappedInputs) -> WrappedInputs:
    """Return a case of images with one or two channels filled up to three with the last one, for ``FirstChannels``."""
    images = case.images
    return replace(case, images=torch.cat([images, *[images[:, -1:]] * (3 - images.shape[1])], 1))


@dataclass(frozen=True)
class TorchattacksAttack(Attack):
    """Base class of torchattacks attacks; a subclass builds the attack for a case."""

    network: ClassVar[type[ModelWrapper]] = ModelWrapper
    """The wrapper through which the library calls the network."""

    one_by_one: ClassVar[bool] = False
    """For attacks that process the batch image by image: each is run separately, so that its passes are known."""

    targets_as_labels: ClassVar[bool] = False
    """For attacks whose targeted mode expects the targets in place of the labels."""

    @abstractmethod
    def _build(self, model: nn.Module, case: WrappedInputs) -> Any:
        """Return the library's attack on ``model``."""

    def _perturb(self, inputs: AttackInputs) -> Tensor:
        case = wrapped_inputs(inputs)
        rescue = BestSeen(case, smallest=self.traits.minimum_norm)
        with silent(), scoped(case.seed, type(self).__name__), case.model.on_forward(rescue.observe):
            proposals = self._run(case, rescue)
        return rescue.result(proposals.detach().to(case.images).clamp(0, 1))

    def _run(self, case: WrappedInputs, rescue: BestSeen) -> Tensor:
        """Return the library's result for all images."""
        if self.one_by_one:
            return one_by_one(self, case, rescue)
        return run_wrapped(self._build(self.network(case.model), case), self._with_labels(case))

    def _with_labels(self, case: WrappedInputs) -> WrappedInputs:
        """Return the case with the labels to pass to the library."""
        if case.targets is None or not self.targets_as_labels:
            return case
        return replace(case, labels=case.targets)


def one_by_one(attack: TorchattacksAttack, case: WrappedInputs, rescue: BestSeen) -> Tensor:
    """Run the attack on each image separately, and return the results for all images."""
    labelled, results = attack._with_labels(case), []
    for row in rescue.rows[:, None]:
        with rescue.only(row):
            peer = attack._build(attack.network(case.model), case)
            results.append(run_wrapped(peer, labelled, row).detach())
    return torch.cat(results)


def run_wrapped(peer: Any, case: WrappedInputs, rows: Tensor | None = None) -> Tensor:
    """Run a torchattacks attack on the images ``rows`` of the case (by default all); (len(rows), C, H, W)."""
    chosen = slice(None) if rows is None else rows
    # Set explicitly, because the device of a network without parameters is not known.
    peer.set_device(case.images.device)
    if case.targets is not None:
        # Called once for the whole batch at the start of the attack; PGDRS is configured not to split the batch.
        goals = case.targets[chosen]
        peer.set_mode_targeted_by_function(lambda images, labels: matching(goals, labels), quiet=True)
    result: Tensor = peer(
        case.images[chosen].clone(memory_format=torch.contiguous_format), case.labels[chosen].clone()
    )
    return result


def matching(targets: Tensor, labels: Tensor) -> Tensor:
    """Return the targets; raises RuntimeError if a library asks for those of an unknown part of the batch."""
    if len(targets) != len(labels):
        raise RuntimeError(f"the attack asked for {len(labels)} targets of {len(targets)}")
    return targets


def per_step(step: float | None, epsilon: float, steps: int) -> float:
    """Return the step size in pixel units: ``step`` · epsilon, by default 2.5 / steps, enough to cross the ball."""
    return epsilon * (2.5 / max(steps, 1) if step is None else step)


def _wide(mask: Tensor) -> Tensor:
    return mask.reshape(-1, 1, 1, 1)
