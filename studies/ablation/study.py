"""The ablation study: which parts of the network do the work?"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probe.core.document import Report, Result, Section, percent
from probe.core.errors import CannotRunError, NotApplicableError
from probe.core.journal import NOTHING, Journal
from probe.core.progress import SILENT, Progress
from probe.core.seeds import scoped
from probe.core.state import kept_buffers, training_mode
from probe.data.images import ImageSet
from probe.graph.edit.cut import find_sites
from probe.graph.edit.structure import SWAP, Structure, structure_named
from probe.graph.edit.swap import Swap
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.train.data import Parts
from studies.ablation.config import AblationConfig
from studies.ablation.dropout.report import dropout_sections, loaded_dropout_sections
from studies.ablation.evaluate import KEPT, EvaluationBatch, answer_plain, compare, subject_of
from studies.ablation.lesion import EvaluationSet, Lesioned, chosen_sites, lesion
from studies.ablation.lesion_report import lesion_section
from studies.ablation.retrain import (
    AFFORDABLE,
    Retrained,
    at_depths,
    cost,
    make_setting,
    retrain,
    variants_of,
)
from studies.ablation.retrain_report import learning_curves, retrain_section
from studies.ablation.side_reports import also_sections, gradients_section, ledger_section
from studies.ablation.text import held_out_samples, lesion_samples, methods, references

DEFAULTS = AblationConfig()


def run(
    model: LoadedModel,
    images: ImageSet,
    config: AblationConfig = DEFAULTS,
    *,
    training: Parts | None = None,
    untrainable: str = "",
    progress: Progress = SILENT,
    command: str = "",
    journal: Journal = NOTHING,
) -> Report:
    """Take structures out of a network and measure what they were worth.

    Parameters: a loaded model, images, the options, and labelled images to train on; without these nothing is
    retrained, and ``untrainable`` says why there are none. ``journal`` keeps finished trainings, so that an
    interrupted run can go on. A structure that the network does not have becomes a section that says so. Raises
    UsageError for unknown structures, options and sites; CannotRunError when no image can be read, the network's
    answers are not finite, or ``retrain`` is asked for and cannot be done.
    """
    started = time.perf_counter()
    structures = [structure_named(text) for text in config.texts]
    if images.labelled and images.num_classes is not None:
        model.check_classes(images.class_names or images.num_classes, images.name)
    with training_mode(model.module, False), kept_buffers(model.module), scoped(config.seed, "ablation"):
        bench = _bench(model, images, config, training, progress)
        run = _AblationRun(model, images, config, training, bench, structures, journal, progress)
        # What would end the run is looked for before minutes are spent on trainings.
        intact = _intact(run)
        run.check_sites()
        made, refusal = run.retrain(untrainable)
        lesions, sections = run.lesions()
    if made is not None:
        retrained = [
            retrain_section(made),
            *also_sections(made),
            *dropout_sections(made),
            gradients_section(made),
        ]
        sections = [*retrained, *sections]
    if lesions or made is not None:
        sections.append(ledger_section(tuple(lesions), made))
    if refusal and config.mode != "lesion":
        sections.append(Section("retrain", "Retrain: built without, trained again", reason=refusal))
    report = _report(run, sections, intact, command, time.perf_counter() - started)
    extra = {} if made is None else {"learning_curves": learning_curves(made)}
    cut = tuple(one.structure.name for one in lesions if not one.structure.no_effect_reason)
    calibration = sum(map(len, bench.calibration))
    return dataclasses.replace(
        report,
        samples=run.samples(lesions, made),
        extra=extra,
        methods=methods(report.model, report.data, config, cut, calibration, made),
        references=references(cut, made),
    )


@dataclass(frozen=True)
class _AblationRun:
    """One run of the study: what it works on."""

    model: LoadedModel
    images: ImageSet
    config: AblationConfig
    training: Parts | None
    bench: EvaluationSet
    structures: list[Structure]
    journal: Journal
    progress: Progress

    @property
    def right(self) -> str:
        """What counts as right: the label, or the network's own answer."""
        return "accuracy" if self.images.labelled else "agreement"

    def lesions(self) -> tuple[list[Lesioned], list[Section]]:
        """Cut each structure at test time; what cannot be cut becomes a section with the reason."""
        lesions: list[Lesioned] = []
        sections: list[Section] = []
        if self.config.mode == "retrain":
            return lesions, sections
        for structure in self.structures:
            if isinstance(structure, Swap):
                continue
            started = time.perf_counter()
            try:
                lesions.append(lesion(self.bench, structure, self.config))
                section = lesion_section(lesions[-1], self.right, sum(map(len, self.bench.calibration)))
            except NotApplicableError as error:
                section = Section(f"lesion-{structure.name}", f"Lesion: {structure.name}", reason=str(error))
            sections.append(dataclasses.replace(section, seconds=round(time.perf_counter() - started, 2)))
            if structure.name == "dropout" and not section.reason:
                sections += loaded_dropout_sections(self.bench, self.images.labelled, self.config.seed)
        return lesions, sections

    def retrain(self, untrainable: str) -> tuple[Retrained | None, str]:
        """Train all arms, or say why not; raises CannotRunError where it was asked for by name."""
        config = self.config
        if config.mode == "lesion":
            return None, ""
        reason = self._refusal(untrainable)
        if reason and (config.mode in ("retrain", "both") or config.depths):
            raise CannotRunError(reason)
        if reason or self.training is None:
            return None, reason
        present = [one.text for one in self.structures if self._is_there(one)]
        setting = make_setting(
            self.model, self.training, config, at_depths(self.model, config.depths), self.progress
        )
        depths: list[int | None] = list(dict.fromkeys(config.depths)) or [None]
        variants = variants_of(present)
        return retrain(
            setting, variants, depths, self.training.split, config, self.journal, self.progress
        ), ""

    def samples(self, lesions: list[Lesioned], made: Retrained | None) -> tuple[dict[str, Any], ...]:
        """Return what is known of each image: those that were cut on, then those held out of training."""
        held_out = None if self.training is None else self.training.held_out
        return (*lesion_samples(self.bench, self.images, lesions), *held_out_samples(made, held_out))

    def check_sites(self) -> None:
        """Raise UsageError for a site that is named and that a structure does not have; see ``lesion.chosen_sites``."""
        if self.config.sites is not None:
            for structure in self.structures:
                if self._is_there(structure):
                    found = find_sites(self.bench.subject, structure)
                    chosen_sites(found, structure, self.config.sites, self.model.name)

    def _is_there(self, structure: Structure) -> bool:
        try:
            return bool(find_sites(self.bench.subject, structure))
        except NotApplicableError:
            return False

    def _refusal(self, untrainable: str) -> str:
        """Return why nothing can be retrained, an empty string when it can."""
        config, training = self.config, self.training
        if training is None:
            return untrainable or "Nothing was retrained: there are no labelled images to train on."
        if not any(self._is_there(one) for one in self.structures):
            words = " or ".join(_described(one) for one in self.structures)
            return f"Nothing was retrained: {self.model.name} has no {words}."
        if self.bench.subject.trains or self.bench.subject.reason:
            reason = self.bench.subject.trains or self.bench.subject.reason
            return f"{self.model.name} cannot be trained without a structure: {reason}"
        if training.num_classes != self.model.num_classes:
            return f"{self.model.name} has {self.model.num_classes} classes, {training.name} {training.num_classes}."
        if config.mode == "auto" and not config.depths:
            arms = 1 + len(self.structures) + (len(self.structures) > 1)
            epochs = config.recipe.epochs or 10
            work = cost(self.model, len(training.training), epochs, config, arms)
            if work > AFFORDABLE:
                return (
                    f"Not retrained: {arms} arms with {config.seeds} seeds on {len(training.training):,} images "
                    f"would take about {work:.1g} multiply-accumulates. Ask for it with --mode both, with fewer "
                    "--train-samples, --seeds or --epochs."
                )
        return ""


def _bench(
    model: LoadedModel, images: ImageSet, config: AblationConfig, training: Parts | None, progress: Progress
) -> EvaluationSet:
    batches: list[EvaluationBatch] = []
    indices: list[int] = []
    with progress.task("Reading images", len(images)) as advance:
        for batch in images.batches(model.input, config.batch_size):
            pixels = batch.images.to(model.device, memory_format=model.memory_format)
            labels = batch.labels
            if labels is None:
                with torch.inference_mode():
                    labels = model.module(pixels).argmax(1)
            batches.append(EvaluationBatch(pixels, labels.to(model.device)))
            indices += batch.indices
            advance(len(batch.indices))
    return EvaluationSet(
        model=model,
        subject=subject_of(model),
        batches=tuple(batches),
        calibration=_calibration(model, batches, config, training),
        progress=progress,
        indices=tuple(indices),
    )


def _calibration(
    model: LoadedModel, batches: list[EvaluationBatch], config: AblationConfig, training: Parts | None
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


def _intact(run: _AblationRun) -> Result:
    bench = run.bench
    answers = answer_plain(bench.model, bench.model.network, bench.batches)
    if answers.broken == bench.n:
        raise CannotRunError(
            f"{bench.model.name} answers with values that are not finite for all images of {run.images.name}: check "
            "its weights and --mean and --std."
        )
    right = compare(answers, answers, bench.labels).right
    return Result.proportion(f"intact_{run.right}", right, bench.n, higher_is_better=True, per_image="right")


def _report(
    run: _AblationRun, sections: list[Section], intact: Result, command: str, seconds: float
) -> Report:
    model, images, config = run.model, run.images, run.config
    info = images.info(run.bench.n)
    headline = _headline(run, sections, intact)
    chosen, sections = _main(sections)
    return assemble(
        study="ablation",
        title=f"What the parts of {model.name} are worth",
        model=model.info(),
        data=info,
        config=config,
        choices=_choices(run),
        device=str(model.device),
        seed=config.seed,
        command=command,
        seconds=seconds,
        headline=headline,
        sections=tuple(sections),
        results=(intact, *chosen),
        warnings=model.provenance.notes,
        key=("retrain", *(section.id for section in sections)),
    )


def _choices(run: _AblationRun) -> dict[str, Any]:
    subject = run.bench.subject
    return {
        "graph": subject.reason or ("exported" if subject.graph.meta.get("exported") else "traced"),
        "reference": "labels" if run.images.labelled else "own answers",
        "calibration images": sum(map(len, run.bench.calibration)),
        "bound on kept activations, bytes": KEPT,
    }


def _main(sections: list[Section]) -> tuple[tuple[Result, ...], list[Section]]:
    """Take the numbers that stand at the top of the report out of the sections: what each structure is worth."""
    found = [result for section in sections for result in section.results]
    worth = [result for result in found if result.name.startswith("retrain_worth:")]
    alone = [
        result
        for result in found
        if result.name.startswith(("lesion_accuracy:", "lesion_agreement:")) and result.name.endswith(":all")
    ]
    # The deepest network of a sweep comes last and is what the sweep is about.
    chosen = tuple((*reversed(worth), *alone)[:3])
    rest = [
        dataclasses.replace(section, results=tuple(one for one in section.results if one not in chosen))
        for section in sections
    ]
    return chosen, rest


def _headline(run: _AblationRun, sections: list[Section], intact: Result) -> tuple[str, ...]:
    model, images, n = run.model, run.images, run.bench.n
    lines = [finding for section in sections for finding in section.findings]
    if images.labelled and isinstance(intact.value, float):
        lines.append(
            f"Intact, {model.name} names {percent(intact.value, intact.ci)} of {n} images of {images.name} right."
        )
    else:
        lines.append(
            f"The {n} images of {images.name} have no labels: the reference is the intact network's own answer, "
            "and nothing is said about accuracy."
        )
    if images.labelled and intact.ci is not None and intact.ci[0] <= 1 / model.num_classes:
        lines.insert(
            0,
            f"Intact, {model.name} is no better than guessing on these images: lesions cannot take away what is not "
            "there, and only flips and changes of the loss say what a part does.",
        )
    lines += [f"{section.title}: {section.reason}" for section in sections if section.reason]
    return tuple(lines)


def _described(structure: Structure) -> str:
    """Write ``shortcut to remove`` or ``place for the swap kernel?to=large``."""
    if isinstance(structure, Swap):
        return f"place for the swap {structure.text.removeprefix(SWAP)}"
    return f"{structure.name} to remove"
