"""The examination of a module with images, labels and a loss, which returns Findings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core import seeds
from probe.core.errors import NotApplicableError, UsageError
from probe.core.progress import SILENT, Advance, Progress
from probe.core.state import kept_buffers, training_mode
from probe.tools.doctor.diagnosis import Diagnosis, Findings, sort
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.labels import outside, restored, trivial_loss
from probe.tools.doctor.layer_stats import LayerStats, take
from probe.tools.doctor.plan import Loss, Optimiser, TrainingPlan
from probe.tools.doctor.registries import CAUSES
from probe.tools.doctor.sweep import Sweep, grid, sweep, wide_grid
from probe.tools.doctor.training_run import MEASURED, TrainingRun, run_training

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_RATES = {("adamw", True): 3e-3, ("adamw", False): 1e-3, ("sgd", True): 0.05, ("sgd", False): 0.03}
"""Rates at which common networks learn without warm-up or clipping, by optimiser and presence of normalisation."""


def examine(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    loss: Loss = F.cross_entropy,
    lr: float | None = None,
    steps: int = 40,
    optimiser: str | Optimiser = "adamw",
    batch_size: int = 32,
    precision: str = "float32",
    try_rates: bool = True,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Findings:
    """Train a module for a few steps and diagnose what goes wrong.

    ``images`` (N, C, H, W) and ``labels`` (N, …) are inputs of the module and of ``loss``; ``loss`` maps (outputs,
    labels) to one number. Parameters with requires_grad are trained at a constant rate ``lr`` (None: depends on
    optimiser and network) for ``steps`` batches, without augmentation, schedule, clipping or weight decay, because these
    hide faults. ``optimiser`` is ``sgd`` (Nesterov momentum 0.9), ``adamw`` or a function of (parameters, lr) that
    returns an optimiser; ``precision`` is ``float32``, or ``bfloat16`` or ``float16`` for autocast. ``try_rates`` sweeps
    the learning rate. Afterwards the module, its gradients, its flags and the global generators are restored, even after
    an error. Raises UsageError when there is nothing to train or to train on, or the loss is not one number;
    errors of the module and the loss are passed on.
    """
    plan = make_plan(module, images, labels, loss, lr, steps, optimiser, batch_size, precision, seed)
    with restored(module):
        evidence = gather(plan, try_rates, progress)
        diagnoses = tuple(_diagnose(name, evidence) for name in CAUSES)
    return sort(diagnoses, evidence)


def make_plan(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss: Loss,
    lr: float | None,
    steps: int,
    optimiser: str | Optimiser,
    batch_size: int,
    precision: str,
    seed: int,
) -> TrainingPlan:
    """Return the plan of the training after checking it; raises UsageError."""
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UsageError("No parameter of the network requires a gradient: there is nothing to train.")
    if len(images) < 2 or len(images) != len(labels):
        raise UsageError(
            f"There are {len(images)} images and {len(labels)} labels: give at least 2 images, each with a label."
        )
    if steps < 1 or batch_size < 2:
        raise UsageError("An examination needs at least 1 step and batches of at least 2 images.")
    rate = default_rate(module, optimiser) if lr is None else lr
    if not rate > 0:
        raise UsageError(f"The learning rate must be above 0, not {rate:g}.")
    known = trivial_loss(labels) if loss is F.cross_entropy else None
    make = optimiser if callable(optimiser) else _optimiser(optimiser)
    return TrainingPlan(module, images, labels, loss, make, rate, steps, batch_size, seed, precision, known)


def default_rate(module: nn.Module, optimiser: str | Optimiser) -> float:
    """Return the default learning rate: lower without normalisation, 1e-3 for the user's own optimiser."""
    normed = any(isinstance(sub, _NORMS) for sub in module.modules())
    return 1e-3 if callable(optimiser) else _RATES.get((optimiser, normed), 1e-3)


def gather(plan: TrainingPlan, try_rates: bool, progress: Progress = SILENT) -> TrainingEvidence:
    """Return the evidence: one forward pass, the training run, the passes after it, and the sweep if applicable."""
    before = collect_layer_stats(plan)
    refusal = _refusal(plan, before)
    if refusal:
        return TrainingEvidence(
            plan, before, None, None, refusal=refusal, unswept="No training step was possible."
        )
    with progress.task("Watching the training", plan.steps) as advance:
        course, after = _watch_training(plan, advance)
    if course.failed_at == 0:
        why = "The first step is already not finite, before any update: the learning rate is not the cause."
        return TrainingEvidence(plan, before, course, None, unswept=why)
    tried, why = (None, "Not requested.")
    if try_rates:
        tried, why = _sweep_rates(plan, progress, course.outcome != "learned"), ""
    return TrainingEvidence(plan, before, course, tried, after, unswept=why)


def _watch_training(plan: TrainingPlan, advance: Advance) -> tuple[TrainingRun, LayerStats | None]:
    after: list[LayerStats] = []
    course = run_training(
        plan,
        advance=advance,
        explain=True,
        extended=True,
        at_end=lambda: after.append(collect_layer_stats(plan)),
    )
    return course, after[0] if after else None


def _sweep_rates(plan: TrainingPlan, progress: Progress, training_failed: bool) -> Sweep:
    rates = grid(plan.lr)
    with progress.task("Trying learning rates", len(rates)) as advance:
        tried = sweep(plan, rates, advance)
    if tried.best is not None or not training_failed:
        return tried
    # The given rate may be far from any that learns, and a few steps may be too few: try the common rates with as many
    # steps as the run.
    rates = wide_grid(plan.lr)
    with progress.task("Trying learning rates for longer", len(rates)) as advance:
        return sweep(plan, rates, advance, plan.steps)


def collect_layer_stats(plan: TrainingPlan) -> LayerStats:
    """Return the statistics of a forward pass in train mode; buffers and random generators are restored."""
    x, _ = plan.placed(slice(0, MEASURED))
    with (
        training_mode(plan.module, True),
        kept_buffers(plan.module),
        seeds.scoped(plan.seed, "doctor", "collect_layer_stats"),
    ):
        return take(plan.module, lambda: plan.forward(x), len(x))


def _refusal(plan: TrainingPlan, before: LayerStats) -> str:
    """Return why no training step is possible: labels that the loss does not accept; empty if one is."""
    wrong = outside(plan.labels, before.shape)
    if wrong is None or not len(wrong):
        return ""
    if plan.loss is F.cross_entropy:
        return f"{len(wrong):,} labels are outside the classes."
    return _loss_error(plan)


def _loss_error(plan: TrainingPlan) -> str:
    """Try the user's loss on labels outside the classes; on the CPU, because a CUDA device would not recover."""
    outputs = torch.zeros(len(plan.labels), collect_layer_stats(plan).shape[1])
    try:
        plan.measure_loss(outputs, plan.labels.cpu())
    except (IndexError, RuntimeError, ValueError) as error:
        return f"The loss does not accept the labels: {str(error).splitlines()[0] if str(error) else error!r}"
    return ""


def _diagnose(name: str, evidence: TrainingEvidence) -> Diagnosis:
    try:
        return CAUSES.get(name)(evidence)
    except NotApplicableError as error:
        return Diagnosis(name, "unknown", name.replace("-", " ").capitalize(), str(error))


def _optimiser(name: str) -> Optimiser:
    def sgd(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr, momentum=0.9, nesterov=True)

    def adamw(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr, weight_decay=0.0)

    known = {"sgd": sgd, "adamw": adamw}
    if name not in known:
        raise UsageError(f"There is no optimiser '{name}'. Known: {', '.join(known)}.")
    return known[name]
