"""The ablation study: which parts of the network do the work?"""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from probe.core.environment import environment
from probe.core.errors import CannotRunError, NotApplicableError
from probe.core.journal import NOTHING, Journal
from probe.core.progress import SILENT, Progress
from probe.core.report import Report, Result, Section, percent
from probe.core.seeds import generator, scoped
from probe.core.state import kept_buffers, training_mode
from probe.data.images import ImageSet
from probe.graph.cut import Subject, prepare
from probe.graph.structure import Structure, structure_named
from probe.models.loaded import LoadedModel
from probe.models.train_data import Parts
from studies.ablation.config import AblationConfig
from studies.ablation.evaluate import Batch, answer_plain
from studies.ablation.lesion import Bench, lesion
from studies.ablation.lesion_report import lesion_section
from studies.ablation.score import compare

DEFAULTS = AblationConfig()


def run(
    model: LoadedModel,
    images: ImageSet,
    config: AblationConfig = DEFAULTS,
    *,
    training: Parts | None = None,
    progress: Progress = SILENT,
    command: str = "",
    journal: Journal = NOTHING,
) -> Report:
    """Take structures out of a network and measure what they were worth.

    Parameters: a loaded model, images, the options, and labelled images to train on (without them nothing is
    retrained). ``journal`` keeps finished trainings, so that an interrupted run can go on. A structure that the
    network does not have becomes a section that says so. Raises UsageError for unknown structures, options and
    sites; CannotRunError when no image can be read or the network's answers are not finite.
    """
    started = time.perf_counter()
    structures = [structure_named(text) for text in dict.fromkeys(config.remove)]
    if images.labelled and images.num_classes is not None:
        model.check_classes(images.class_names or images.num_classes, images.name)
    sections: list[Section] = []
    with training_mode(model.module, False), kept_buffers(model.module), scoped(config.seed, "ablation"):
        bench = _bench(model, images, config, training, progress)
        intact = _intact(bench, images)
        if config.mode in ("auto", "lesion", "both"):
            sections += [_lesion(bench, one, images, config) for one in structures]
    return _report(model, images, bench, config, sections, (intact,), command, time.perf_counter() - started)


def _bench(
    model: LoadedModel, images: ImageSet, config: AblationConfig, training: Parts | None, progress: Progress
) -> Bench:
    batches = []
    with progress.task("Reading images", len(images)) as advance:
        for batch in images.batches(model.input, config.batch_size):
            pixels = batch.images.to(model.device, memory_format=model.memory_format)
            labels = batch.labels
            if labels is None:
                with torch.inference_mode():
                    labels = model.module(pixels).argmax(1)
            batches.append(Batch(pixels, labels.to(model.device)))
            advance(len(batch.indices))
    return Bench(
        model=model,
        subject=prepare(model.network, _example(model)),
        batches=tuple(batches),
        calibration=_calibration(model, batches, config, training),
        progress=progress,
    )


def _example(model: LoadedModel) -> Tensor:
    """Return two inputs of the network itself: normalised noise."""
    noise = torch.rand((2, *model.input.size), generator=generator(0, "example"))
    with torch.no_grad():
        normal: Tensor = model.module.normalise(noise.to(model.device, memory_format=model.memory_format))
    return normal


def _calibration(
    model: LoadedModel, batches: list[Batch], config: AblationConfig, training: Parts | None
) -> tuple[Tensor, ...]:
    """Return normalised images to estimate statistics on: of the training part, else the images looked at."""
    if training is not None:
        chosen = training.training.sample(config.calibration_samples, config.seed)
        pixels = [batch.images for batch in chosen.batches(model.input, config.batch_size)]
    else:
        pixels = [torch.cat([batch.images for batch in batches])[: config.calibration_samples]]
    whole = torch.cat(pixels).to(model.device, memory_format=model.memory_format)
    with torch.no_grad():
        return tuple(model.module.normalise(part) for part in torch.split(whole, config.batch_size))


def _intact(bench: Bench, images: ImageSet) -> Result:
    answers = answer_plain(bench.model, bench.model.network, bench.batches)
    if answers.broken == bench.n:
        raise CannotRunError(
            f"{bench.model.name} answers with values that are not finite for all images of {images.name}: check its "
            "weights and --mean and --std."
        )
    right = compare(answers, answers, bench.labels).right
    name = "accuracy" if images.labelled else "agreement"
    return Result.proportion(f"intact_{name}", right, bench.n, higher_is_better=True)


def _lesion(bench: Bench, structure: Structure, images: ImageSet, config: AblationConfig) -> Section:
    started = time.perf_counter()
    right = "accuracy" if images.labelled else "agreement"
    try:
        made = lesion(bench, structure, config)
        section = lesion_section(made, right, sum(map(len, bench.calibration)))
    except NotApplicableError as error:
        section = Section(f"lesion-{structure.word}", f"Lesion: {structure.word}", reason=str(error))
    return dataclasses.replace(section, seconds=round(time.perf_counter() - started, 2))


def _report(
    model: LoadedModel,
    images: ImageSet,
    bench: Bench,
    config: AblationConfig,
    sections: list[Section],
    results: tuple[Result, ...],
    command: str,
    seconds: float,
) -> Report:
    info = images.info(bench.n)
    return Report(
        study="ablation",
        title=f"What the parts of {model.name} are worth",
        model=model.info(),
        data=info,
        config={**dataclasses.asdict(config), **_choices(bench.subject, images)},
        environment=environment(str(model.device)),
        seed=config.seed,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 2),
        headline=_headline(model, images, bench, sections, results),
        sections=tuple(sections),
        results=results,
        warnings=model.provenance.notes,
        status="skipped inputs" if info.skipped else "done",
    )


def _choices(subject: Subject, images: ImageSet) -> dict[str, Any]:
    return {"graph": subject.reason or "traced", "reference": "labels" if images.labelled else "own answers"}


def _headline(
    model: LoadedModel,
    images: ImageSet,
    bench: Bench,
    sections: list[Section],
    results: tuple[Result, ...],
) -> tuple[str, ...]:
    lines = [finding for section in sections for finding in section.findings]
    intact = results[0]
    if images.labelled and isinstance(intact.value, float):
        lines.append(
            f"Intact, {model.name} names {percent(intact.value, intact.ci)} of {bench.n} images of {images.name} right."
        )
    else:
        lines.append(
            f"The {bench.n} images of {images.name} have no labels: the reference is the intact network's own answer, "
            "and nothing is said about accuracy."
        )
    lines += [f"{section.title}: {section.reason}" for section in sections if section.reason]
    return tuple(lines)
