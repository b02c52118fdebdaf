"""Cut at test time: the same weights without a structure, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core.errors import NotApplicableError, UsageError
from probe.core.progress import Progress
from probe.core.stats import holm
from probe.graph.cost.summary import Anatomy, anatomy
from probe.graph.edit.cut import CutSubject, cut, find_sites
from probe.graph.edit.site import Site
from probe.graph.edit.structure import Structure
from probe.models.loaded import LoadedModel
from studies.ablation.config import AblationConfig
from studies.ablation.evaluate import (
    Answers,
    Comparison,
    EvaluationBatch,
    Evaluator,
    answer_plain,
    compare,
    has_batch_norm,
    recalibrated,
    true_classes,
)
from studies.ablation.plan import SIZES, LesionPlan, make_plan

_TOGETHER = 2e12
"""Multiply-accumulates that lesions of several sites may cost."""

_SHARED = 0.6
"""The part of a network that a lesion computes anew, on average."""

_RECALIBRATED = 1e12
"""Multiply-accumulates that re-estimated statistics of single sites may cost: beyond, the most harmful ones have it."""


@dataclass(frozen=True)
class Lesioned:
    """What came of cutting one structure.

    ``alone[i]`` belongs to site ``plan.single[i]``, ``corrected`` holds the Holm-corrected p-values of these;
    ``answers`` are those of the intact network (the empty set) and, where it can be cut, without any site;
    ``sets`` has every lesion of the plan by its sites; ``recalibrated`` those (by set) whose batch-norm statistics
    were estimated again, and under the empty set the intact network with them. ``costs[i]`` is the network without
    site ``plan.single[i]``, ``without`` that without any, ``whole`` the intact one.
    """

    structure: Structure
    sites: tuple[Site, ...]
    refused: dict[int, str]
    plan: LesionPlan
    intact: Comparison
    answers: dict[frozenset[int], Answers]
    sets: dict[frozenset[int], Comparison]
    corrected: dict[int, float]
    recalibrated: dict[frozenset[int], Comparison] = field(default_factory=dict)
    whole: Anatomy | None = None
    without: Anatomy | None = None
    costs: dict[int, Anatomy] = field(default_factory=dict)

    def alone(self, site: int) -> Comparison | None:
        """Return the lesion of one site, None where the network cannot do without it."""
        return self.sets.get(frozenset({site}))

    @property
    def together(self) -> Comparison | None:
        """The lesion of all sites at once."""
        return self.sets.get(self.plan.everything)


@dataclass(frozen=True)
class EvaluationSet:
    """What lesions are measured on; ``calibration`` are normalised images, in batches.

    ``indices`` (n,) are the places of the images in their set.
    """

    model: LoadedModel
    subject: CutSubject
    batches: tuple[EvaluationBatch, ...]
    calibration: tuple[Tensor, ...]
    progress: Progress
    indices: tuple[int, ...] = ()

    @property
    def labels(self) -> NDArray[np.int64]:
        """The classes that count as right."""
        return true_classes(self.batches)

    @property
    def n(self) -> int:
        """The number of images."""
        return sum(len(batch.labels) for batch in self.batches)


def lesion(bench: EvaluationSet, structure: Structure, config: AblationConfig) -> Lesioned:
    """Cut a structure in every way of the plan and compare with the intact network.

    Raises NotApplicableError when there is no site.
    """
    sites = chosen_sites(find_sites(bench.subject, structure), structure, config.sites, bench.model.name)
    plan = make_plan(len(sites), config.max_sites, config.draws, config.seed, _sizes(bench, config.draws))
    # Where a cut changes nothing at test time, one look at all sites together shows it.
    wanted = [plan.everything] if structure.no_effect_reason else plan.sets()
    cuts, refused = {}, {}
    with bench.progress.task(f"Cutting {structure.name}", len(wanted)) as advance:
        for one in wanted:
            try:
                cuts[one] = cut(bench.subject, [sites[site] for site in sorted(one)])
            except NotApplicableError as error:
                if len(one) == 1:
                    refused[min(one)] = str(error)
            advance(1)
    evaluator = Evaluator(bench.model, bench.subject, list(cuts.values()))
    with bench.progress.task(f"Lesions of {structure.name}", bench.n) as advance:
        intact, *answers = evaluator.answer(bench.batches, advance)
    labels = bench.labels
    sets = {one: compare(intact, answer, labels) for one, answer in zip(cuts, answers, strict=True)}
    alone = [site for site in plan.single if frozenset({site}) in sets]
    corrected = dict(zip(alone, holm([sets[frozenset({site})].p for site in alone]), strict=True))
    example = bench.subject.example
    made = Lesioned(
        structure,
        sites,
        refused,
        plan,
        compare(intact, intact, labels),
        _answers(intact, dict(zip(cuts, answers, strict=True)), plan.everything),
        sets,
        corrected,
        whole=anatomy(bench.subject.network, example),
        without=anatomy(cuts[plan.everything], example) if plan.everything in cuts else None,
        costs={site: anatomy(cuts[frozenset({site})], example, field=False) for site in alone},
    )
    return replace(made, recalibrated=_recalibrate(bench, made, cuts, intact))


def _answers(
    intact: Answers, cut: dict[frozenset[int], Answers], everything: frozenset[int]
) -> dict[frozenset[int], Answers]:
    """Return the answers that are kept image by image: all of them would be too many."""
    kept = {everything: cut[everything]} if everything in cut else {}
    return {frozenset[int](): intact, **kept}


def chosen_sites(
    sites: Sequence[Site], structure: Structure, wanted: Sequence[str] | None, model: str
) -> tuple[Site, ...]:
    """Return the sites that are named, or all; raises NotApplicableError for none and UsageError for unknown ones."""
    if not sites:
        raise NotApplicableError(f"{model} has no {structure.name} to remove.")
    if wanted is None:
        return tuple(sites)
    known = {site.name: site for site in sites}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise UsageError(
            f"There is no {structure.name} '{missing[0]}' in {model}. Known: {', '.join(list(known)[:8])}"
            f"{' …' if len(known) > 8 else ''}; see probe structures."
        )
    return tuple(site for site in sites if site.name in set(wanted))


def _sizes(bench: EvaluationSet, draws: int) -> int:
    """Return for how many numbers of sites several are cut together: fewer for large networks."""
    each = max(1.0, _SHARED * bench.n * (bench.model.macs or 1))
    return max(3, min(SIZES, int(_TOGETHER / each) // (draws + 2)))


def _recalibrate(
    bench: EvaluationSet, made: Lesioned, cuts: dict[frozenset[int], torch.nn.Module], intact: Answers
) -> dict[frozenset[int], Comparison]:
    """Return the lesions after batch-norm statistics were estimated again; the most harmful first, within bounds."""
    if not bench.calibration or made.structure.no_effect_reason or not has_batch_norm(bench.subject.network):
        return {}
    single = [frozenset({site}) for site in made.plan.single if frozenset({site}) in cuts]
    single.sort(key=lambda one: made.sets[one].right)
    images = bench.n + sum(map(len, bench.calibration))
    each = images * (bench.model.macs or 1)
    wanted = [frozenset[int](), made.plan.everything, *single[: max(4, int(_RECALIBRATED // each))]]
    wanted = list(dict.fromkeys(one for one in wanted if not one or one in cuts))
    found, labels = {}, bench.labels
    with bench.progress.task("Estimating batch-norm statistics again", len(wanted)) as advance:
        for one in wanted:
            network = recalibrated(cuts[one] if one else bench.subject.network, bench.calibration)
            found[one] = compare(intact, answer_plain(bench.model, network, bench.batches), labels)
            advance(1)
    return found
