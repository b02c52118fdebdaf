"""The check-up as a study: it takes a loaded model and labelled images, and returns a Report."""

from __future__ import annotations

import dataclasses
import time

import torch.nn.functional as F

from probe.core.document import Report
from probe.core.errors import CannotRunError
from probe.core.progress import SILENT, Progress
from probe.core.state import refuse_torchscript
from probe.core.usercode import user_errors
from probe.data.images import ImageSet
from probe.models.chain import data_info
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.tools.doctor.checkup import default_rate, examine
from probe.tools.doctor.diagnosis import Findings, methods, sentences
from probe.tools.doctor.labels import restored
from probe.tools.doctor.plan import DoctorConfig, Loss
from probe.tools.doctor.report_sections import (
    dead_section,
    findings_section,
    gradients_section,
    loss_section,
    plain,
    rates_section,
    results,
    signal_section,
)
from probe.train.data import as_tensors

DEFAULTS = DoctorConfig()

REFERENCES = (
    "X. Glorot and Y. Bengio. Understanding the difficulty of training deep feedforward neural networks. AISTATS 2010.",
    "K. He, X. Zhang, S. Ren and J. Sun. Delving deep into rectifiers. ICCV 2015.",
    "R. Pascanu, T. Mikolov and Y. Bengio. On the difficulty of training recurrent neural networks. ICML 2013.",
    "L. N. Smith. Cyclical learning rates for training neural networks. WACV 2017.",
)


def run(
    model: LoadedModel,
    images: ImageSet,
    config: DoctorConfig = DEFAULTS,
    *,
    loss: Loss = F.cross_entropy,
    progress: Progress = SILENT,
    command: str = "",
) -> Report:
    """Train a loaded model for a few steps and report what goes wrong.

    The training starts from the model's weights, which are restored afterwards. ``loss`` maps (logits, labels) to one
    number. If the data has more classes than the model has outputs, that is a finding, not an error. Raises
    CannotRunError when the images have no labels or fewer than two can be read, UserCodeError when the network or the
    loss raises in training, and UsageError when the loss is not one number.
    """
    started = time.perf_counter()
    if not images.labelled:
        raise CannotRunError(
            f"The images of {images.name} have no labels: give a folder with one subfolder for each class, or a labelled "
            "data set such as digits."
        )
    refuse_torchscript(model.network)
    if not model.module.differentiable:
        raise CannotRunError(
            f"{model.provenance.notes[-1]} It cannot be trained as it stands: where an operation in place (x += y, x.add_(y)) "
            "overwrites what the gradient needs, write x = x + y."
        )
    needed = max(config.train_batch, config.steps * config.train_batch)
    chosen = images.sample(needed, config.seed) if len(images) > needed else images
    pixels, labels = as_tensors(chosen, model.input, "Reading images", progress)
    module = model.module
    with restored(module), user_errors(None, f"The training of {model.name} failed"):
        module.requires_grad_(True)
        config = dataclasses.replace(config, lr=config.lr or default_rate(module, config.optimiser))
        findings = examine(
            module,
            pixels,
            labels,
            loss=loss,
            lr=config.lr,
            steps=config.steps,
            optimiser=config.optimiser,
            batch_size=config.train_batch,
            precision=config.precision,
            try_rates=config.sweep,
            seed=config.seed,
            progress=progress,
        )
    return _report(model, chosen, len(pixels), config, findings, command, time.perf_counter() - started)


def _report(
    model: LoadedModel,
    images: ImageSet,
    n: int,
    config: DoctorConfig,
    findings: Findings,
    command: str,
    seconds: float,
) -> Report:
    info = data_info(model, images, n)
    sections = (
        findings_section(findings),
        loss_section(findings),
        rates_section(findings),
        gradients_section(findings),
        signal_section(findings),
        dead_section(findings),
    )
    return assemble(
        study="doctor",
        title=f"Training check-up of {model.name}",
        model=dataclasses.replace(model.info(), notes=_warnings(model)),
        data=info,
        config=config,
        device=str(model.device),
        seed=config.seed,
        command=command,
        seconds=seconds,
        headline=tuple(sentences(findings)),
        sections=sections,
        results=results(findings),
        warnings=(*_warnings(model), *images.cautions),
        extra=plain(findings),
        methods=methods(config, findings, n, images.name),
        references=REFERENCES,
        key=("loss",),
    )


def _warnings(model: LoadedModel) -> tuple[str, ...]:
    """Return the notes on the model except that on random weights, which are the normal start of a training."""
    return tuple(note for note in model.provenance.notes if "weights are random" not in note)
