"""The evidence for the causes: a pass before training, the run, and experiments that are run once and shared."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from probe.core import seeds
from probe.core.errors import NotApplicableError
from probe.core.state import kept_buffers, training_mode
from probe.tools.doctor.layer_stats import LayerActivity, LayerStats
from probe.tools.doctor.loss_form import LossForm, loss_form
from probe.tools.doctor.plan import Loss, TrainingPlan
from probe.tools.doctor.sweep import Sweep
from probe.tools.doctor.training_run import MEASURED, Failure, TrainingRun, run_training

TINY = 1e-30
"""Smaller than every relevant gradient: keeps logarithms and quotients finite."""


@dataclass
class TrainingEvidence:
    """The evidence of an examination.

    ``layer_stats`` is from a pass on a few images before training; ``course`` is the training run and ``sweep`` the
    learning rates tried, each None if it was not possible. ``refusal`` says why nothing was trained, ``unswept`` why no
    rate was tried. ``after`` are the layer statistics after the run, None if the run ended early.
    """

    plan: TrainingPlan
    layer_stats: LayerStats
    course: TrainingRun | None
    sweep: Sweep | None
    after: LayerStats | None = None
    refusal: str = ""
    unswept: str = ""

    @property
    def first(self) -> LayerActivity:
        """The first layer with weights; raises NotApplicableError if none was called."""
        if not self.layer_stats.layers:
            raise NotApplicableError("No layer with weights was called.")
        return self.layer_stats.layers[0]

    @property
    def trained(self) -> TrainingRun:
        """The training run; raises NotApplicableError if no step was possible."""
        if self.course is None:
            raise NotApplicableError(f"Nothing was trained: {self.refusal}")
        return self.course

    @property
    def failure(self) -> Failure | None:
        """How the run stopped being finite; None if it stayed finite. Raises NotApplicableError without a run."""
        return self.trained.failure

    @property
    def at_once(self) -> bool:
        """Whether the first step was already not finite, so that no update can be the cause."""
        return self.trained.failed_at == 0

    @property
    def training_failed(self) -> bool:
        """Whether the run had any outcome other than learning."""
        return self.trained.outcome != "learned"

    @cached_property
    def standardised(self) -> TrainingRun:
        """A second training run, with the input of the first layer standardised to mean 0 and standard deviation 1.

        Trains the network when first accessed.
        """
        first = self.first

        def shift(_module: object, args: tuple[object, ...]) -> tuple[object, ...]:
            x = args[0]
            return ((x - first.mean) / first.std, *args[1:]) if isinstance(x, Tensor) else args

        hook = self.plan.module.get_submodule(first.name).register_forward_pre_hook(shift)
        try:
            return run_training(self.plan, extended=True)
        finally:
            hook.remove()

    @cached_property
    def full_precision(self) -> TrainingRun | None:
        """A second training run, in float32; None if the run is already in float32.

        Trains the network when first accessed.
        """
        half = [
            parameter
            for parameter in self.plan.module.parameters()
            if parameter.dtype in (torch.float16, torch.bfloat16)
        ]
        if self.plan.precision == "float32" and not half:
            return None
        module = self.plan.module
        if half:
            module = copy.deepcopy(module).float()
        return run_training(replace(self.plan, module=module, precision="float32"))

    @cached_property
    def outputs(self) -> Tensor:
        """The outputs for the first images before training, in train mode, on the CPU."""
        x, _ = self.plan.placed(slice(0, MEASURED))
        with (
            torch.no_grad(),
            training_mode(self.plan.module, True),
            kept_buffers(self.plan.module),
            seeds.scoped(self.plan.seed, "doctor", "outputs"),
        ):
            return self.plan.forward(x).float().cpu()

    @cached_property
    def loss_form(self) -> LossForm | None:
        """Which known loss the loss is, found by calling it with random outputs; None if it is none of them."""
        return loss_form(self.plan, self.layer_stats.shape)

    def with_loss(self, change: Callable[[Loss], Loss]) -> TrainingRun:
        """Return a second training run with a changed loss, for as many steps as the first if that stayed finite.

        Trains the network at each call.
        """
        return self.again(replace(self.plan, loss=change(self.plan.loss)))

    def again(self, plan: TrainingPlan) -> TrainingRun:
        """Train by another plan for as many steps as the run, or up to its limit if that stopped being finite."""
        steps = len(self.trained.losses) if self.failure is None else None
        return run_training(plan, steps=steps, extended=steps is None)

    @property
    def blocked(self) -> tuple[str, ...]:
        """The layers whose weights are all 0 before the training, which pass no gradient on at the first step."""
        return tuple(layer.name for layer in self.layer_stats.layers if layer.weight == 0)

    @property
    def short_type(self) -> str:
        """The narrowest floating-point type in the forward pass."""
        if self.plan.precision != "float32":
            return self.plan.precision
        kinds = {
            parameter.dtype for parameter in self.plan.module.parameters() if parameter.is_floating_point()
        }
        return str(min(kinds, key=lambda kind: torch.finfo(kind).max)).removeprefix("torch.")

    @property
    def largest(self) -> float:
        """The largest finite number of that type."""
        return float(torch.finfo(getattr(torch, self.short_type)).max)

    @cached_property
    def gradients(self) -> tuple[tuple[str, float, float], ...]:
        """(layer, gradient norm, gradient norm / weight norm) at the first step, in order of execution.

        Layers that the pass did not call are omitted, and so are layers whose weights are all 0, for which there is no
        relative size. Empty if the first step has no finite gradients.
        """
        course = self.trained
        if not len(course.norms):
            return ()
        norms = dict(zip(course.layers, course.norms[0], strict=True))
        return tuple(
            (layer.name, float(norms[layer.name]), float(norms[layer.name]) / max(layer.weight, TINY))
            for layer in self.layer_stats.layers
            if layer.name in norms and math.isfinite(layer.weight) and layer.weight > 0
        )


def short(name: str) -> str:
    """Return a layer's name as users know it, without the wrapper's prefix; a bare number becomes ``layer 3``."""
    own = "" if name == "network" else name.removeprefix("network.")
    return f"layer {own}" if own.isdigit() else own or "the network itself"
