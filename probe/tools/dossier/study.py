"""The dossier: the three studies of one network, and how their results relate."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass

from probe.core.blocks import Block, Column, Note, Table
from probe.core.document import Report, Result, Section, percent
from probe.core.errors import NotApplicableError
from probe.core.journal import NOTHING, Journal, Within
from probe.core.progress import SILENT, Progress
from probe.core.seeds import scoped
from probe.core.state import kept_buffers, training_mode
from probe.data.images import ImageSet
from probe.graph.edit.cut import CutSubject, find_sites
from probe.graph.edit.spelled import spelled
from probe.graph.edit.structure import get_structure
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.report.render import PAGE
from probe.tools.dossier.choose import DossierChoice, DossierConfig, choose_layers, present_structures
from probe.tools.dossier.correlations import RankCorrelation, correlations, correlations_section
from probe.tools.dossier.count_checks import checks, count_checks, in_words
from probe.tools.dossier.measure import (
    AttackedImages,
    Channels,
    Lesion,
    attacked_images,
    lesions,
    measure_channels,
)
from probe.tools.dossier.sections import channels_section, most_changed, sites_section
from studies.ablation import AblationConfig
from studies.ablation import run as ablate
from studies.ablation.evaluate import subject_of
from studies.ablation.plan import evenly_spaced
from studies.adversarial import AdversarialConfig
from studies.adversarial.study import examine
from studies.adversarial.workspace import AdversarialWorkspace
from studies.filters import FiltersConfig
from studies.filters import run as look

DEFAULTS = DossierConfig()
STUDIES = ("filters", "adversarial", "ablation")
"""The folders of the full reports, next to the dossier's own report."""
_QUICK_STEPS = 10
"""Steps of each attack with ``quick``; more steps may break more images."""
_SITES = 24
"""Maximum number of sites of a structure that are removed individually, evenly spaced."""


@dataclass(frozen=True)
class Dossier:
    """The report that links the three studies, and the full report of each study by its folder."""

    report: Report
    parts: Mapping[str, Report]


@dataclass(frozen=True)
class _Measurements:
    """The dossier's own measurements: single channels and sites, on clean and attacked images."""

    attacked: AttackedImages
    layers: tuple[Channels, ...]
    refused: tuple[Section, ...]
    sites: dict[str, tuple[Lesion, ...]]


def run(
    model: LoadedModel,
    images: ImageSet,
    config: DossierConfig = DEFAULTS,
    *,
    progress: Progress = SILENT,
    command: str = "",
    journal: Journal = NOTHING,
) -> Dossier:
    """Attack a network, ablate its parts, examine its filters, and relate the results channel by channel.

    Nothing is trained: parts are removed without retraining. ``journal`` keeps finished parts of the attack and of the
    filters, so that an interrupted run can go on. Raises the studies' errors.
    """
    started = time.perf_counter()
    model = dataclasses.replace(model, module=spelled(model.module, model.example()))
    chosen = choose_layers(model, config.layers, config.channels)
    attacked, space = examine(
        model,
        images,
        _adversarial(config),
        progress=progress,
        command=command,
        journal=Within(journal, "adversarial"),
    )
    with training_mode(model.module, False), kept_buffers(model.module), scoped(config.seed, "dossier"):
        subject = subject_of(model)
        words = present_structures(subject)
        measured = _measure(model, subject, words, chosen, space, config)
    ablation = ablate(model, images, _ablation(config, words), progress=progress, command=command)
    filters = look(
        model,
        images,
        _filters(config, measured),
        progress=progress,
        command=command,
        journal=Within(journal, "filters"),
    )
    parts = {"filters": filters, "adversarial": attacked, "ablation": ablation}
    report = _report(model, images, config, measured, parts, command)
    return Dossier(dataclasses.replace(report, seconds=round(time.perf_counter() - started, 2)), parts)


def _adversarial(config: DossierConfig) -> AdversarialConfig:
    return AdversarialConfig(
        epsilons=(config.epsilon,),
        norm=config.norm,
        views=("attacks", "curve", "channels")
        if config.quick
        else ("attacks", "curve", "pictures", "channels"),
        steps=_QUICK_STEPS if config.quick else None,
        checks=() if config.quick else None,
        batch_size=config.batch_size,
        seed=config.seed,
        jobs=config.jobs,
        cluster=config.cluster,
    )


def _ablation(config: DossierConfig, words: tuple[str, ...]) -> AblationConfig:
    return AblationConfig(
        remove=words or ("layer",),
        mode="lesion",
        max_sites=_SITES,
        draws=2 if config.quick else 3,
        batch_size=config.batch_size,
        seed=config.seed,
        jobs=config.jobs,
        cluster=config.cluster,
    )


def _filters(config: DossierConfig, measured: _Measurements) -> FiltersConfig:
    """Return the config for the channels changed most; of several layers, only the first, as all share the indices."""
    layers = tuple(layer.chosen.answers for layer in measured.layers)
    first = most_changed(measured.layers[0], _pictured(config)) if measured.layers else None
    return FiltersConfig(
        views=("weights", "patches", "features", *(() if config.quick else ("stimuli",))),
        layers=layers[:1] or None,
        channels=None if first is None else tuple(sorted(first)),
        steps=config.steps,
        batch_size=config.batch_size,
        seed=config.seed,
        jobs=config.jobs,
        cluster=config.cluster,
    )


def _pictured(config: DossierConfig) -> int:
    return min(3, config.pictured) if config.quick else config.pictured


def _measure(
    model: LoadedModel,
    subject: CutSubject,
    words: tuple[str, ...],
    chosen: tuple[DossierChoice, ...],
    space: AdversarialWorkspace,
    config: DossierConfig,
) -> _Measurements:
    attacked = attacked_images(space)
    layers: list[Channels] = []
    refused: list[Section] = []
    for choice in chosen:
        try:
            layers.append(measure_channels(model, subject, choice, space, attacked))
        except NotApplicableError as error:
            refused.append(
                Section(f"channels-{choice.name}", f"Channels of {choice.name}", reason=str(error))
            )
    sites = {}
    for word in words:
        every = find_sites(subject, get_structure(word))
        picked = [every[place] for place in evenly_spaced(len(every), _SITES)]
        sites[word] = lesions(model, subject, picked, attacked, config.batch_size, space.progress, word)
    return _Measurements(attacked, tuple(layers), tuple(refused), sites)


def _report(
    model: LoadedModel,
    images: ImageSet,
    config: DossierConfig,
    measured: _Measurements,
    parts: Mapping[str, Report],
    command: str,
) -> Report:
    computed = correlations(measured.layers, config.seed)
    sections = (
        _overview(parts),
        *(
            channels_section(layer, measured.attacked, parts["filters"], _pictured(config), f"filters/{PAGE}")
            for layer in measured.layers
        ),
        *measured.refused,
        sites_section(measured.sites, measured.attacked, images.labelled),
        correlations_section(computed, measured.layers),
    )
    info = parts["adversarial"].data
    return assemble(
        study="dossier",
        title=f"{model.name}: filters, adversarial robustness and ablation",
        model=model.info(),
        data=info,
        config=config,
        choices=_choices(measured),
        device=str(model.device),
        seed=config.seed,
        command=command,
        seconds=0.0,
        headline=_headline(parts, sections),
        sections=sections,
        results=_results(parts),
        checks=checks({name: parts[name] for name in STUDIES}),
        warnings=tuple(dict.fromkeys(line for part in parts.values() for line in part.warnings)),
        artifacts=tuple(f"{name}/{file}" for name in parts for file in (PAGE, "results.json")),
        methods=_methods(measured, computed),
        references=_REFERENCES,
        key=("sites", *(section.id for section in sections)),
    )


def _choices(measured: _Measurements) -> dict[str, object]:
    return {
        "epsilon of the lesions": measured.attacked.epsilon,
        "measured channels": {layer.chosen.name: list(layer.channels) for layer in measured.layers},
        "structures": list(measured.sites),
        "trained": False,
    }


def _overview(parts: Mapping[str, Report]) -> Section:
    """Return the three headlines with the counts of their checks and the links to the full reports."""
    rows, blocks = [], []
    for name in STUDIES:
        part = parts[name]
        main = next((result for result in part.all_results if isinstance(result.value, int | float)), None)
        rows.append((name, *_main(main), count_checks(name, part).text, part.seconds))
        headline = " ".join(part.headline[:2])
        blocks.append(
            Note(f"{name.capitalize()}: {headline}", links=((f"The full {name} report", f"{name}/{PAGE}"),))
        )
    table = Table(
        "The three studies",
        (
            Column("Study"),
            Column("Main number"),
            Column("Value"),
            Column("Checks", help="How many of the study's own checks were made, and what they found."),
            Column("Time", unit="s"),
        ),
        tuple(rows),
    )
    all_blocks: tuple[Block, ...] = (*blocks, table)
    summary = (
        "Each study has its own report next to this one. Nothing was trained: parts were removed without retraining; use "
        "probe ablate to retrain without them."
    )
    return Section("studies", "The three studies", summary, all_blocks)


def _main(result: Result | None) -> tuple[str, str]:
    if result is None or not isinstance(result.value, int | float):
        return "–", "–"
    value = (
        percent(float(result.value), result.ci)
        if result.unit == "proportion"
        else f"{result.value:.4g} {result.unit}"
    )
    return result.name.replace("_", " "), value


def _headline(parts: Mapping[str, Report], sections: tuple[Section, ...]) -> tuple[str, ...]:
    lines = [parts[name].headline[0] for name in ("adversarial", "ablation") if parts[name].headline]
    lines += [finding for section in sections for finding in section.findings]
    refused = [f"{section.title}: {section.reason}" for section in sections if section.reason]
    said = in_words({name: parts[name] for name in STUDIES})
    return (*lines, *refused, said, "Nothing was trained for this dossier.")


def _results(parts: Mapping[str, Report]) -> tuple[Result, ...]:
    """Return the first numbers of each study, with the study's name as prefix."""
    return tuple(
        dataclasses.replace(result, name=f"{name}:{result.name}")
        for name in ("adversarial", "ablation", "filters")
        for result in parts[name].results[:2]
        if isinstance(result.value, int | float)
    )


_REFERENCES = (
    "A. S. Morcos, D. G. T. Barrett, N. C. Rabinowitz and M. Botvinick. On the importance of single directions for "
    "generalization. ICLR 2018.",
    "C. Spearman. The proof and measurement of association between two things. American Journal of Psychology 15, "
    "1904.",
    "S. Holm. A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 1979.",
)


def _methods(measured: _Measurements, computed: tuple[RankCorrelation, ...]) -> tuple[str, ...]:
    layers = ", ".join(f"{len(layer.channels)} channels of {layer.chosen.name}" for layer in measured.layers)
    lines = [
        "One network was attacked, ablated and examined with the same images; nothing was trained.",
        f"Attacked images were made for the intact network at epsilon {measured.attacked.epsilon:.4g}, the ε of the robustness "
        "curve at which the part of the correct images that are still correct is closest to half.",
    ]
    if layers:
        lines.append(
            f"{layers} were silenced one at a time (Morcos et al. 2018); unless specified by the user, the convolution was "
            "the last one with spatial kernels and 16 to 32 channels, if there was one."
        )
    if computed:
        lines.append(
            f"{len(computed)} rank correlations (Spearman 1904) were computed with bootstrap intervals over channels and "
            "p-values from permutation tests, corrected by Holm's method (Holm 1979)."
        )
    return tuple(lines)
