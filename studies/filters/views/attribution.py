"""The attribution view: which pixels support a class, and which of these maps to trust."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.core import seeds
from probe.core.blocks import Block, Note
from probe.core.document import Section, percent
from probe.core.errors import CannotRunError, NotApplicableError
from probe.core.progress import Advance
from probe.graph.edit.spelled import spelled
from studies.filters.attribution import report, trust
from studies.filters.attribution import report as conclude
from studies.filters.attribution.attribute import (
    METHODS,
    AttributionSubject,
    DeepLift,
    GradCam,
    GuidedBackprop,
    IntegratedGradients,
    Method,
    Occlusion,
    in_batches,
    prepare,
)
from studies.filters.attribution.report import AttributedImage, Explanation
from studies.filters.attribution.subject import Activations
from studies.filters.registries import VIEWS
from studies.filters.workspace import FiltersWorkspace

UNTRAINED = "The weights are random already, so randomising them would show nothing."
DRAWS = 2
EXPENSIVE_PASSES = 10.0
"""Maps that cost more forward passes than this are checked with one draw."""

EXPENSIVE_MACS = 5e9
"""Above this many multiply-accumulates per image the maps themselves are computed with coarser options."""


@dataclass(frozen=True)
class _AttributionRun:
    """The inputs that the steps of the view share."""

    space: FiltersWorkspace
    cases: tuple[AttributedImage, ...]
    advance: Advance

    @property
    def images(self) -> Tensor:
        space = self.space
        return space.once("attributed images", lambda: space.pixels(space.shown))

    @property
    def subject(self) -> AttributionSubject:
        module = self.space.model.module
        return self.space.once("attribution subject", lambda: prepare(module, self.images[:1]))

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.images.shape[-2:]
        return height, width

    @property
    def targets(self) -> Tensor:
        return torch.tensor([case.target for case in self.cases], device=self.images.device)

    def maps(self, method: Method, count: int) -> Tensor:
        """Return a method's maps for the first ``count`` cases."""
        rows = torch.tensor([case.row for case in self.cases[:count]], device=self.images.device)
        images = self.images[rows].contiguous(memory_format=self.space.model.memory_format)
        maps = in_batches(method, self.subject, images, self.targets[:count])
        self.advance(method.passes(self.size) * count)
        return maps


@VIEWS.register("attribution", order=6, passes=(1500, 0))
def attribution(space: FiltersWorkspace) -> Section:
    """Explain the predictions pixel by pixel with several methods, and test which maps depend on the weights."""
    images = space.pixels(space.shown)
    cases = _cases(space, images)
    methods = _methods(space)
    untrained = space.model.provenance.weights.startswith("random")
    work = [_work(method, images, len(cases), untrained) for method in methods]
    with space.progress.task("Attribution", sum(map(sum, work))) as advance:
        run = _AttributionRun(space, cases, advance)
        jobs = [(method, cases) for method in methods]
        explanations = space.spread(_explain, jobs, advance, [maps for maps, _ in work])
        for explained, (_, check) in zip(explanations, work, strict=True):
            if explained.maps is None:
                advance(check)
        if all(explained.maps is None for explained in explanations):
            raise NotApplicableError(explanations[0].reason)
        randomised, reason = ({}, UNTRAINED) if untrained else _randomise(run, explanations)
    section = _section(run, explanations, randomised, reason)
    space.forget()
    return section


def _methods(space: FiltersWorkspace) -> tuple[Method, ...]:
    large = (space.model.macs or 0) > EXPENSIVE_MACS
    return tuple(method.economical() for method in METHODS) if large else METHODS


def _draws(method: Method, size: tuple[int, int]) -> int:
    return 1 if method.passes(size) > EXPENSIVE_PASSES else DRAWS


def _work(method: Method, images: Tensor, cases: int, untrained: bool) -> tuple[float, float]:
    """Return a method's work in forward passes: its maps, and those of the check."""
    size = (images.shape[-2], images.shape[-1])
    maps = method.passes(size) * cases
    coarse = method.economical()
    networks = 2 * _draws(coarse, size) + (coarse != method)
    return maps, 0.0 if untrained else coarse.passes(size) * len(images) * networks


def _cases(space: FiltersWorkspace, images: Tensor) -> tuple[AttributedImage, ...]:
    """Return the predicted class of every image, then the true class of those that are misclassified."""
    shares = space.model.logits(images, space.config.batch_size).float().softmax(1).cpu()
    predictions: list[AttributedImage] = []
    mistakes: list[AttributedImage] = []
    for row, index in enumerate(space.shown):
        predicted, true = int(shares[row].argmax()), space.images.label(index)

        def case(target: int, answer: str, row: int = row, index: int = index) -> AttributedImage:
            return AttributedImage(
                row, index, space.images.item_name(index), target, _words(space, shares[row], target), answer
            )

        if true is None or not 0 <= true < shares.shape[1]:
            predictions.append(case(predicted, "predicted"))
        elif true == predicted:
            predictions.append(case(predicted, "predicted, correct"))
        else:
            words = _words(space, shares[row], true)
            predictions.append(case(predicted, f"predicted, true class {words}"))
            mistakes.append(case(true, "the true class, not predicted"))
    return (*predictions, *mistakes)


def _words(space: FiltersWorkspace, shares: Tensor, target: int) -> str:
    return f"{space.class_name(target)} ({percent(float(shares[target]))})"


def _explain(
    space: FiltersWorkspace, job: tuple[Method, tuple[AttributedImage, ...]], advance: Advance
) -> Explanation:
    method, cases = job
    run = _AttributionRun(space, cases, advance)
    start = time.perf_counter()
    try:
        maps = run.maps(method, len(run.cases))
    except NotApplicableError as error:
        advance(method.passes(run.size) * len(cases))
        return Explanation(method, None, str(error), 0.0)
    seconds = time.perf_counter() - start
    if not isinstance(method, IntegratedGradients | DeepLift):
        return Explanation(method, maps, "", seconds)
    pixels = run.images[[case.row for case in run.cases]]
    errors = trust.completeness(run.subject.module, pixels, run.targets, maps, method.baseline)
    return Explanation(method, maps, "", seconds, errors)


def _randomise(
    run: _AttributionRun, explanations: Sequence[Explanation]
) -> tuple[dict[str, trust.RandomisationResult], str]:
    """Run the randomisation check on the predicted classes; an empty result comes with the reason."""
    explained = [(one, run.cases) for one in explanations if one.maps is not None]
    work = [_work(one.method, run.images, len(run.cases), False)[1] for one, _ in explained]
    try:
        found = run.space.spread(_randomised, explained, run.advance, work)
    except (CannotRunError, NotApplicableError) as error:
        return {}, f"The weights cannot be randomised: {error}"
    return {key: result for one in found for key, result in one.items()}, ""


def _randomised(
    space: FiltersWorkspace, job: tuple[Explanation, tuple[AttributedImage, ...]], advance: Advance
) -> dict[str, trust.RandomisationResult]:
    """Run the check of one method, whose maps of the trained network are known."""
    explained, cases = job
    run = _AttributionRun(space, cases, advance)
    images, coarse = run.images, explained.method.economical()
    known = explained.maps is not None and coarse == explained.method
    reference = explained.maps[: len(images)] if known and explained.maps is not None else None
    trial = trust.RandomisationTrial(
        coarse,
        run.maps(coarse, len(images)) if reference is None else reference,
        _draws(coarse, run.size),
    )

    def networks(draw: int) -> tuple[AttributionSubject, AttributionSubject]:
        return space.once(f"randomised {draw}", lambda: _redrawn(space, images[:1], draw))

    return trust.randomise([trial], networks, images, run.targets[: len(images)], advance)


def _redrawn(
    space: FiltersWorkspace, example: Tensor, draw: int
) -> tuple[AttributionSubject, AttributionSubject]:
    """Return the network with a redrawn classifier, and the one with every weight redrawn."""
    fresh = spelled(space.model.fresh(seeds.derive(space.config.seed, "attribution", draw)).module, example)
    mixed = trust.redraw_classifier(space.model.module, fresh, example)
    return prepare(mixed, example), prepare(fresh, example)


def _section(
    run: _AttributionRun,
    explanations: Sequence[Explanation],
    randomised: dict[str, trust.RandomisationResult],
    reason: str,
) -> Section:
    blocks: list[Block] = [
        report.gallery(run.cases, run.images, explanations),
        report.table(explanations, randomised, len(run.cases)),
    ]
    if reason:
        blocks.insert(0, Note(f"No randomisation check. {reason}", "warning"))
    if any(result.everything.value is not None for result in randomised.values()):
        blocks.append(report.figure(explanations, randomised))
    blocks.append(Note(_details(run, explanations, bool(randomised))))
    applied = [result.method.title for result in explanations if result.maps is not None]
    return Section(
        "attribution",
        "Attribution",
        f"{len(applied)} methods on {len(run.images)} images: {', '.join(applied)}.",
        tuple(blocks),
        results=conclude.results(explanations, randomised),
        checks=conclude.checks(explanations, randomised, reason),
        findings=conclude.findings(explanations, randomised),
    )


def _details(run: _AttributionRun, explanations: Sequence[Explanation], checked: bool) -> str:
    """Write with which options the maps and the check were computed."""
    sentences = [
        "The baseline of integrated gradients, DeepLIFT and occlusion is each image's own mean colour."
    ]
    for explained in explanations:
        coarse = explained.method.economical()
        if explained.maps is None:
            continue
        if isinstance(explained.method, GuidedBackprop) and run.subject.rewritten is not None:
            kinds = Activations.of(run.subject.rewritten)
            if kinds.others:
                total = kinds.relus + len(kinds.others)
                sentences.append(
                    f"The rule of guided backprop applies to the {kinds.relus} ReLUs of {total} activations."
                )
        if isinstance(explained.method, GradCam):
            sentences.append(f"GradCAM uses layer {run.subject.layer.removeprefix('network.')}.")
        if isinstance(explained.method, IntegratedGradients) and isinstance(coarse, IntegratedGradients):
            less = f", in the check {coarse.steps}" if checked else ""
            sentences.append(f"Integrated gradients use {explained.method.steps} Gauss–Legendre steps{less}.")
        if isinstance(explained.method, Occlusion) and isinstance(coarse, Occlusion):
            height, stride = explained.method.window(run.size[0])
            less = ", in the check {} and {}".format(*coarse.window(run.size[0])) if checked else ""
            sentences.append(f"Occlusion's window is {height} pixels high and moves by {stride}{less}.")
    if checked:
        sentences.append(
            "In the check all networks, including the trained one, are explained with the same options."
        )
    return " ".join(sentences)
