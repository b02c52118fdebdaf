"""The attribution view: which pixels speak for a class, and which of these maps to trust."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.core import seeds
from probe.core.document import Block, Note, Section, percent
from probe.core.errors import CannotRunError, NotApplicableError
from probe.core.progress import Advance
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
from studies.filters.attribution.report import AttributedImage, Explained
from studies.filters.attribution.subject import Activations
from studies.filters.registries import VIEWS
from studies.filters.workspace import FiltersWorkspace

UNTRAINED = "The weights are random already: redrawing them would tell nothing."
DRAWS = 2
EXPENSIVE_PASSES = 10.0
"""A map that costs more forward passes than this is checked with one draw."""

EXPENSIVE_MACS = 5e9
"""Above this many multiply-accumulates per image the maps themselves are made with coarser options."""


@dataclass(frozen=True)
class _AttributionRun:
    """What the steps of the view share."""

    space: FiltersWorkspace
    subject: AttributionSubject
    images: Tensor
    cases: tuple[AttributedImage, ...]
    advance: Advance

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
        wanted = self.images[rows].contiguous(memory_format=self.space.model.memory_format)
        maps = in_batches(method, self.subject, wanted, self.targets[:count])
        self.advance(method.passes(self.size) * count)
        return maps


@VIEWS.register("attribution", order=5)
def attribution(space: FiltersWorkspace) -> Section:
    """Explain the answers pixel by pixel with several methods, and test which maps depend on the weights."""
    images = space.pixels(space.shown)
    subject = prepare(space.model.module, images[:1])
    cases = _cases(space, images)
    methods = _methods(space)
    untrained = space.model.provenance.weights.startswith("random")
    work = sum(_work(method, images, len(cases), untrained) for method in methods)
    with space.progress.task("Attribution", work) as advance:
        run = _AttributionRun(space, subject, images, cases, advance)
        found = []
        for method in methods:
            found.append(_explain(run, method))
            if found[-1].maps is None:
                advance(_work(method, images, len(cases), untrained))
        if all(one.maps is None for one in found):
            raise NotApplicableError(found[0].reason)
        left, reason = ({}, UNTRAINED) if untrained else _randomised(run, found)
    return _section(run, found, left, reason)


def _methods(space: FiltersWorkspace) -> tuple[Method, ...]:
    large = (space.model.macs or 0) > EXPENSIVE_MACS
    return tuple(method.economical() for method in METHODS) if large else METHODS


def _draws(method: Method, size: tuple[int, int]) -> int:
    return 1 if method.passes(size) > EXPENSIVE_PASSES else DRAWS


def _work(method: Method, images: Tensor, cases: int, untrained: bool) -> float:
    """Return a method's work in forward passes: its maps, and those of the check."""
    size = (images.shape[-2], images.shape[-1])
    work = method.passes(size) * cases
    if untrained:
        return work
    coarse = method.economical()
    networks = 2 * _draws(coarse, size) + (coarse != method)
    return work + coarse.passes(size) * len(images) * networks


def _cases(space: FiltersWorkspace, images: Tensor) -> tuple[AttributedImage, ...]:
    """Return the predicted class of every image, then the true class of those answered wrong."""
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
            predictions.append(case(predicted, "predicted, right"))
        else:
            words = _words(space, shares[row], true)
            predictions.append(case(predicted, f"predicted, but it is {words}"))
            mistakes.append(case(true, "the true class, not predicted"))
    return (*predictions, *mistakes)


def _words(space: FiltersWorkspace, shares: Tensor, target: int) -> str:
    return f"{space.class_name(target)} ({percent(float(shares[target]))})"


def _explain(run: _AttributionRun, method: Method) -> Explained:
    start = time.perf_counter()
    try:
        maps = run.maps(method, len(run.cases))
    except NotApplicableError as error:
        return Explained(method, None, str(error), 0.0)
    seconds = time.perf_counter() - start
    if not isinstance(method, IntegratedGradients | DeepLift):
        return Explained(method, maps, "", seconds)
    shown = run.images[[case.row for case in run.cases]]
    errors = trust.completeness(run.subject.module, shown, run.targets, maps, method.baseline)
    return Explained(method, maps, "", seconds, errors)


def _randomised(run: _AttributionRun, found: Sequence[Explained]) -> tuple[dict[str, trust.Randomised], str]:
    """Run the randomisation check on the predicted classes; an empty result comes with the reason."""
    space, images, example = run.space, run.images, run.images[:1]

    def networks(draw: int) -> tuple[AttributionSubject, AttributionSubject]:
        fresh = space.model.fresh(seeds.derive(space.config.seed, "attribution", draw)).module
        mixed = trust.redraw_classifier(space.model.module, fresh, example)
        return prepare(mixed, example), prepare(fresh, example)

    trials = []
    for one in found:
        if one.maps is not None:
            coarse = one.method.economical()
            known = coarse == one.method
            reference = one.maps[: len(images)] if known else run.maps(coarse, len(images))
            trials.append(trust.RandomisationTrial(coarse, reference, _draws(coarse, run.size)))
    try:
        targets = run.targets[: len(images)]
        return trust.randomise(trials, networks, images, targets, run.advance), ""
    except (CannotRunError, NotApplicableError) as error:
        return {}, f"The weights cannot be redrawn: {error}"


def _section(
    run: _AttributionRun, found: Sequence[Explained], left: dict[str, trust.Randomised], reason: str
) -> Section:
    blocks: list[Block] = [
        report.gallery(run.cases, run.images, found),
        report.table(found, left, len(run.cases)),
    ]
    if reason:
        blocks.insert(0, Note(f"No randomisation check. {reason}", "warning"))
    if any(one.everything.value is not None for one in left.values()):
        blocks.append(report.figure(found, left))
    blocks.append(Note(_details(run, found, bool(left))))
    applied = [one.method.title for one in found if one.maps is not None]
    return Section(
        "attribution",
        "Attribution",
        f"{len(applied)} methods on {len(run.images)} images: {', '.join(applied)}.",
        tuple(blocks),
        results=conclude.results(found, left),
        checks=conclude.checks(found, left, reason),
        findings=conclude.findings(found, left),
    )


def _details(run: _AttributionRun, found: Sequence[Explained], checked: bool) -> str:
    """Say with which options the maps and the check were made."""
    said = ["The baseline of integrated gradients, DeepLIFT and occlusion is each image's own mean colour."]
    for one in found:
        coarse = one.method.economical()
        if one.maps is None:
            continue
        if isinstance(one.method, GuidedBackprop) and run.subject.rewritten is not None:
            kinds = Activations.of(run.subject.rewritten)
            if kinds.others:
                total = kinds.relus + len(kinds.others)
                said.append(
                    f"Guided backprop's rule holds at the {kinds.relus} ReLUs of {total} activations."
                )
        if isinstance(one.method, GradCam):
            said.append(f"GradCAM reads layer {run.subject.layer.removeprefix('network.')}.")
        if isinstance(one.method, IntegratedGradients) and isinstance(coarse, IntegratedGradients):
            less = f", in the check {coarse.steps}" if checked else ""
            said.append(f"Integrated gradients take {one.method.steps} Gauss–Legendre steps{less}.")
        if isinstance(one.method, Occlusion) and isinstance(coarse, Occlusion):
            height, stride = one.method.window(run.size[0])
            less = ", in the check {} and {}".format(*coarse.window(run.size[0])) if checked else ""
            said.append(f"Occlusion's window is {height} pixels high and moves by {stride}{less}.")
    if checked:
        said.append("In the check all networks, the trained one too, are explained with the same options.")
    return " ".join(said)
