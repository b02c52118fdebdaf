"""The run: every attack on every image, batch by batch; each finished batch is kept in the journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.attacks.losses import pick
from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm
from probe.attacks.select import SelectedAttack
from probe.core.errors import CannotRunError
from probe.core.journal import NOTHING, Arrays, Journal, Lenient
from probe.core.place import HERE, Place
from probe.core.precision import accepts_bf16, fast_bf16
from probe.core.progress import SILENT, Advance, Progress
from probe.core.seeds import scoped
from probe.core.state import frozen_parameters, kept_buffers, training_mode
from probe.data.images import ImageSet
from probe.data.shards import Shards
from probe.data.spec import Batch
from probe.graph.edit.fold import folded
from probe.graph.edit.input_gradient import with_quick_gradients
from probe.graph.trace.trace import TraceError, shared_copy, trace
from probe.models.loaded import LoadedModel
from studies.adversarial.engine import BatchAttack, Task, goes_further
from studies.adversarial.microbatch import MicroBatcher
from studies.adversarial.outcome import Outcome, from_arrays, join, to_arrays
from studies.adversarial.results import Clean, Results
from studies.adversarial.targets import Target
from studies.adversarial.workers import Attacker, attacked_batches, take_seen

_IMAGES = "images"
"""The name of the adversarial images in the journal; attacks have a ``/`` in theirs."""

_HALVINGS = 6
"""How often a single epsilon is halved for the curve; larger ones are doubled until no image resists."""

_CLOSE = (0.001, 0.01)
"""How far logits, and gradients, may differ from those of the plain module, as a part of their length.

Rounding moves single values across the bend of a ReLU: folding changes efficientnet_lite0's gradient by 0.4% in this sense,
and single values of it by more than 1% of the largest.
"""


@dataclass(frozen=True)
class AttackRun:
    """A run: the network, the images, the attacks and their options. ``keep``: keep the adversarial images, too.

    ``place`` says where the batches are attacked: in this process unless it names workers. ``before`` are earlier results of
    the same images: each attack goes on with what their worst case and the attacks before it left at the reported epsilon.
    """

    model: LoadedModel
    attacked: AttackedModel
    images: ImageSet
    attacks: tuple[SelectedAttack, ...]
    task: Task
    target: Target | None
    batch_size: int
    memory: MicroBatcher
    journal: Journal
    progress: Progress
    keep: bool = False
    place: Place = HERE
    before: Results | None = None

    def run(self) -> Results:
        """Attack all images and return the results; raises CannotRunError when no image can be judged."""
        clean: list[Clean] = []
        outcomes: dict[str, list[Outcome]] = {}
        images: list[NDArray[Any]] = []
        steps = len(self.images) * (len(self.attacks) + 1)
        with self.progress.task("Attacking", steps) as advance:
            for arrays in self._made(advance):
                take_seen(arrays, self._shards, self.memory)
                if len(arrays) == 1:  # none of its images can be read
                    continue
                clean.append(_clean_from(arrays))
                for name in self._names:
                    outcomes.setdefault(name, []).append(from_arrays(name, arrays))
                if self.keep:
                    images.append(arrays[_IMAGES])
        if not clean:
            raise self.images.nothing_readable(range(len(self.images)))
        results = self._results(clean, outcomes)
        return replace(results, images=np.concatenate(images)) if self.keep else results

    @property
    def _shards(self) -> Shards:
        return Shards(self.images, self.model.input, self.batch_size, self.place)

    def _made(self, advance: Advance) -> Iterator[Arrays]:
        """Yield the arrays of every batch, in order, made where the study works or kept in the journal."""
        shards = self._shards
        make = partial(
            _in_a_worker,
            # The factory, which may hold data of the user's, does not leave this process.
            replace(self.model, factory=_none),
            self.attacked.bf16,
            shards.lent,
            self.attacks,
            self.task,
            self.target,
            self.batch_size,
            self.keep,
        )
        return attacked_batches(
            self._attacker if self.place.here else make,
            self.model.device,
            shards,
            self.place,
            Lenient(self.journal, self.progress.say),
            len(self.attacks) + 1,
            advance,
        )

    def _attacker(self) -> Attacker:
        return Attacker(self.attack, self.images, self.model.input, self.memory)

    def attack(self, batch: Batch, key: str, advance: Advance) -> Arrays:
        """Return the arrays of one batch, which depend on the seed and the ``key`` of the batch only."""
        # A network with random outputs draws from the global generator.
        with scoped(self.task.seed, "batch", key):
            return self._batch(batch, key, advance)

    def _batch(self, batch: Batch, key: str, advance: Advance) -> Arrays:
        model = self.model
        images = batch.images.to(model.device, memory_format=model.memory_format)
        rows = torch.arange(len(images), device=images.device)
        (logits,) = self.memory.map(rows, lambda part: [self.attacked.verdict(images[part])])
        if not bool(logits.isfinite().all()):
            raise CannotRunError(
                f"{model.name} returns values that are not finite for clean images of {self.images.name}: such a "
                "network cannot be attacked, check its weights and --mean and --std."
            )
        predictions = logits.argmax(1)
        labels = predictions if batch.labels is None else batch.labels.to(images.device)
        targets = None
        if self.target is not None:
            targets = self.target.targets(logits, labels, self.task.seed, key)
        keep = torch.ones_like(labels, dtype=torch.bool) if targets is None else targets != labels
        clean = Clean(
            index=np.asarray(batch.indices, dtype=np.int64)[keep.cpu().numpy()],
            label=labels[keep].cpu().numpy(),
            prediction=predictions[keep].cpu().numpy(),
            confidence=logits[keep].double().softmax(1).amax(1).float().cpu().numpy(),
            target=np.full(int(keep.sum()), -1) if targets is None else targets[keep].cpu().numpy(),
        )
        arrays = {f"clean/{field.name}": getattr(clean, field.name) for field in fields(Clean)}
        attackable = images[keep]
        bench = None
        if len(attackable):
            chosen = labels[keep], pick(targets, keep)
            bench = BatchAttack(
                self.attacked,
                attackable,
                *chosen,
                self.task,
                self.memory,
                key,
                logits[keep],
                keep=self.keep,
                before=None if self.before is None else self.before.worst_at(clean.index),
            )
        for name, outcome in self._outcomes(bench):
            arrays |= to_arrays(name, outcome)
            advance(len(images))
        if self.keep:
            adversarial_images = (
                attackable if bench is None or bench.adversarial_images is None else bench.adversarial_images
            )
            arrays[_IMAGES] = adversarial_images.contiguous().cpu().numpy()
        return arrays

    def _outcomes(self, bench: BatchAttack | None) -> Iterator[tuple[str, Outcome]]:
        """Yield every attack's outcome, and ``worst``; blank ones where no image is left."""
        if bench is None:
            yield from ((name, Outcome.blank(0)) for name in self._names)
            return
        yield from bench.run(self.attacks)

    @property
    def _names(self) -> list[str]:
        return [*(attack.text for attack in self.attacks), "worst"]

    def _results(self, clean: Sequence[Clean], outcomes: Mapping[str, Sequence[Outcome]]) -> Results:
        joined = {name: join(parts) for name, parts in outcomes.items()}
        worst = joined.pop("worst")
        together = Clean(
            **{field.name: np.concatenate([getattr(c, field.name) for c in clean]) for field in fields(Clean)}
        )
        if len(together.index) == 0:
            raise CannotRunError("No image is left to attack: all of them belong to the target class.")
        reported = self.task.epsilon
        tried = [0.0, *self.task.epsilons]
        for epsilon in self.task.extra_epsilons if any(map(goes_further, self.attacks)) else ():
            if bool(worst.success(tried[-1]).all()):
                break
            tried.append(epsilon)
        return Results(together, joined, worst, tuple(sorted({*tried, reported})), reported)


def _in_a_worker(
    model: LoadedModel,
    bf16: bool,
    images: ImageSet,
    attacks: tuple[SelectedAttack, ...],
    task: Task,
    target: Target | None,
    batch_size: int,
    keep: bool,
) -> Attacker:
    """Return what attacks a batch in a worker: the network is the worker's own, and so is what attacks make of it."""
    attacked, memory = attacked_model(model, bf16), MicroBatcher(batch_size)
    run = AttackRun(model, attacked, images, attacks, task, target, batch_size, memory, NOTHING, SILENT, keep)

    def attack(batch: Batch, key: str, advance: Advance) -> Arrays:
        with training_mode(model.module, False), kept_buffers(model.module):
            return run.attack(batch, key, advance)

    return Attacker(attack, images, model.input, memory)


def _none() -> nn.Module:
    raise CannotRunError("A worker that attacks has no factory of networks.")


def _clean_from(arrays: Mapping[str, NDArray[Any]]) -> Clean:
    return Clean(**{field.name: arrays[f"clean/{field.name}"] for field in fields(Clean)})


def make_task(epsilons: Sequence[float], norm: Norm, shape: tuple[int, int, int], seed: int) -> Task:
    """Return the task for the given epsilons; a single one is extended to a curve.

    Six smaller ones, each half of the next, sort out fragile images at little cost; larger ones are doubled as long
    as any image resists and the pixel range allows.
    """
    reported = epsilons[-1]
    if len(epsilons) > 1 or reported == 0:
        return Task(norm, tuple(e for e in epsilons if e > 0), reported, (), seed)
    largest = norm.largest(shape)
    extra = []
    above = 2 * reported
    while above < largest:
        extra.append(above)
        above *= 2
    if reported < largest:
        extra.append(largest)
    curve = {reported / 2**halvings for halvings in range(_HALVINGS + 1)}
    if norm.name == "L0":
        curve = {float(max(1, int(epsilon))) for epsilon in curve}
        extra = [float(int(epsilon)) for epsilon in extra]
    return Task(norm, tuple(sorted(curve)), reported, tuple(extra), seed)


def attacked_model(model: LoadedModel, bf16: bool | None = None) -> AttackedModel:
    """Return the model as attacks see it; ``bf16`` None uses bfloat16 gradients where the processor is fast with
    them and the network accepts them.

    Gradients go through a graph of the network with its batch normalisation folded and with quick gradients of its
    convolutions, where that gives the same logits and gradients as the network itself.
    """
    if bf16 is None:
        bf16 = fast_bf16(model.device) and accepts_bf16(model.module, model.input.size)
    return AttackedModel(
        model.module, memory_format=model.memory_format, bf16=bf16, gradient_module=_quick(model)
    )


def _quick(model: LoadedModel) -> nn.Module | None:
    """Return a module with the same logits and gradients that computes the gradients faster; None where there is none."""
    if not model.module.differentiable:
        return None
    images = model.example(2, stream="folded")
    with torch.enable_grad(), frozen_parameters(model.module), scoped(0, "folded"):
        try:
            quick = folded(trace(model.module, images))
        except TraceError:
            quick = shared_copy(model.module)
        quick = with_quick_gradients(quick.to(memory_format=model.memory_format)).requires_grad_(False)
        plain_gradients, quick_gradients = (_gradient(module, images) for module in (model.module, quick))
    same = all(
        bool(a.isfinite().all()) and float((a - b).norm()) <= close * float(a.norm())
        for a, b, close in zip(plain_gradients, quick_gradients, _CLOSE, strict=True)
    )
    return quick if same else None


def _gradient(module: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and the gradient of a fixed weighted sum of them with respect to the pixels."""
    x = images.clone().requires_grad_()
    logits: Tensor = module(x)
    if not logits.requires_grad:
        return logits, torch.zeros_like(x)
    weights = torch.linspace(-1, 1, logits.shape[1], device=logits.device)
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), x, materialize_grads=True)[0]
