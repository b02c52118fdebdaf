"""Lesions: the same weights without a structure, on the same images, at test time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.core.errors import CannotRunError, NotApplicableError, UsageError
from probe.core.place import HERE, Lent, Place
from probe.core.progress import Advance, Progress
from probe.core.stats import holm
from probe.graph.cost.summary import Anatomy, anatomy
from probe.graph.edit.cut import CutSubject, cut, find_sites
from probe.graph.edit.site import Site
from probe.graph.edit.structure import Structure, get_structure
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
    recalibrate,
    subject_of,
    true_classes,
)
from studies.ablation.plan import SIZES, LesionPlan, make_plan

_TOGETHER = 2e12
"""Multiply-accumulates that lesions of several sites may cost."""

_SHARED = 0.6
"""The part of a network that a lesion computes again, on average."""

_RECALIBRATED = 1e12
"""Multiply-accumulates that re-estimated statistics of single sites may cost; beyond it, only the most harmful
ones."""


@dataclass(frozen=True)
class LesionResult:
    """The lesions of one structure.

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
        """Return the lesion of one site, None where it cannot be cut."""
        return self.sets.get(frozenset({site}))

    @property
    def together(self) -> Comparison | None:
        """The lesion of all sites at once."""
        return self.sets.get(self.plan.everything)


@dataclass(frozen=True)
class EvaluationSet:
    """The network and images that lesions are measured on; ``calibration`` are normalised images, in batches.

    ``indices`` (n,) are the places of the images in their set. ``place`` is where the lesions answer.
    """

    model: LoadedModel
    subject: CutSubject
    batches: tuple[EvaluationBatch, ...]
    calibration: tuple[Tensor, ...]
    progress: Progress
    indices: tuple[int, ...] = ()
    place: Place = HERE

    @property
    def lent(self) -> LoadedModel:
        """The model as workers need it: without the factory, which may hold data of the user's."""
        return replace(self.model, factory=_none)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The classes that count as right."""
        return true_classes(self.batches)

    @property
    def n(self) -> int:
        """The number of images."""
        return sum(len(batch.labels) for batch in self.batches)


def _none() -> nn.Module:
    raise CannotRunError("A worker that measures lesions has no factory of networks.")


def lesion(bench: EvaluationSet, structure: Structure, config: AblationConfig) -> LesionResult:
    """Cut a structure in every way of the plan and compare with the intact network.

    Raises NotApplicableError when there is no site.
    """
    sites = chosen_sites(find_sites(bench.subject, structure), structure, config.sites, bench.model.name)
    plan = make_plan(len(sites), config.max_sites, config.draws, config.seed, _sizes(bench, config.draws))
    # Where a cut changes nothing at test time, cutting all sites together shows it.
    subsets = [plan.everything] if structure.no_effect_reason else plan.sets()
    cuts, refused = {}, {}
    with bench.progress.task(f"Cutting {structure.name}", len(subsets)) as advance:
        for subset in subsets:
            try:
                cuts[subset] = cut(bench.subject, [sites[site] for site in sorted(subset)])
            except NotApplicableError as error:
                if len(subset) == 1:
                    refused[min(subset)] = str(error)
            advance(1)

    def cut_here() -> CutNetworks:
        return CutNetworks.of(bench.model, bench.subject, cuts, bench.batches, bench.calibration)

    names = tuple(site.name for site in sites)
    again = partial(
        _cut_again, bench.lent, structure.text, names, tuple(cuts), bench.batches, bench.calibration
    )
    with bench.place.lend(cut_here if bench.place.here else again, bench.model.device) as networks:
        return _measured(bench, structure, sites, plan, cuts, refused, networks)


def _measured(
    bench: EvaluationSet,
    structure: Structure,
    sites: tuple[Site, ...],
    plan: LesionPlan,
    cuts: dict[frozenset[int], nn.Module],
    refused: dict[int, str],
    networks: Lent[CutNetworks],
) -> LesionResult:
    batches = {str(number): number for number in range(len(bench.batches))}
    images = {str(number): float(len(batch.labels)) for number, batch in enumerate(bench.batches)}
    with bench.progress.task(f"Lesions of {structure.name}", bench.n) as advance:
        parts = list(networks.map(_answers_to, batches, advance, work=images))
    intact, *answers = [Answers.join(column) for column in zip(*parts, strict=True)]
    labels = bench.labels
    sets = {subset: compare(intact, answer, labels) for subset, answer in zip(cuts, answers, strict=True)}
    alone = [site for site in plan.single if frozenset({site}) in sets]
    corrected = dict(zip(alone, holm([sets[frozenset({site})].p for site in alone]), strict=True))
    example = bench.subject.example
    result = LesionResult(
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
    return replace(result, recalibrated=_recalibrate(bench, result, cuts, intact, networks))


def _answers(
    intact: Answers, cut: dict[frozenset[int], Answers], everything: frozenset[int]
) -> dict[frozenset[int], Answers]:
    """Return the predictions that are kept for each image: all of them would be too many."""
    without_all = {everything: cut[everything]} if everything in cut else {}
    return {frozenset[int](): intact, **without_all}


def chosen_sites(
    sites: Sequence[Site], structure: Structure, names: Sequence[str] | None, model: str
) -> tuple[Site, ...]:
    """Return the requested sites, or all; raises NotApplicableError for none and UsageError for unknown ones."""
    if not sites:
        raise NotApplicableError(f"{model} has no {structure.name} to remove.")
    if names is None:
        return tuple(sites)
    known = {site.name: site for site in sites}
    missing = [name for name in names if name not in known]
    if missing:
        raise UsageError(
            f"There is no {structure.name} '{missing[0]}' in {model}. Known: {', '.join(list(known)[:8])}"
            f"{' …' if len(known) > 8 else ''}; see probe structures."
        )
    return tuple(site for site in sites if site.name in set(names))


def _sizes(bench: EvaluationSet, draws: int) -> int:
    """Return how many numbers of jointly cut sites are tried: fewer for large networks."""
    cost = max(1.0, _SHARED * bench.n * (bench.model.macs or 1))
    return max(3, min(SIZES, int(_TOGETHER / cost) // (draws + 2)))


def _recalibrate(
    bench: EvaluationSet,
    result: LesionResult,
    cuts: dict[frozenset[int], nn.Module],
    intact: Answers,
    networks: Lent[CutNetworks],
) -> dict[frozenset[int], Comparison]:
    """Return the lesions after batch-norm statistics were estimated again; the most harmful first, within bounds."""
    if (
        not bench.calibration
        or result.structure.no_effect_reason
        or not has_batch_norm(bench.subject.network)
    ):
        return {}
    single = [frozenset({site}) for site in result.plan.single if frozenset({site}) in cuts]
    single.sort(key=lambda subset: result.sets[subset].n_correct)
    images = bench.n + sum(map(len, bench.calibration))
    cost = images * (bench.model.macs or 1)
    subsets = [frozenset[int](), result.plan.everything, *single[: max(4, int(_RECALIBRATED // cost))]]
    subsets = list(dict.fromkeys(subset for subset in subsets if not subset or subset in cuts))
    # Where the cut took all batch normalisation away, there is nothing to estimate again.
    subsets = [subset for subset in subsets if not subset or has_batch_norm(cuts[subset])]
    labels = bench.labels
    with bench.progress.task("Estimating batch-norm statistics again", len(subsets)) as advance:
        answers = networks.map(_recalibrated, {str(sorted(subset)): subset for subset in subsets}, advance)
        return {
            subset: compare(intact, answer, labels) for subset, answer in zip(subsets, answers, strict=True)
        }


@dataclass(frozen=True)
class CutNetworks:
    """The intact network and its lesions, ready to answer, with the images that they answer."""

    evaluator: Evaluator
    networks: dict[frozenset[int], nn.Module]
    batches: tuple[EvaluationBatch, ...]
    calibration: tuple[Tensor, ...]

    @classmethod
    def of(
        cls,
        model: LoadedModel,
        subject: CutSubject,
        cuts: dict[frozenset[int], nn.Module],
        batches: tuple[EvaluationBatch, ...],
        calibration: tuple[Tensor, ...],
    ) -> CutNetworks:
        """Prepare the networks; the empty set stands for the intact one."""
        networks = {frozenset[int](): subject.network, **cuts}
        return cls(Evaluator(model, subject, list(cuts.values())), networks, batches, calibration)


def _cut_again(
    model: LoadedModel,
    text: str,
    names: tuple[str, ...],
    subsets: tuple[frozenset[int], ...],
    batches: tuple[EvaluationBatch, ...],
    calibration: tuple[Tensor, ...],
) -> CutNetworks:
    """Return what ``CutNetworks.of`` makes, in a worker: a network goes there, graphs do not."""
    subject, structure = subject_of(model), get_structure(text)
    sites = chosen_sites(find_sites(subject, structure), structure, names, model.name)
    cuts = {subset: cut(subject, [sites[site] for site in sorted(subset)]) for subset in subsets}
    return CutNetworks.of(model, subject, cuts, batches, calibration)


def _answers_to(networks: CutNetworks, number: int, advance: Advance) -> list[Answers]:
    """Return the answers of every network to one batch."""
    return networks.evaluator.answer([networks.batches[number]], advance)


def _recalibrated(networks: CutNetworks, subset: frozenset[int], advance: Advance) -> Answers:
    """Return the answers of one network with statistics that were estimated again."""
    network = recalibrate(networks.networks[subset], networks.calibration)
    answers = answer_plain(networks.evaluator.model, network, networks.batches)
    advance(1)
    return answers
