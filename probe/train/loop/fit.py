"""A plain training loop on a module and tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.errors import CannotRunError
from probe.core.progress import Advance
from probe.core.seeds import scoped
from probe.core.state import training_mode
from probe.train.loop.augment import Augment, augmentation
from probe.train.loop.snapshots import Snapshots
from probe.train.loop.watch import (
    Epoch,
    Fault,
    Outputs,
    StepTrial,
    Watch,
    all_finite,
    diagnose,
    random_states,
    restore_random_states,
)

Perturb = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(module, images, labels) → images of the same shape, for adversarial or noisy training."""

AUXILIARY = 0.3
"""The weight of an auxiliary classifier's loss (Szegedy et al. 2014, "Going Deeper with Convolutions")."""


@runtime_checkable
class Penalising(Protocol):
    """A perturb function whose images are not trained on, but held against the clean ones by a penalty."""

    def penalty(self, module: nn.Module, logits: Tensor, moved: Tensor) -> Tensor:
        """Return what is added to the loss, given the logits of the clean images and the perturbed images."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A perturb function whose results depend on earlier calls; its state can be saved and restored."""

    def state(self) -> dict[str, Any]:
        """Return the state that the next call depends on."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        ...


class DivergedError(CannotRunError):
    """The loss became infinite or NaN; with a watch, also the gradient, and ``fault`` says where."""

    def __init__(self, message: str, fault: Fault | None = None) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a training.

    ``lr`` is the peak of the schedule. SGD uses Nesterov momentum 0.9. ``one-cycle`` rises for the first 30%
    of the steps and falls to 0 along a cosine (Smith and Topin 2017), ``cosine`` only falls (Loshchilov
    and Hutter 2016). ``clip_norm`` bounds the gradient's L2 norm. ``bf16`` runs the forward pass with
    bfloat16 autocast; weights and loss stay in float32. ``augment`` are names of ``AUGMENTATIONS``, applied in order.
    ``noise`` is the standard deviation of normal noise added to every image, in pixel units (Cohen et al. 2019 train so
    what randomised smoothing then certifies).
    """

    epochs: int = 15
    batch_size: int = 64
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    weight_decay: float = 5e-4
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    bf16: bool = False
    augment: tuple[str, ...] = ()
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        if self.epochs < 1 or self.batch_size < 2 or not self.lr > 0:
            raise ValueError("a recipe needs at least 1 epoch, batches of at least 2, and a positive lr")
        if not 0 <= self.noise < math.inf:
            raise ValueError("the noise of a recipe is a finite standard deviation of at least 0")
        augmentation(self.augment)


def fit(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    generator: torch.Generator,
    perturb: Perturb | None = None,
    augment: Augment | None = None,
    advance: Advance | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
    watch: Watch | None = None,
    evaluate: Callable[[], None] | None = None,
    snapshots: Snapshots | None = None,
) -> tuple[Epoch, ...]:
    """Train the module in place and return the history, one entry per epoch.

    ``images`` (N, C, H, W) and ``labels`` (N,) int64 can be on any device; each batch is moved to the
    module's device. Order, augmentation and dropout are drawn from ``generator``; the global generators are
    not changed. Parameters with requires_grad are trained. A last batch of one image is skipped, because
    batch normalisation cannot use it. ``augment`` replaces the recipe's augmentations. If a module returns
    (logits, auxiliary logits, …) in train mode, the auxiliary losses are weighted by ``AUXILIARY``. ``advance`` is
    called with the number of images after every step, ``evaluate`` after every epoch, in train mode and with its own
    random numbers. ``watch`` records gradients and changes nothing. ``snapshots`` save the state after every
    epoch; if there is a saved state, the training continues from it, to the same weights. Afterwards the training flags
    are restored and there are no gradients. Raises DivergedError when the loss, or with a watch a gradient, is no longer
    finite, and ValueError when there is nothing to train or nothing to train on.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("no parameter requires a gradient")
    batches = _batch_count(len(images), recipe.batch_size)
    if len(images) != len(labels) or batches == 0:
        raise ValueError(f"cannot train on {len(images)} images with {len(labels)} labels")
    optimiser = _optimiser(parameters, recipe)
    run = _FitRun(
        module,
        parameters,
        recipe,
        optimiser,
        _schedule(optimiser, recipe, recipe.epochs * batches),
        generator,
        perturb,
        augment or augmentation(recipe.augment),
        memory_format,
        watch,
    )
    noise = int(torch.randint(2**62, (1,), generator=generator))
    with ExitStack() as stack:
        stack.enter_context(scoped(noise, "dropout"))
        stack.enter_context(training_mode(module, True))
        stack.callback(optimiser.zero_grad, set_to_none=True)
        snapshot = snapshots.load() if snapshots is not None else None
        if snapshot is not None:
            run.restore(snapshot)
            if advance is not None:
                advance(len(run.history) * len(images))
        for epoch in range(len(run.history), recipe.epochs):
            order = torch.randperm(len(images), generator=generator)
            tally = _Tally()
            for part in torch.split(order, recipe.batch_size)[:batches]:
                tally.add(*run.step(images[part], labels[part], epoch))
                if advance is not None:
                    advance(len(part))
            run.history.append(Epoch(tally.loss / tally.n, tally.correct / tally.n))
            if evaluate is not None:
                with scoped(noise, "evaluate", epoch):
                    evaluate()
            if snapshots is not None:
                snapshots.save(run.state())
    return tuple(run.history)


@dataclass
class _Tally:
    """Sums over an epoch's images."""

    loss: float = 0.0
    correct: int = 0
    n: int = 0

    def add(self, loss: float, correct: int, n: int) -> None:
        self.loss += loss * n
        self.correct += correct
        self.n += n


@dataclass
class _FitRun:
    """A training in progress: everything that a step needs, and the history so far."""

    module: nn.Module
    parameters: list[nn.Parameter]
    recipe: Recipe
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    perturb: Perturb | None
    augment: Augment | None
    memory_format: torch.memory_format
    watch: Watch | None
    history: list[Epoch] = field(default_factory=list)
    steps: int = 0

    def step(self, images: Tensor, labels: Tensor, epoch: int) -> tuple[float, int, int]:
        """Make one step and return the batch's mean loss, the number of correct images, and the number of images."""
        y = labels.to(self.parameters[0].device)
        x = images.to(y.device)
        if self.augment is not None:
            x = self.augment(x, self.generator)
        if self.recipe.noise:
            drawn = torch.randn(x.shape, generator=self.generator)
            x = x + self.recipe.noise * drawn.to(x)
        moved = x if self.perturb is None else self.perturb(self.module, x, y)
        penalising = _penalising(self.perturb)
        if penalising is None:
            x = moved
        x = x.contiguous(memory_format=self.memory_format)
        lr = self.optimiser.param_groups[0]["lr"]
        trial = _trial(self.module, x, y, self.recipe, self.steps, epoch, lr)
        outputs = trial.forward()
        loss = trial.criterion(outputs)
        if penalising is not None:
            loss = loss + penalising.penalty(self.module, heads(outputs)[0], moved)
        _check_finite(loss, trial, self.recipe, self.watch)
        _step(loss, self.parameters, self.optimiser, trial, self.recipe, self.watch)
        self.schedule.step()
        self.steps += 1
        correct = int((heads(outputs)[0].detach().argmax(1) == y).sum())
        return float(loss.detach()), correct, len(y)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as tensors, numbers, strings, lists and dicts."""
        stateful = _stateful(self.perturb)
        return {
            "epoch": len(self.history),
            "steps": self.steps,
            "history": [(epoch.loss, epoch.accuracy) for epoch in self.history],
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "random": list(random_states(self.parameters[0].device)),
            "perturb": None if stateful is None else stateful.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        restore_random_states(tuple(state["random"]), self.parameters[0].device)
        stateful = _stateful(self.perturb)
        if stateful is not None:
            stateful.restore(state["perturb"])
        self.steps = state["steps"]
        self.history = [Epoch(loss, accuracy) for loss, accuracy in state["history"]]


def _stateful(perturb: object) -> Stateful | None:
    return perturb if isinstance(perturb, Stateful) else None


def _penalising(perturb: object) -> Penalising | None:
    return perturb if isinstance(perturb, Penalising) else None


def heads(outputs: Any) -> tuple[Tensor, ...]:
    """Return a module's logits, followed by its auxiliary logits, if it has any."""
    if isinstance(outputs, Tensor):
        return (outputs,)
    return tuple(output for output in outputs if output is not None)


def _batch_count(n: int, batch_size: int) -> int:
    full_batches, remainder = divmod(n, batch_size)
    return full_batches + (remainder > 1)


def _outputs(module: nn.Module, images: Tensor, bf16: bool) -> Outputs:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        outputs = heads(module(images))
    several = tuple(output.float() for output in outputs)
    return several[0] if len(several) == 1 else several


def _loss(outputs: Outputs, labels: Tensor, smoothing: float) -> Tensor:
    first, *others = (F.cross_entropy(logits, labels, label_smoothing=smoothing) for logits in heads(outputs))
    return first + AUXILIARY * sum(others) if others else first


def _trial(
    module: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, step: int, epoch: int, lr: float
) -> StepTrial:
    """Return the next step, with the random state at the start of its forward pass."""
    return StepTrial(
        module,
        images,
        forward=partial(_outputs, module, images, recipe.bf16),
        criterion=partial(_loss, labels=labels, smoothing=recipe.label_smoothing),
        random=random_states(images.device),
        step=step,
        epoch=epoch,
        lr=lr,
        peak=recipe.lr,
    )


def _check_finite(loss: Tensor, trial: StepTrial, recipe: Recipe, watch: Watch | None) -> None:
    value = float(loss.detach())
    if math.isfinite(value):
        return
    message = f"The training loss is {value} in epoch {trial.epoch + 1} of {recipe.epochs}: "
    if watch is None:
        raise DivergedError(f"{message}lower the learning rate (it is {recipe.lr:g}).")
    fault = diagnose(watch, trial, value)
    raise DivergedError(f"{message}{fault}. {fault.advice}", fault)


def _step(
    loss: Tensor,
    parameters: list[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    trial: StepTrial,
    recipe: Recipe,
    watch: Watch | None,
) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if watch is not None:
        # Before clipping, which would hide the size of the gradients.
        _record_gradients(watch, loss, parameters, trial, recipe)
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
    optimiser.step()


def _record_gradients(
    watch: Watch, loss: Tensor, parameters: list[nn.Parameter], trial: StepTrial, recipe: Recipe
) -> None:
    """Record the gradients, or raise DivergedError when one of them is not finite."""
    value = float(loss.detach())
    if all_finite(parameters):
        watch.record(trial.step, value)
        return
    fault = diagnose(watch, trial, value)
    where = f"in epoch {trial.epoch + 1} of {recipe.epochs}"
    raise DivergedError(f"The gradient is not finite {where}: {fault}. {fault.advice}", fault)


def _optimiser(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, recipe.lr, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        )
    return torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay)


def _schedule(
    optimiser: torch.optim.Optimizer, recipe: Recipe, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule in closed form, which changes only the learning rate."""
    rise = max(1, round(0.3 * steps)) if recipe.schedule == "one-cycle" else 0

    def factor(step: int) -> float:
        if recipe.schedule == "constant":
            return 1.0
        if step < rise:
            return 0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2
        return (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise)))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
