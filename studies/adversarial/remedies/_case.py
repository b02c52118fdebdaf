"""What a remedy sees, and what it changes: the path that gradients take, and attacks to make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.registry import Registry
from probe.core.seeds import scoped
from probe.core.state import frozen_parameters
from studies.adversarial.remedies._operations import OpenGradients, SquashedInputs, wider_slope, with_slope

MASKED = (
    "zero-gradients",
    "unavailable-gradients",
    "gradient-free",
    "black-box-beats-white-box",
    "unconstrained-failure",
    "unbounded",
)
"""Checks that fail where gradients are missing or hidden."""

StandIn = Callable[[Tensor], Tensor]


@dataclass
class GradientPath:
    """Where gradients go another way than the network does; its answers stay the same, but for ``noise`` and ``logits``.

    ``front``: the module up to whose input the image is taken to pass unchanged (BPDA with the identity, Athalye et al. 2018), or
    through ``stand_in``, a smooth function of the image with the shape of that input. ``straight``: modules whose
    slope is that of a wider range of their inputs. ``operations``: whether steps, thresholds and detached tensors inside a
    ``forward`` are passed likewise. ``logits``: the module whose output is attacked instead of the network's;
    ``squashed``: whether what went into the last softmax or sigmoid is. ``noise``: the standard deviation of noise added to the image at
    every pass.
    """

    front: str | None = None
    stand_in: StandIn | None = field(default=None, compare=False)
    straight: tuple[str, ...] = ()
    operations: bool = False
    logits: str | None = None
    squashed: bool = False
    noise: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether anything is different from the network."""
        return self != GradientPath()


class AdaptedGradients(nn.Module):
    """The network with the gradients of a ``GradientPath``; the hooks that make it are there during its own passes only."""

    def __init__(self, module: nn.Module, path: GradientPath) -> None:
        super().__init__()
        self.module, self.path = module, path

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K)."""
        path = self.path
        noisy = images + path.noise * torch.randn_like(images) if path.noise else images
        found: list[Tensor] = []
        with ExitStack() as stack:
            for name in path.straight:
                hook = self.module.get_submodule(name).register_forward_hook(_straight)
                stack.callback(hook.remove)
            if path.front is not None:
                hook = self.module.get_submodule(path.front).register_forward_pre_hook(
                    lambda _module, inputs: _from_image(inputs, noisy, path.stand_in)
                )
                stack.callback(hook.remove)
            if path.logits is not None:
                hook = self.module.get_submodule(path.logits).register_forward_hook(
                    lambda _module, _inputs, output: found.append(output)
                )
                stack.callback(hook.remove)
            squashed = SquashedInputs()
            stack.enter_context(squashed if path.squashed else nullcontext())
            if path.operations:
                stack.enter_context(OpenGradients())
                noisy = noisy.clone()  # a leaf must not be changed in place, which no_grad would have allowed
            outputs: Tensor = self.module(noisy)
        before = squashed.logits_of(outputs)
        return found[-1] if found else outputs if before is None else before


def _straight(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Return the output with the slope that it has over a wider range, value by value."""
    first: Tensor = inputs[0]
    return with_slope(output, wider_slope(module.forward, first), first)


def _from_image(inputs: tuple[Any, ...], images: Tensor, stand_in: StandIn | None) -> tuple[Any, ...]:
    """Return a module's inputs with the same values, as functions of the images."""
    first: Tensor = inputs[0]
    smooth = images if stand_in is None else stand_in(images)
    if smooth.shape[2:] != first.shape[2:]:
        size = [int(side) for side in first.shape[2:]]
        smooth = F.interpolate(smooth, size, mode="bilinear", align_corners=False)
    return first.detach() + smooth - smooth.detach(), *inputs[1:]


@dataclass(frozen=True)
class ModuleCall:
    """One call of a submodule during a pass: its name, first input and output (only tensors are noted)."""

    name: str
    module: nn.Module
    input: Tensor
    output: Tensor

    @property
    def leaf(self) -> bool:
        """Whether it has no modules inside."""
        return next(self.module.children(), None) is None


class ModulePass(NamedTuple):
    """A pass: the calls of submodules in the order in which they begin, and the outputs of the network, (M, K)."""

    calls: tuple[ModuleCall, ...]
    final: Tensor


@dataclass(frozen=True)
class Case:
    """A network whose evaluation failed checks: some images (M, C, H, W) that it classifies correctly, their labels (M,).

    ``failed`` are the names of the checks that failed or warn, as for ``--checks``; ``norm``, ``epsilon`` and ``seed`` those
    of the run. ``round`` counts from 1: later rounds may try more.
    """

    module: nn.Module
    images: Tensor
    labels: Tensor
    failed: frozenset[str]
    norm: str
    epsilon: float
    seed: int
    round: int = 1

    def asked(self, *checks: str) -> list[str]:
        """Return which of these checks failed."""
        return [name for name in checks if name in self.failed]

    @cached_property
    def seen(self) -> ModulePass:
        """One pass over the images, with gradients at the inputs of all submodules, whether or not they reach the pixels."""
        begun: list[tuple[str, nn.Module, Tensor]] = []
        done: dict[int, Tensor] = {}
        waiting: list[int] = []

        def before(name: str) -> Callable[..., Any]:
            def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
                if not inputs or not isinstance(inputs[0], Tensor) or not inputs[0].is_floating_point():
                    waiting.append(-1)
                    return None
                first = point = inputs[0]
                if not point.requires_grad:
                    point = point.detach().clone().requires_grad_()
                    first = point.clone()  # it may be changed in place
                waiting.append(len(begun))
                begun.append((name, module, point))
                return first, *inputs[1:]

            return hook

        def after(_module: nn.Module, _inputs: object, output: object) -> None:
            place = waiting.pop()
            if place >= 0 and isinstance(output, Tensor):
                done[place] = output

        with self._ready() as stack:
            for name, module in self.module.named_modules():
                if name:
                    stack.callback(module.register_forward_pre_hook(before(name)).remove)
                    stack.callback(module.register_forward_hook(after).remove)
            final = self.module(self.images.detach().clone().requires_grad_())
        return ModulePass(tuple(ModuleCall(*begun[place], done[place]) for place in sorted(done)), final)

    def reaches_pixels(self, path: GradientPath | None = None) -> bool:
        """Tell whether the outputs have gradients at the pixels, on a path or on the network's own."""
        with self._ready():
            x = self.images.detach().clone().requires_grad_()
            return self.alive((self.module if path is None else AdaptedGradients(self.module, path))(x), x)

    def operations(self) -> list[str]:
        """Return the operations inside a ``forward`` that stop gradients and can be passed, in order; none where that fails.

        What is passed must leave the answers as they were, and no graph in the network's buffers.
        """
        with self._ready():
            plain = self.module(self.images)
            x = self.images.detach().clone().requires_grad_()
            try:
                with OpenGradients() as mode:
                    opened = self.module(x.clone())
            except Exception:
                # Any code of the user's may refuse tensors that it did not expect: then it is left alone.
                return []
            finally:
                left = [buffer for buffer in self.module.buffers() if buffer.requires_grad]
                for buffer in left:
                    buffer.detach_()
            same = opened.shape == plain.shape and bool(
                (opened.argmax(1) == plain.argmax(1)).float().mean() > 0.5
            )
            return list(mode.opened) if same and not left and self.alive(opened, x) else []

    def squashed(self) -> bool:
        """Tell whether the outputs are those of a softmax or sigmoid whose inputs have gradients at the pixels."""
        with self._ready(), SquashedInputs() as mode:
            x = self.images.detach().clone().requires_grad_()
            before = mode.logits_of(self.module(x))
            return before is not None and self.alive(before, x)

    def alive(self, output: Tensor, to: Tensor) -> bool:
        """Tell whether a random combination of ``output`` has a gradient at ``to`` for most images, finite and not 0."""
        if not output.requires_grad or not to.requires_grad:
            return False
        weights = torch.linspace(-1, 1, output[0].numel(), device=output.device).view_as(output[0])
        try:
            gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
                (output * weights).sum(), to, allow_unused=True, retain_graph=True
            )
        except RuntimeError:  # what was changed in place has no gradient
            return False
        gradient = gradients[0]
        if gradient is None:
            return False
        flat = gradient.flatten(1)
        return bool((flat.isfinite().all(1) & (flat != 0).any(1)).float().mean() > 0.5)

    @contextmanager
    def _ready(self) -> Iterator[ExitStack]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(frozen_parameters(self.module))
            stack.enter_context(scoped(self.seed, "adapt"))
            yield stack


@dataclass
class Plan:
    """What a round changes: the path of the gradients, attacks by name with options, and a sentence for each change."""

    path: GradientPath = field(default_factory=GradientPath)
    eot: int = 1
    attacks: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def say(self, checks: Sequence[str], text: str) -> None:
        """Note a change and the checks that asked for it."""
        self.words.append(f"{', '.join(checks)}: {text}")


class Remedy(Protocol):
    """Changes the plan where checks that it answers failed, and where what it looks for is there."""

    def __call__(self, case: Case, plan: Plan) -> None:
        """Change the plan, or leave it."""
        ...


REMEDIES: Registry[Remedy] = Registry("remedy", "studies.adversarial.remedies")
