"""The dossier: the three studies of one network, and what they say of each other."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass

from probe.core.document import Block, Check, Column, Note, Report, Result, Section, Table, percent
from probe.core.errors import NotApplicableError
from probe.core.progress import SILENT, Progress
from probe.core.seeds import scoped
from probe.core.state import kept_buffers, training_mode
from probe.core.verdict import verdict
from probe.data.images import ImageSet
from probe.graph.edit.cut import CutSubject, find_sites
from probe.graph.edit.structure import structure_named
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.report.render import PAGE
from probe.tools.dossier.choose import DossierChoice, DossierConfig, choose_layers, present_structures
from probe.tools.dossier.correlations import RankCorrelation, correlations, correlations_section
from probe.tools.dossier.measure import Attacked, Channels, Loss, attacked_images, lesions, measure_channels
from probe.tools.dossier.sections import channels_section, most_moved, sites_section
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
"""The folders of the full reports beside the dossier's own."""
_QUICK_STEPS = 10
"""Steps of each attack with ``quick``: what it does not break may well be broken by more."""
_SITES = 24
"""Sites of a structure that are cut alone, spread evenly."""


@dataclass(frozen=True)
class Dossier:
    """The report that links the three, and the full report of each study by its folder."""

    report: Report
    parts: Mapping[str, Report]


@dataclass(frozen=True)
class _Seen:
    """What the dossier measured itself: single channels and sites, on clean and attacked images."""

    attacked: Attacked
    layers: tuple[Channels, ...]
    refused: tuple[Section, ...]
    sites: dict[str, tuple[Loss, ...]]


def run(
    model: LoadedModel,
    images: ImageSet,
    config: DossierConfig = DEFAULTS,
    *,
    progress: Progress = SILENT,
    command: str = "",
) -> Dossier:
    """Attack a network, cut its parts, look at its filters, and relate what was found channel by channel.

    Nothing is trained: parts are only cut out of the network as it is. Raises the studies' errors.
    """
    started = time.perf_counter()
    chosen = choose_layers(model, config.layers, config.channels)
    attacked, space = examine(model, images, _adversarial(config), progress=progress, command=command)
    with training_mode(model.module, False), kept_buffers(model.module), scoped(config.seed, "dossier"):
        subject = subject_of(model)
        words = present_structures(subject)
        seen = _measure(model, subject, words, chosen, space, config)
    ablation = ablate(model, images, _ablation(config, words), progress=progress, command=command)
    filters = look(model, images, _filters(config, seen), progress=progress, command=command)
    parts = {"filters": filters, "adversarial": attacked, "ablation": ablation}
    report = _report(model, images, config, seen, parts, command)
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
    )


def _ablation(config: DossierConfig, words: tuple[str, ...]) -> AblationConfig:
    return AblationConfig(
        remove=words or ("layer",),
        mode="lesion",
        max_sites=_SITES,
        draws=2 if config.quick else 3,
        batch_size=config.batch_size,
        seed=config.seed,
    )


def _filters(config: DossierConfig, seen: _Seen) -> FiltersConfig:
    """Look at the most moved channels; of several layers at those of the first, numbers being shared by all."""
    layers = tuple(layer.chosen.answers for layer in seen.layers)
    first = most_moved(seen.layers[0], _pictured(config)) if seen.layers else None
    return FiltersConfig(
        views=("weights", "patches", "features"),
        layers=layers[:1] or None,
        channels=None if first is None else tuple(sorted(first)),
        steps=config.steps,
        batch_size=config.batch_size,
        seed=config.seed,
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
) -> _Seen:
    attacked = attacked_images(space)
    layers: list[Channels] = []
    refused: list[Section] = []
    for one in chosen:
        try:
            layers.append(measure_channels(model, subject, one, space, attacked))
        except NotApplicableError as error:
            refused.append(Section(f"channels-{one.name}", f"Channels of {one.name}", reason=str(error)))
    sites = {}
    for word in words:
        every = find_sites(subject, structure_named(word))
        picked = [every[place] for place in evenly_spaced(len(every), _SITES)]
        sites[word] = lesions(model, subject, picked, attacked, config.batch_size, space.progress, word)
    return _Seen(attacked, tuple(layers), tuple(refused), sites)


def _report(
    model: LoadedModel,
    images: ImageSet,
    config: DossierConfig,
    seen: _Seen,
    parts: Mapping[str, Report],
    command: str,
) -> Report:
    found = correlations(seen.layers, config.seed)
    sections = (
        _overview(parts),
        *(
            channels_section(layer, seen.attacked, parts["filters"], _pictured(config), f"filters/{PAGE}")
            for layer in seen.layers
        ),
        *seen.refused,
        sites_section(seen.sites, seen.attacked, images.labelled),
        correlations_section(found, seen.layers),
    )
    info = images.info(parts["adversarial"].data.n)
    return assemble(
        study="dossier",
        title=f"{model.name}: what it learned, how fragile it is, which parts do the work",
        model=model.info(),
        data=info,
        config=config,
        choices=_choices(seen),
        device=str(model.device),
        seed=config.seed,
        command=command,
        seconds=0.0,
        headline=_headline(parts, sections),
        sections=sections,
        results=_results(parts),
        checks=_checks(parts),
        warnings=tuple(dict.fromkeys(line for part in parts.values() for line in part.warnings)),
        artifacts=tuple(f"{name}/{file}" for name in parts for file in (PAGE, "results.json")),
        methods=_methods(seen, found),
        references=_REFERENCES,
        key=("sites", *(section.id for section in sections)),
    )


def _checks(parts: Mapping[str, Report]) -> tuple[Check, ...]:
    """Return the verdict of each study as one check; an attack that nothing tested is a reservation."""
    found = []
    for name in STUDIES:
        every = parts[name].all_checks
        judged = verdict((check.name, check.status) for check in every)
        made = sum(check.status != "not applicable" for check in every)
        detail = f"{judged.word}: {judged.why}. Each check with its numbers is in the {name} report."
        status = judged.status
        if name == "adversarial" and not made:
            status = "warn"
            detail = "Nothing tested whether the attack's result can be believed: run without --quick."
        found.append(Check(f"The {name} study's own checks", status, made, detail))
    return tuple(found)


def _choices(seen: _Seen) -> dict[str, object]:
    return {
        "epsilon of the lesions": seen.attacked.epsilon,
        "measured channels": {layer.chosen.name: list(layer.channels) for layer in seen.layers},
        "structures": list(seen.sites),
        "trained": False,
    }


def _overview(parts: Mapping[str, Report]) -> Section:
    """Return the three headlines with their verdicts and the links to the full reports."""
    rows, blocks = [], []
    for name in STUDIES:
        part = parts[name]
        judged = verdict((check.name, check.status) for check in part.all_checks)
        main = next((result for result in part.all_results if isinstance(result.value, int | float)), None)
        rows.append((name, *_main(main), judged.word, judged.why, part.seconds))
        told = " ".join(part.headline[:2])
        blocks.append(
            Note(f"{name.capitalize()}: {told}", links=((f"The full {name} report", f"{name}/{PAGE}"),))
        )
    table = Table(
        "The three studies",
        (
            Column("Study"),
            Column("Main number"),
            Column("Value"),
            Column("Verdict", help="Of the study's own checks."),
            Column("Why"),
            Column("Time", unit="s"),
        ),
        tuple(rows),
    )
    made: tuple[Block, ...] = (*blocks, table)
    summary = (
        "Each study has a report of its own beside this one. Nothing was trained here: parts were only cut out of the "
        "network as it is; probe ablate trains without them too."
    )
    return Section("studies", "The three studies", summary, made)


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
    return (*lines, *refused, "Nothing was trained for this dossier.")


def _results(parts: Mapping[str, Report]) -> tuple[Result, ...]:
    """Return the first numbers of each study, under its name."""
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


def _methods(seen: _Seen, found: tuple[RankCorrelation, ...]) -> tuple[str, ...]:
    layers = ", ".join(f"{len(layer.channels)} channels of {layer.chosen.name}" for layer in seen.layers)
    lines = [
        "One network was attacked, cut and looked at with the same images; nothing was trained.",
        f"Attacked images were made against the intact network at epsilon {seen.attacked.epsilon:.4g}, the one of the "
        "robustness curve that leaves nearest to half of the right images standing.",
    ]
    if layers:
        lines.append(
            f"{layers} were silenced one at a time (Morcos et al. 2018): of the convolutions, the one asked for, or "
            "the last with spatial kernels and 16 to 32 channels where there is one."
        )
    if found:
        lines.append(
            f"{len(found)} rank correlations (Spearman 1904) have bootstrap intervals over channels and p-values of "
            "permutation tests, corrected by Holm's method (Holm 1979)."
        )
    return tuple(lines)
