"""What the causes look at: a pass before training, the run, and experiments that are made once and shared."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.tools.doctor.layer_stats import LayerActivity, LayerStats
from probe.tools.doctor.plan import TrainingPlan
from probe.tools.doctor.sweep import Sweep
from probe.tools.doctor.training_run import Failure, TrainingRun, run_training

TINY = 1e-30
"""Below every gradient that could matter: keeps logarithms and quotients finite."""


@dataclass
class TrainingEvidence:
    """The facts of an examination.

    ``layer_stats`` is a pass on a few images before training; ``course`` the watched run; ``sweep`` the tried learning
    rates; each is None where it could not be made, ``refusal`` says why nothing was trained, ``unswept`` why no rate
    was tried. ``after`` is the census after the run, None where that ended early.
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
        """The first layer with weights; raises NotApplicableError when none was called."""
        if not self.layer_stats.layers:
            raise NotApplicableError("No layer with weights was called.")
        return self.layer_stats.layers[0]

    @property
    def trained(self) -> TrainingRun:
        """The run; raises NotApplicableError when no step could be made."""
        if self.course is None:
            raise NotApplicableError(f"Nothing was trained: {self.refusal}")
        return self.course

    @property
    def failure(self) -> Failure | None:
        """How the run stopped being finite; None when it did not. Raises NotApplicableError without a run."""
        return self.trained.failure

    @property
    def at_once(self) -> bool:
        """Whether the first step already was not finite, so that no update can be blamed."""
        return self.trained.failed_at == 0

    @property
    def training_failed(self) -> bool:
        """Whether the run did anything but learn."""
        return self.trained.outcome != "learned"

    @cached_property
    def standardised(self) -> TrainingRun:
        """The same run with what the first layer receives shifted and scaled to mean 0 and deviation 1."""
        first = self.first

        def shift(_module: object, args: tuple[object, ...]) -> tuple[object, ...]:
            x = args[0]
            return ((x - first.mean) / first.std, *args[1:]) if isinstance(x, Tensor) else args

        hook = self.plan.module.get_submodule(first.name).register_forward_pre_hook(shift)
        try:
            return run_training(self.plan, patient=True)
        finally:
            hook.remove()

    @cached_property
    def full_precision(self) -> TrainingRun | None:
        """The same run in float32; None where it is in float32 already."""
        half = [one for one in self.plan.module.parameters() if one.dtype in (torch.float16, torch.bfloat16)]
        if self.plan.precision == "float32" and not half:
            return None
        module = self.plan.module
        if half:
            module = copy.deepcopy(module).float()
        return run_training(replace(self.plan, module=module, precision="float32"))

    @property
    def short_type(self) -> str:
        """The narrowest floating type that the forward pass computes in."""
        if self.plan.precision != "float32":
            return self.plan.precision
        kinds = {one.dtype for one in self.plan.module.parameters() if one.is_floating_point()}
        return str(min(kinds, key=lambda kind: torch.finfo(kind).max)).removeprefix("torch.")

    @property
    def largest(self) -> float:
        """The largest finite number of that type."""
        return float(torch.finfo(getattr(torch, self.short_type)).max)

    @cached_property
    def gradients(self) -> tuple[tuple[str, float, float], ...]:
        """(layer, gradient norm, gradient norm / weight norm) at the first step, in order of execution.

        Layers that the pass did not call are left out. Empty where the first step has no finite gradients.
        """
        course = self.trained
        if not len(course.norms):
            return ()
        norms = dict(zip(course.layers, course.norms[0], strict=True))
        return tuple(
            (layer.name, float(norms[layer.name]), float(norms[layer.name]) / max(layer.weight, TINY))
            for layer in self.layer_stats.layers
            if layer.name in norms and math.isfinite(layer.weight)
        )


def short(name: str) -> str:
    """Return a layer's name as users know it, without the wrapper around it; a bare number is explained."""
    own = "" if name == "network" else name.removeprefix("network.")
    return f"layer {own}" if own.isdigit() else own or "the network itself"
