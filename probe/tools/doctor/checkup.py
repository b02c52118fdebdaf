"""The examination: a module, images, labels and a loss go in, findings come out."""

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
from probe.tools.doctor.sweep import Sweep, grid, sweep
from probe.tools.doctor.training_run import MEASURED, TrainingRun, run_training

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_RATES = {("adamw", True): 3e-3, ("adamw", False): 1e-3, ("sgd", True): 0.05, ("sgd", False): 0.03}
"""By optimiser and whether anything normalises: rates at which common networks learn without warm-up or clipping."""


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
    """Watch a short training of a module and say what is wrong with it.

    ``images`` (N, C, H, W) and ``labels`` (N, …) are as the module and ``loss`` take them; ``loss`` maps (outputs,
    labels) to one number. Parameters with requires_grad are trained at a constant rate ``lr`` (None: by optimiser
    and network) for ``steps`` batches, without augmentation, schedule, clipping or weight decay, which hide faults.
    ``optimiser`` is ``sgd`` (Nesterov momentum 0.9), ``adamw`` or a function from (parameters, lr) to one;
    ``precision`` is ``float32``, or ``bfloat16`` or ``float16`` for autocast. ``try_rates`` sweeps the learning rate.
    The module, its gradients and flags are as before afterwards, also when something raises; so are the
    global generators. Raises UsageError when there is nothing to train or to train on, or the loss is not one number;
    what module and loss raise is passed on.
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
    """Return what is to be trained after checking that it can be; raises UsageError."""
    if not any(one.requires_grad for one in module.parameters()):
        raise UsageError("No parameter of the network requires a gradient: there is nothing to train.")
    if len(images) < 2 or len(images) != len(labels):
        raise UsageError(
            f"There are {len(images)} images and {len(labels)} labels: give at least 2 images with a label each."
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
    """Return the learning rate when none is given: lower where nothing normalises, 1e-3 for a function's optimiser."""
    normed = any(isinstance(sub, _NORMS) for sub in module.modules())
    return 1e-3 if callable(optimiser) else _RATES.get((optimiser, normed), 1e-3)


def gather(plan: TrainingPlan, try_rates: bool, progress: Progress = SILENT) -> TrainingEvidence:
    """Return the facts: one pass, the watched run, the passes after it, and the sweep where it has a meaning."""
    before = collect_layer_stats(plan)
    refusal = _refusal(plan, before)
    if refusal:
        return TrainingEvidence(plan, before, None, None, refusal=refusal, unswept="No step could be made.")
    with progress.task("Watching the training", plan.steps) as advance:
        course, after = _watched(plan, advance)
    if course.failed_at == 0:
        why = "The first step is not finite, before any update: the learning rate has no part in it."
        return TrainingEvidence(plan, before, course, None, unswept=why)
    tried, why = (None, "It was not asked for.")
    if try_rates:
        tried, why = _swept(plan, progress, course.outcome != "learned"), ""
    return TrainingEvidence(plan, before, course, tried, after, unswept=why)


def _watched(plan: TrainingPlan, advance: Advance) -> tuple[TrainingRun, LayerStats | None]:
    found: list[LayerStats] = []
    course = run_training(
        plan,
        advance=advance,
        explain=True,
        patient=True,
        at_end=lambda: found.append(collect_layer_stats(plan)),
    )
    return course, found[0] if found else None


def _swept(plan: TrainingPlan, progress: Progress, ill: bool) -> Sweep:
    rates = grid(plan.lr)
    with progress.task("Trying learning rates", len(rates)) as advance:
        tried = sweep(plan, rates, advance)
    if tried.best is not None or not ill or plan.steps <= tried.steps:
        return tried
    # Few steps may be too few for any rate; before that is said, each gets as many as the run.
    with progress.task("Trying learning rates for longer", len(rates[::2])) as advance:
        return sweep(plan, rates[::2], advance, plan.steps)


def collect_layer_stats(plan: TrainingPlan) -> LayerStats:
    """Return what a pass in train mode on some images shows; buffers and random generators are left as they are."""
    x, _ = plan.placed(slice(0, MEASURED))
    with (
        training_mode(plan.module, True),
        kept_buffers(plan.module),
        seeds.scoped(plan.seed, "doctor", "collect_layer_stats"),
    ):
        return take(plan.module, lambda: plan.forward(x), len(x))


def _refusal(plan: TrainingPlan, before: LayerStats) -> str:
    """Return why no step can be made: labels that the loss cannot take; empty when it can."""
    wrong = outside(plan.labels, before.shape)
    if wrong is None or not len(wrong):
        return ""
    if plan.loss is F.cross_entropy:
        return f"{len(wrong):,} labels are outside the classes."
    return _cannot_take(plan)


def _cannot_take(plan: TrainingPlan) -> str:
    """Try the user's loss on labels that are no classes; on the CPU, because a CUDA device would not recover."""
    outputs = torch.zeros(len(plan.labels), collect_layer_stats(plan).shape[1])
    try:
        plan.measure_loss(outputs, plan.labels.cpu())
    except (IndexError, RuntimeError, ValueError) as error:
        return f"The loss does not take the labels: {str(error).splitlines()[0] if str(error) else error!r}"
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
