"""Gradient norms during a training run, and the search for the layer at which values stop being finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from probe.core.state import kept_buffers, training_mode

Kind = Literal["input", "weight", "output", "loss", "gradient"]
Value = Literal["nan", "inf"]
Outputs = Tensor | tuple[Tensor, ...]
"""Logits, and auxiliary logits if there are any."""

Place = tuple[Kind, str, Value]
"""The first value that is not finite: kind, layer and value."""


@dataclass(frozen=True)
class Epoch:
    """The result of one epoch: mean loss and accuracy on the training batches at the time they were trained on."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Fault:
    """Where a training run stopped being finite, and what to try.

    ``layer`` is the first module with a value that is not finite: in execution order for outputs, in backward order for
    gradients, in module order for weights. It is empty for the input or the loss itself, and if the
    operation is outside all leaf modules. ``step`` and ``epoch`` count from 0, ``lr`` is the learning rate of
    that step, ``loss`` the batch's mean loss. ``last_norms`` are (layer, gradient norm) pairs of the last
    recorded step at which all norms were finite; empty if there was none.
    """

    kind: Kind
    layer: str
    step: int
    epoch: int
    lr: float
    value: Value
    loss: float
    last_norms: tuple[tuple[str, float], ...]
    advice: str

    def __str__(self) -> str:
        """Return which value is not finite, and where, as text."""
        where = f" of {self.layer}" if self.layer else ""
        return f"the {self.kind}{where} is {self.value} at step {self.step + 1}"


class Watch:
    """Record the gradient of every layer while ``fit`` trains.

    A layer is a submodule that owns a parameter of two or more dimensions; ``layers`` are their names in
    module order. ``norms`` has (step, one L2 norm per layer) and ``losses`` (step, mean loss of the batch),
    both at step 0 and every ``every`` steps, before the gradient is clipped. A layer without a gradient has
    norm 0. ``module`` may be a part of the module that is trained; faults then use its names too. Raises
    ValueError if ``every`` is below 1.
    """

    def __init__(self, module: nn.Module, every: int) -> None:
        if every < 1:
            raise ValueError(f"cannot record every {every} steps")
        owned = [(name, _weights(sub)) for name, sub in module.named_modules()]
        self.module = module
        self.every = every
        self.layers = tuple(name for name, weights in owned if weights)
        self.norms: list[tuple[int, tuple[float, ...]]] = []
        self.losses: list[tuple[int, float]] = []
        self._owned = [weights for _, weights in owned if weights]

    def record(self, step: int, loss: float) -> None:
        """Record the norms of the current gradients, if this step is to be recorded."""
        if step % self.every == 0:
            self.norms.append((step, tuple(_gradient_norm(weights) for weights in self._owned)))
            self.losses.append((step, loss))

    def last_norms(self) -> tuple[tuple[str, float], ...]:
        """Return (layer, norm) of the last recorded step at which all norms were finite, empty if there is none."""
        finite = (norms for _, norms in reversed(self.norms) if all(map(math.isfinite, norms)))
        return tuple(zip(self.layers, next(finite, ()), strict=False))


@dataclass(frozen=True)
class StepTrial:
    """One training step, with everything that is needed to run its passes again.

    ``forward`` computes the logits, ``criterion`` the loss of logits; ``random`` are the states of the random
    generators before the forward pass (see ``random_states``); ``peak`` is the learning rate that the user set.
    """

    module: nn.Module
    images: Tensor
    forward: Callable[[], Outputs]
    criterion: Callable[[Outputs], Tensor]
    random: tuple[Tensor, Tensor | None]
    step: int
    epoch: int
    lr: float
    peak: float


def random_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return the states of torch's global generators that a pass on the device uses."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), cuda


def restore_random_states(states: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    """Restore states from ``random_states``; that of the GPU only if the device is one."""
    cpu, cuda = states
    torch.set_rng_state(cpu)
    if cuda is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda, device)


def all_finite(parameters: Sequence[nn.Parameter]) -> bool:
    """Return whether every gradient is finite; parameters without a gradient count as finite."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if math.isfinite(float(nn.utils.get_total_norm(grads))):
        return True
    # The squares of finite gradients above 1e19 are not finite.
    return all(_bad(grad) is None for grad in grads)


def diagnose(watch: Watch, trial: StepTrial, loss: float) -> Fault:
    """Run the step again and find the first value that is not finite.

    Checks the input, the weights, the outputs of leaf modules in execution order, and then the loss, or
    the gradients in backward order if the loss is finite. Random numbers are those of the step; buffers,
    gradients, hooks and random generators are restored.
    """
    names = _names(trial.module, watch.module)
    place = _bad_input(trial) or _bad_weight(trial.module, names)
    if place is None:
        with _again(trial):
            place = _bad_output(trial, names)
    if place is None and math.isfinite(loss):
        with _again(trial):
            place = _bad_gradient(trial, names)
    kind, layer, value = place or ("loss", "", "nan" if math.isnan(loss) else "inf")
    return Fault(
        kind, layer, trial.step, trial.epoch, trial.lr, value, loss, watch.last_norms(), _advice(kind, trial)
    )


def dead_units(module: nn.Module, images: Tensor, batch_size: int) -> tuple[tuple[str, int, int], ...]:
    """Count the channels of each ReLU and ReLU6 whose output is 0 at every position of all images.

    ``images`` (N, C, H, W) are passed in eval mode without gradients, on the module's device. Returns
    (layer, dead, total) in execution order; for a module that is called several times, the channels
    (dimension 1) of every call are counted. Flags and hooks are restored. Raises ValueError without images.
    """
    if len(images) == 0 or batch_size < 1:
        raise ValueError(f"cannot pass {len(images)} images in batches of {batch_size}")
    alive: dict[str, list[Tensor]] = {}
    call_counts: dict[str, int] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: Tensor) -> None:
            fired = (output != 0).transpose(0, 1).flatten(1).any(1)
            known, call = alive.setdefault(name, []), call_counts.get(name, 0)
            known[call : call + 1] = [fired | known[call] if call < len(known) else fired]
            call_counts[name] = call + 1

        return hook

    device = next(module.parameters()).device
    with ExitStack() as stack:
        stack.enter_context(training_mode(module, False))
        stack.enter_context(torch.inference_mode())
        for name, sub in module.named_modules():
            if isinstance(sub, nn.ReLU | nn.ReLU6):
                stack.callback(sub.register_forward_hook(keep(name)).remove)
        for part in torch.split(images, batch_size):
            call_counts.clear()
            module(part.to(device))
    return tuple(
        (name, sum(int((~fired).sum()) for fired in calls), sum(map(len, calls)))
        for name, calls in alive.items()
    )


def is_dead(history: Sequence[Epoch], num_classes: int, n: int) -> bool:
    """Return whether the network has not learned anything, according to its last epoch on ``n`` training images.

    This means a mean loss of at least 98% of log(num_classes), the loss of equal probabilities, and an
    accuracy of at most three binomial standard deviations above 1 / num_classes. Raises
    ValueError without an epoch, without images or with fewer than two classes.
    """
    if not history or num_classes < 2 or n < 1:
        raise ValueError(f"nothing to judge: {len(history)} epochs, {num_classes} classes, {n} images")
    chance = 1 / num_classes
    limit = chance + 3 * math.sqrt(chance * (1 - chance) / n)
    return history[-1].loss >= 0.98 * math.log(num_classes) and history[-1].accuracy <= limit


def _weights(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters(recurse=False) if parameter.dim() >= 2]


def _gradient_norm(weights: Sequence[nn.Parameter]) -> float:
    total = 0.0
    for weight in weights:
        if weight.grad is not None:
            # Squares of large float32 values overflow; MPS has no float64.
            dtype = None if weight.device.type == "mps" else torch.float64
            total = math.hypot(total, float(torch.linalg.vector_norm(weight.grad, dtype=dtype)))
    return total


def _bad(value: Any) -> Value | None:
    """Return ``nan`` or ``inf`` if a tensor, or one in a tuple or list, has such values, else None."""
    if isinstance(value, tuple | list):
        return next((bad for item in value if (bad := _bad(item)) is not None), None)
    if not isinstance(value, Tensor) or bool(torch.isfinite(value).all()):
        return None
    return "nan" if bool(torch.isnan(value).any()) else "inf"


def _names(module: nn.Module, watched: nn.Module) -> dict[nn.Module, str]:
    """Return the names of all submodules; those of the watched part as in the watch."""
    names = {sub: name for name, sub in module.named_modules()}
    return names | {sub: name for name, sub in watched.named_modules() if sub in names}


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [sub for sub in module.modules() if not any(True for _ in sub.children())]


@contextmanager
def _again(trial: StepTrial) -> Iterator[None]:
    """Set the random generators to the start of the step; restore them and the buffers afterwards."""
    device = trial.images.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), kept_buffers(trial.module):
        restore_random_states(trial.random, device)
        yield


def _bad_input(trial: StepTrial) -> Place | None:
    value = _bad(trial.images)
    return None if value is None else ("input", "", value)


def _bad_weight(module: nn.Module, names: dict[nn.Module, str]) -> Place | None:
    for sub in module.modules():
        for parameter in sub.parameters(recurse=False):
            value = _bad(parameter)
            if value is not None:
                return "weight", names[sub], value
    return None


def _bad_output(trial: StepTrial, names: dict[nn.Module, str]) -> Place | None:
    places: list[Place] = []

    def hook(sub: nn.Module, _args: object, output: object) -> None:
        value = None if places else _bad(output)
        if value is not None:
            places.append(("output", names[sub], value))

    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for sub in _leaves(trial.module):
            stack.callback(sub.register_forward_hook(hook).remove)
        value = _bad(trial.forward())
    if not places and value is not None:
        places.append(("output", "", value))
    return places[0] if places else None


def _bad_gradient(trial: StepTrial, names: dict[nn.Module, str]) -> Place:
    """Find the first leaf module whose backward pass computes a gradient that is not finite.

    This can be the gradient of the module's input or of its parameters.
    """
    places: list[Place] = []

    def look(name: str) -> Callable[[Tensor], None]:
        def hook(grad: Tensor) -> None:
            value = None if places else _bad(grad)
            if value is not None:
                places.append(("gradient", name, value))

        return hook

    def enter(sub: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_own(arg, sub, look(names[sub])) for arg in args)

    with ExitStack() as stack:
        for sub in trial.module.modules():
            for parameter in sub.parameters(recurse=False):
                if parameter.requires_grad:
                    stack.callback(parameter.register_hook(look(names[sub])).remove)  # type: ignore[no-untyped-call]
        for sub in _leaves(trial.module):
            stack.callback(sub.register_forward_pre_hook(enter).remove)
        logits = trial.forward()
        parameters = [parameter for parameter in trial.module.parameters() if parameter.requires_grad]
        torch.autograd.grad(trial.criterion(logits), parameters, allow_unused=True)
    return places[0] if places else ("gradient", "", _bad([p.grad for p in parameters]) or "nan")


def _own(value: Any, sub: nn.Module, hook: Callable[[Tensor], None]) -> Any:
    """Return the argument with a hook that sees only the gradient from this module."""
    if not isinstance(value, Tensor) or not value.requires_grad:
        return value
    if not getattr(sub, "inplace", False):
        # For a tensor that several modules read, a hook would see the sum of their gradients.
        value = value.view_as(value)
    value.register_hook(hook)
    return value


def _advice(kind: Kind, trial: StepTrial) -> str:
    rate = f"the learning rate from {trial.peak:g} to {trial.peak / 10:g}"
    return {
        "input": "Check the images and the augmentation: a pixel is NaN or was divided by 0; "
        "normalise the input to mean 0 and standard deviation 1.",
        "weight": f"Lower {rate}: the previous step made the weights too large.",
        "output": f"Lower {rate}, or normalise the input and clip the gradients.",
        "loss": "Check the labels: the outputs of the network are finite, but the loss is not.",
        "gradient": f"Clip the gradients, or lower {rate}.",
    }[kind]
