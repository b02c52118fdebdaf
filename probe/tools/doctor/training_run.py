"""A short training run that is watched at every step; the module is restored afterwards."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core import seeds
from probe.core.errors import UsageError
from probe.core.progress import Advance
from probe.core.state import kept_buffers, training_mode
from probe.tools.doctor.labels import IGNORED, outside, restored
from probe.tools.doctor.operations import Operation, first_bad
from probe.tools.doctor.plan import TrainingPlan
from probe.train.loop.watch import Fault, Outputs, StepTrial, Watch, all_finite, diagnose, random_states

Outcome = Literal["learned", "stalled", "grew", "diverged"]

LEARNED = 0.05
"""The loss must fall by this fraction to count as learned; it is measured on fixed images, so little of it is chance."""

GREW = 0.5
"""If the loss at the end is higher than at the start by this fraction, it grew."""

EXTENSION = 4
"""A run that stalls is extended to this many times its steps: networks without normalisation start on a plateau
(AlexNet on digits leaves it after 50 batches of 32)."""

EXPLODED = 10.0
"""Update / weight norm of a layer. The first updates of networks that train have 0.0001 to 0.5; after an update ten times
as large as the weights, nothing is left of them."""

RARE = 0.001
"""The probability under chance below which an accuracy counts as above or below it."""

MEASURED = 128
"""Maximum number of images for measuring the loss before and after."""


@dataclass(frozen=True)
class Failure:
    """How a run stopped being finite.

    ``fault`` is the layer and step; ``operation`` the torch function that caused it, if known; ``wide``
    whether the same step is finite in float64 (None: it cannot be computed in float64).
    """

    fault: Fault
    operation: Operation | None
    wide: bool | None


@dataclass(frozen=True)
class Hits:
    """How many of ``n`` images have their label as the largest output.

    ``chance`` is the share that predictions of the same frequencies would have if they did not depend on the images.
    """

    right: int
    n: int
    chance: float

    @property
    def share(self) -> float:
        """The accuracy."""
        return self.right / self.n

    @property
    def below_chance(self) -> bool:
        """Whether so few hits have a probability below 1 in 1,000 under chance."""
        return self.below(self.chance)

    def below(self, share: float) -> bool:
        """Return whether so few hits have a probability below 1 in 1,000 at this accuracy (binomial)."""
        from scipy.stats import binom

        return float(binom.cdf(self.right, self.n, share)) < RARE

    @property
    def above_chance(self) -> bool:
        """Whether an accuracy this high has a probability below 1 in 1,000 under chance (binomial)."""
        from scipy.stats import binom

        return float(binom.sf(self.right - 1, self.n, self.chance)) < RARE


@dataclass(frozen=True)
class TrainingRun:
    """The record of a training run.

    ``losses`` of each batch; the last is not finite if the loss itself failed. ``before`` and ``after``: mean loss
    on the same images, in train mode without an update; NaN if not finite. ``norms`` (steps, layers): L2 norms of
    the gradients before each update, ``layers`` their names. ``hits_before`` and ``hits_after``: on those images, None
    if the labels are not classes or the run failed. ``first_update`` is the layer whose weights the first update changes
    most relative to their norm, and by how much; None without an update.
    """

    lr: float
    losses: tuple[float, ...]
    before: float
    after: float
    outcome: Outcome
    layers: tuple[str, ...]
    norms: NDArray[np.float64]
    failure: Failure | None = None
    hits_before: Hits | None = None
    hits_after: Hits | None = None
    first_update: tuple[str, float] | None = None

    @property
    def failed_at(self) -> int | None:
        """The step, from 0, at which a value was not finite; None if all values were finite."""
        return None if self.failure is None else self.failure.fault.step

    @property
    def rising(self) -> bool:
        """Whether the last finite loss was higher than the first."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return len(finite) > 1 and finite[-1] > finite[0]

    @property
    def exploded(self) -> bool:
        """Whether the loss rose before the run failed, or the first update was many times as large as the weights."""
        if self.failed_at == 0:
            return False
        update = self.first_update is not None and not self.first_update[1] < EXPLODED
        return update or (self.failed_at is not None and self.rising)


def run_training(
    plan: TrainingPlan,
    *,
    lr: float | None = None,
    steps: int | None = None,
    advance: Advance | None = None,
    explain: bool = False,
    extended: bool = False,
    at_end: Callable[[], object] | None = None,
) -> TrainingRun:
    """Train for a few steps and return the record of the run; the module is restored afterwards.

    ``explain`` looks for the operation at which a value stops being finite; ``extended`` continues for up to
    ``EXTENSION`` times the steps if the loss has stalled. The run ends at the first step that is not finite; if there is
    none, ``at_end`` is called while the module is still trained. The forward pass is seeded by the plan; the global
    generators are restored.
    """
    rate, count = plan.lr if lr is None else lr, plan.steps if steps is None else steps
    watch = Watch(plan.module, 1)
    losses: list[float] = []
    failure: Failure | None = None
    update: tuple[str, float] | None = None
    with ExitStack() as stack:
        stack.enter_context(restored(plan.module))
        stack.enter_context(seeds.scoped(plan.seed, "doctor", "dropout"))
        stack.enter_context(training_mode(plan.module, True))
        parameters = [parameter for parameter in plan.module.parameters() if parameter.requires_grad]
        optimiser = plan.optimiser(parameters, rate)
        start = [parameter.detach().clone() for parameter in parameters]
        before, hits = measure(plan)
        for step, batch in enumerate(plan.batches(count * EXTENSION if extended else count)):
            failure = _step(plan, batch, step, rate, optimiser, watch, losses, explain)
            if step == 0 and failure is None:
                update = _largest_update(plan, dict(zip(map(id, parameters), start, strict=True)))
            if failure is not None:
                break
            if advance is not None and step < count:
                advance(1)
            if (
                step + 1 == count
                and extended
                and judge(before, measure(plan)[0], False, plan.trivial) != "stalled"
            ):
                break
        after, hits_after = (math.nan, None) if failure is not None else measure(plan)
        if failure is None and at_end is not None:
            at_end()
    norms = np.array([norms for _, norms in watch.norms]).reshape(len(watch.norms), len(watch.layers))
    outcome = judge(before, after, failure is not None, plan.trivial)
    return TrainingRun(
        rate, tuple(losses), before, after, outcome, watch.layers, norms, failure, hits, hits_after, update
    )


def measure(plan: TrainingPlan) -> tuple[float, Hits | None]:
    """Return the loss and the hits on the first images in train mode; buffers and random generators are restored."""
    part = slice(0, MEASURED)
    with torch.no_grad(), kept_buffers(plan.module), seeds.scoped(plan.seed, "doctor", "measure"):
        x, y = plan.placed(part)
        pieces = list(zip(torch.split(x, plan.batch_size), torch.split(y, plan.batch_size), strict=True))
        pieces = [piece for piece in pieces if len(piece[0]) > 1] or pieces
        losses, outputs = [], []
        for images, labels in pieces:
            output = plan.forward(images)
            losses.append(float(plan.measure_loss(output, labels)))
            outputs += [output] if output.dim() == 2 else []
        hits = count_hits(torch.cat(outputs), torch.cat([b for _, b in pieces])) if outputs else None
    value = sum(losses) / len(losses)
    return (value if math.isfinite(value) else math.nan), hits


def count_hits(outputs: Tensor, labels: Tensor) -> Hits | None:
    """Return how often the largest output is the label; None if the labels are not classes, or outputs not finite."""
    wrong = outside(labels, tuple(outputs.shape))
    fits = wrong is not None and not len(wrong) and len(outputs) == len(labels)
    if not fits or not bool(torch.isfinite(outputs).all()):
        return None
    kept = labels != IGNORED
    if not bool(kept.any()):
        return None
    guessed, wanted = outputs[kept].argmax(1), labels[kept].long()
    n, classes = len(wanted), outputs.shape[1]
    shares = [torch.bincount(each, minlength=classes).double() / n for each in (guessed, wanted)]
    return Hits(int((guessed == wanted).sum()), n, float(shares[0] @ shares[1]))


def _largest_update(plan: TrainingPlan, start: dict[int, Tensor]) -> tuple[str, float] | None:
    """Return the layer whose weights differ most from their start relative to their norm; layers of zeros are skipped."""
    changes = [
        (name.rpartition(".")[0], float((weight.detach() - start[id(weight)]).float().norm()) / norm)
        for name, weight in plan.module.named_parameters()
        if weight.dim() >= 2 and id(weight) in start and (norm := float(start[id(weight)].float().norm())) > 0
    ]
    return max(changes, key=lambda change: change[1], default=None)


def judge(before: float, after: float, failed: bool, trivial: float | None = None) -> Outcome:
    """Return the outcome of a run, given the loss before and after on the same images.

    To count as learned, the loss must fall below that of a prediction that ignores the images, if known: learning the
    class frequencies is not enough. A network that is already good at the start does not have to improve.
    """
    if failed or not math.isfinite(after):
        return "diverged"
    if trivial is not None and after <= 0.5 * trivial:
        return "learned"
    floor = before if trivial is None or not math.isfinite(before) else min(before, trivial)
    if math.isfinite(before) and after > before + GREW * abs(before):
        return "grew"
    return "learned" if after < floor - LEARNED * abs(floor) else "stalled"


def _step(
    plan: TrainingPlan,
    batch: tuple[Tensor, Tensor],
    step: int,
    lr: float,
    optimiser: torch.optim.Optimizer,
    watch: Watch,
    losses: list[float],
    explain: bool,
) -> Failure | None:
    """Make one training step; if it fails, return the failure without updating the weights."""
    x, y = batch
    criterion = partial(_criterion, plan, y)
    trial = StepTrial(
        plan.module, x, partial(plan.forward, x), criterion, random_states(x.device), step, 0, lr, plan.lr
    )
    loss = criterion(trial.forward())
    value = float(loss.detach())
    losses.append(value)
    parameters = [parameter for parameter in plan.module.parameters() if parameter.requires_grad]
    optimiser.zero_grad(set_to_none=True)
    if math.isfinite(value) and loss.grad_fn is not None:
        loss.backward()  # type: ignore[no-untyped-call]
        if all_finite(parameters):
            watch.record(step, value)
            optimiser.step()
            return None
    elif math.isfinite(value):
        raise UsageError("The loss does not depend on the network: it has no gradient.")
    fault = diagnose(watch, trial, value)
    if not explain:
        return Failure(fault, None, None)
    return Failure(fault, _operation(trial), _wide(plan, batch, trial))


def _criterion(plan: TrainingPlan, labels: Tensor, outputs: Outputs) -> Tensor:
    return plan.measure_loss(outputs if isinstance(outputs, Tensor) else outputs[0], labels)


def _operation(trial: StepTrial) -> Operation | None:
    """Run the failed step again with the same random numbers, and find the operation."""
    with kept_buffers(trial.module), seeds.scoped(0, "doctor", "again"):
        _rewind(trial)
        return first_bad(trial.module, trial.forward, trial.criterion)


def _wide(plan: TrainingPlan, batch: tuple[Tensor, Tensor], trial: StepTrial) -> bool | None:
    """Return whether loss and gradients of the failed step are finite in float64; None if that cannot be run."""
    if plan.device.type == "mps":
        return None
    try:
        module = copy.deepcopy(plan.module).double()
        with seeds.scoped(0, "doctor", "again"):
            _rewind(trial)
            wide = replace(plan, module=module, precision="float32")
            loss = wide.measure_loss(wide.forward(batch[0].double()), batch[1])
            loss.backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, TypeError, ValueError, NotImplementedError, UsageError):
        return None
    grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return math.isfinite(float(loss.detach())) and all(bool(torch.isfinite(grad).all()) for grad in grads)


def _rewind(trial: StepTrial) -> None:
    cpu, cuda = trial.random
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda, trial.images.device)
