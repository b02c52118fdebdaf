"""The ablation study: which parts of the network do the work?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probe.core.document import Report, Result, Section, percent
from probe.core.errors import CannotRunError, NotApplicableError, UsageError, check_answers
from probe.core.journal import NOTHING, Journal
from probe.core.place import HERE, Place
from probe.core.progress import SILENT, Progress
from probe.core.seeds import scoped
from probe.core.state import kept_buffers, training_mode
from probe.data.images import ImageSet
from probe.graph.edit.cut import find_sites
from probe.graph.edit.structure import SWAP, Structure, get_structure
from probe.graph.edit.swap import Swap
from probe.models.chain import data_info
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.train.data import Parts
from studies.ablation.config import AblationConfig
from studies.ablation.dropout.report import dropout_sections, loaded_dropout_sections
from studies.ablation.evaluate import KEPT, EvaluationBatch, answer_plain, compare, subject_of
from studies.ablation.lesion import EvaluationSet, LesionResult, chosen_sites, lesion
from studies.ablation.lesion_report import lesion_section
from studies.ablation.retrain import (
    AFFORDABLE,
    RetrainResult,
    at_depths,
    cost,
    make_setting,
    retrain,
    variants_of,
)
from studies.ablation.retrain_report import learning_curves, retrain_section
from studies.ablation.side_reports import also_sections, gradients_section, ledger_section
from studies.ablation.text import held_out_samples, lesion_samples, methods, references
from studies.base import failure
from studies.checks import guessing, study_checks

DEFAULTS = AblationConfig()
RETRAIN_TITLE = "Retrain: built without the structure, trained again"


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
    """Remove structures from a network and measure the effect.

    Parameters: a loaded model, images, the options, and labelled images to train on; without these nothing is
    retrained, and ``untrainable`` says why there are none. ``journal`` keeps finished trainings, so that an
    interrupted run can go on. A structure that the network does not have becomes a section that says so. Raises
    UsageError for unknown structures, options and sites; CannotRunError when no image can be read, the network's
    outputs are not finite, or ``retrain`` is requested and impossible.
    """
    started = time.perf_counter()
    structures = [get_structure(text) for text in config.texts]
    if images.labelled and images.num_classes is not None:
        model.check_classes(images.class_names or images.num_classes, images.name)
    with (
        Place.opened(config.jobs, config.cluster, progress.say) as place,
        training_mode(model.module, False),
        kept_buffers(model.module),
        scoped(config.seed, "ablation"),
    ):
        bench = _bench(model, images, config, training, progress, place)
        run = _AblationRun(model, images, config, training, bench, structures, journal, progress)
        # Errors that would end the run are looked for before minutes are spent on trainings.
        intact = _intact(run)
        run.check_sites()
        retrained, refusal = run.retrain(untrainable)
        lesions, sections = run.lesions()
    if retrained is not None:
        arm_sections = [
            retrain_section(retrained),
            *run.guarded("also", lambda: also_sections(retrained)),
            *run.guarded("dropout", lambda: dropout_sections(retrained)),
            *run.guarded("gradients", lambda: [gradients_section(retrained)]),
        ]
        sections = [*arm_sections, *sections]
    if lesions or retrained is not None:
        sections.append(ledger_section(tuple(lesions), retrained))
    if refusal is not None:
        sections.append(refusal)
    report = _report(run, sections, intact, command, time.perf_counter() - started)
    extra = {} if retrained is None else {"learning_curves": learning_curves(retrained)}
    cut = tuple(result.structure.name for result in lesions if not result.structure.no_effect_reason)
    calibrated = sum(map(len, bench.calibration)), training is not None
    return dataclasses.replace(
        report,
        samples=run.samples(lesions, retrained),
        extra=extra,
        methods=methods(report.model, report.data, config, cut, calibrated, retrained),
        references=references(cut, retrained),
    )


@dataclass(frozen=True)
class _AblationRun:
    """The inputs of one run of the study."""

    model: LoadedModel
    images: ImageSet
    config: AblationConfig
    training: Parts | None
    bench: EvaluationSet
    structures: list[Structure]
    journal: Journal
    progress: Progress

    @property
    def measure(self) -> str:
        """What is measured: accuracy against the labels, or agreement with the network's own predictions."""
        return "accuracy" if self.images.labelled else "agreement"

    def guarded(self, name: str, make: Callable[[], Sequence[Section]]) -> Sequence[Section]:
        """Return the sections; where making them fails, one section with the reason, so that the rest is not lost."""
        try:
            return make()
        except Exception as error:
            return [Section(name, name.capitalize(), reason=failure(error, self.progress), failed=True)]

    def lesions(self) -> tuple[list[LesionResult], list[Section]]:
        """Cut each structure at test time; what cannot be cut becomes a section with the reason."""
        lesions: list[LesionResult] = []
        sections: list[Section] = []
        if self.config.mode == "retrain":
            return lesions, sections
        for structure in self.structures:
            if isinstance(structure, Swap):
                continue
            started = time.perf_counter()
            try:
                lesions.append(lesion(self.bench, structure, self.config))
                section = lesion_section(lesions[-1], self.measure, sum(map(len, self.bench.calibration)))
            except NotApplicableError as error:
                section = Section(f"lesion-{structure.name}", f"Lesion: {structure.name}", reason=str(error))
            except UsageError:
                raise
            except Exception as error:
                reason, title = failure(error, self.progress), f"Lesion: {structure.name}"
                section = Section(f"lesion-{structure.name}", title, reason=reason, failed=True)
            sections.append(dataclasses.replace(section, seconds=round(time.perf_counter() - started, 2)))
            if structure.name == "dropout" and not section.reason:
                sections += loaded_dropout_sections(self.bench, self.images.labelled, self.config.seed)
        return lesions, sections

    def retrain(self, untrainable: str) -> tuple[RetrainResult | None, Section | None]:
        """Train all arms, or return a section with the reason why not.

        Raises CannotRunError where retraining was requested and is not possible; a training that fails is reported, so
        that the lesions are not lost.
        """
        config = self.config
        if config.mode == "lesion":
            return None, None
        reason = self._refusal(untrainable)
        if reason and (config.mode in ("retrain", "both") or config.depths):
            raise CannotRunError(reason)
        if reason or self.training is None:
            return None, Section("retrain", RETRAIN_TITLE, reason=reason) if reason else None
        present = [structure.text for structure in self.structures if self._is_there(structure)]
        setting = make_setting(
            self.model, self.training, config, at_depths(self.model, config.depths), self.progress
        )
        depths: list[int | None] = list(dict.fromkeys(config.depths)) or [None]
        variants = variants_of(present)
        try:
            there = dataclasses.replace(config, cluster=self.bench.place.cluster)
            result = retrain(
                setting, variants, depths, self.training.split, there, self.journal, self.progress
            )
        except UsageError:
            raise
        except Exception as error:
            if config.mode == "retrain":
                raise
            reason = failure(error, self.progress)
            return None, Section("retrain", RETRAIN_TITLE, reason=reason, failed=True)
        return result, None

    def samples(
        self, lesions: list[LesionResult], retrained: RetrainResult | None
    ) -> tuple[dict[str, Any], ...]:
        """Return the records of all images: those that lesions are measured on, then the held-out ones."""
        held_out = None if self.training is None else self.training.held_out
        return (*lesion_samples(self.bench, self.images, lesions), *held_out_samples(retrained, held_out))

    def check_sites(self) -> None:
        """Raise UsageError for a requested site that a structure does not have; see ``lesion.chosen_sites``."""
        if self.config.sites is not None:
            for structure in self.structures:
                if self._is_there(structure):
                    sites = find_sites(self.bench.subject, structure)
                    chosen_sites(sites, structure, self.config.sites, self.model.name)

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
        if not any(self._is_there(structure) for structure in self.structures):
            words = " or ".join(_describe(structure) for structure in self.structures)
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
                    f"would take about {work:.1g} multiply-accumulates. Request it with --mode both, or use fewer "
                    "--train-samples, --seeds or --epochs."
                )
        return ""


def _bench(
    model: LoadedModel,
    images: ImageSet,
    config: AblationConfig,
    training: Parts | None,
    progress: Progress,
    place: Place,
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
                check_answers(len(labels), len(pixels))
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
        # Lesions of one process use all cores; trainings alone take as many processes as there are.
        place=place if place.cluster is not None or config.jobs > 1 else HERE,
    )


def _calibration(
    model: LoadedModel, batches: list[EvaluationBatch], config: AblationConfig, training: Parts | None
) -> tuple[Tensor, ...]:
    """Return normalised images to estimate statistics on: from the training part, else the evaluated images."""
    if training is not None:
        chosen = training.training.sample(config.calibration_samples, config.seed)
        pixels = [batch.images for batch in chosen.batches(model.input, config.batch_size)]
    else:
        pixels = [torch.cat([batch.images for batch in batches])[: config.calibration_samples]]
    calibration_images = torch.cat(pixels).to(model.device, memory_format=model.memory_format)
    with torch.no_grad():
        return tuple(
            model.module.normalise(part) for part in torch.split(calibration_images, config.batch_size)
        )


def _intact(run: _AblationRun) -> Result:
    bench = run.bench
    answers = answer_plain(bench.model, bench.model.network, bench.batches)
    if answers.broken == bench.n:
        raise CannotRunError(
            f"{bench.model.name} returns values that are not finite for all images of {run.images.name}: check "
            "its weights and --mean and --std."
        )
    n_correct = compare(answers, answers, bench.labels).n_correct
    return Result.proportion(
        f"intact_{run.measure}", n_correct, bench.n, higher_is_better=True, per_image="right"
    )


def _report(
    run: _AblationRun, sections: list[Section], intact: Result, command: str, seconds: float
) -> Report:
    model, images, config = run.model, run.images, run.config
    info = data_info(model, images, run.bench.n)
    headline = _headline(run, sections, intact)
    chosen, sections = _main(sections)
    correct = round(intact.value * run.bench.n) if isinstance(intact.value, float) else 0
    cautions = guessing(model, correct, run.bench.n) if images.labelled else ()
    return assemble(
        study="ablation",
        title=f"Contribution of each part of {model.name}",
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
        checks=study_checks(model, images, info, config.seed),
        warnings=(*model.provenance.notes, *images.cautions, *cautions),
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
    """Move the main results, the effect of removing each structure, from the sections to the top of the report."""
    results = [result for section in sections for result in section.results]
    effects = [result for result in results if result.name.startswith("retrain_worth:")]
    alone = [
        result
        for result in results
        if result.name.startswith(("lesion_accuracy:", "lesion_agreement:")) and result.name.endswith(":all")
    ]
    # The deepest network of a sweep comes last and is what the sweep is about.
    chosen = tuple((*reversed(effects), *alone)[:3])
    lesion_only = [
        dataclasses.replace(
            section, results=tuple(result for result in section.results if result not in chosen)
        )
        for section in sections
    ]
    return chosen, lesion_only


def _headline(run: _AblationRun, sections: list[Section], intact: Result) -> tuple[str, ...]:
    model, images, n = run.model, run.images, run.bench.n
    lines = [finding for section in sections for finding in section.findings]
    if images.labelled and isinstance(intact.value, float):
        lines.append(
            f"Intact, {model.name} classifies {percent(intact.value, intact.ci)} of {n} images of {images.name} "
            "correctly."
        )
    else:
        lines.append(
            f"The {n} images of {images.name} have no labels: the reference is the intact network's own "
            "prediction, so this says nothing about accuracy."
        )
    if images.labelled and intact.ci is not None and intact.ci[0] <= 1 / model.num_classes:
        lines.insert(
            0,
            f"Intact, {model.name} is not measurably better than guessing on these images: lesions cannot lower its accuracy, "
            "and only changed predictions and changes of the loss show what a part does.",
        )
    lines += [f"{part.title}: {part.reason}" for part in sections if part.reason and not part.failed]
    return tuple(lines)


def _describe(structure: Structure) -> str:
    """Write ``shortcut to remove`` or ``place for the swap kernel?to=large``."""
    if isinstance(structure, Swap):
        return f"place for the swap {structure.text.removeprefix(SWAP)}"
    return f"{structure.name} to remove"
