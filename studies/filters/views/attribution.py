"""The attribution view: which pixels speak for a class, and which of these maps to trust."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.core import seeds
from probe.core.errors import CannotRunError, NotApplicableError
from probe.core.progress import Advance
from probe.core.report import Block, Note, Section, percent
from studies.filters import attribute_report as report
from studies.filters import attribute_trust as trust
from studies.filters.attribute import (
    METHODS,
    DeepLift,
    GradCam,
    IntegratedGradients,
    Method,
    Occlusion,
    Subject,
    in_batches,
    prepare,
)
from studies.filters.attribute_report import Case, Explained
from studies.filters.workspace import VIEWS, Workspace

UNTRAINED = "The weights are random already: redrawing them would tell nothing."
DRAWS = 2
EXPENSIVE_PASSES = 10.0
"""A map that costs more forward passes than this is checked with one draw."""

EXPENSIVE_MACS = 5e9
"""Above this many multiply-accumulates per image the maps themselves are made with coarser options."""


@dataclass(frozen=True)
class _Run:
    """What the steps of the view share."""

    space: Workspace
    subject: Subject
    images: Tensor
    cases: tuple[Case, ...]
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


@VIEWS.register("attribution")
def attribution(space: Workspace) -> Section:
    """Explain the answers pixel by pixel with several methods, and test which maps depend on the weights."""
    images = space.pixels(space.shown)
    subject = prepare(space.model.module, images[:1])
    cases = _cases(space, images)
    methods = _methods(space)
    untrained = space.model.provenance.weights.startswith("random")
    work = _work(methods, images, len(cases), untrained)
    with space.progress.task("Attribution", work) as advance:
        run = _Run(space, subject, images, cases, advance)
        found = [_explain(run, method) for method in methods]
        if all(one.maps is None for one in found):
            raise NotApplicableError(found[0].reason)
        left, reason = ({}, UNTRAINED) if untrained else _randomised(run, found)
    return _section(run, found, left, reason)


def _methods(space: Workspace) -> tuple[Method, ...]:
    large = (space.model.macs or 0) > EXPENSIVE_MACS
    return tuple(method.economical() for method in METHODS) if large else METHODS


def _draws(method: Method, size: tuple[int, int]) -> int:
    return 1 if method.passes(size) > EXPENSIVE_PASSES else DRAWS


def _work(methods: Sequence[Method], images: Tensor, cases: int, untrained: bool) -> float:
    """Return the view's work in forward passes."""
    size = (images.shape[-2], images.shape[-1])
    work = sum(method.passes(size) * cases for method in methods)
    if untrained:
        return work
    for method in methods:
        coarse = method.economical()
        networks = 2 * _draws(coarse, size) + (coarse != method)
        work += coarse.passes(size) * len(images) * networks
    return work


def _cases(space: Workspace, images: Tensor) -> tuple[Case, ...]:
    """Return the predicted class of every image, then the true class of those answered wrong."""
    shares = space.model.logits(images, space.config.batch_size).float().softmax(1).cpu()
    predictions: list[Case] = []
    mistakes: list[Case] = []
    for row, index in enumerate(space.shown):
        predicted, true = int(shares[row].argmax()), space.images.label(index)

        def case(target: int, answer: str, row: int = row, index: int = index) -> Case:
            return Case(
                row, index, space.images.item_name(index), target, _words(space, shares[row], target), answer
            )

        if true is None or true >= shares.shape[1]:
            predictions.append(case(predicted, "predicted"))
        elif true == predicted:
            predictions.append(case(predicted, "predicted, right"))
        else:
            words = _words(space, shares[row], true)
            predictions.append(case(predicted, f"predicted, but it is {words}"))
            mistakes.append(case(true, "the true class, not predicted"))
    return (*predictions, *mistakes)


def _words(space: Workspace, shares: Tensor, target: int) -> str:
    return f"{space.class_name(target)} ({percent(float(shares[target]))})"


def _explain(run: _Run, method: Method) -> Explained:
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


def _randomised(run: _Run, found: Sequence[Explained]) -> tuple[dict[str, trust.Randomised], str]:
    """Run the randomisation check on the predicted classes; an empty result comes with the reason."""
    space, images, example = run.space, run.images, run.images[:1]

    def networks(draw: int) -> tuple[Subject, Subject]:
        fresh = space.model.fresh(seeds.derive(space.config.seed, "attribution", draw)).module
        mixed = trust.redraw_classifier(space.model.module, fresh, example)
        return prepare(mixed, example), prepare(fresh, example)

    trials = []
    for one in found:
        if one.maps is not None:
            coarse = one.method.economical()
            known = coarse == one.method
            reference = one.maps[: len(images)] if known else run.maps(coarse, len(images))
            trials.append(trust.Trial(coarse, reference, _draws(coarse, run.size)))
    try:
        targets = run.targets[: len(images)]
        return trust.randomise(trials, networks, images, targets, run.advance), ""
    except (CannotRunError, NotApplicableError) as error:
        return {}, f"The weights cannot be redrawn: {error}"


def _section(
    run: _Run, found: Sequence[Explained], left: dict[str, trust.Randomised], reason: str
) -> Section:
    blocks: list[Block] = [
        report.gallery(run.cases, run.images, found),
        report.table(found, left, len(run.cases)),
    ]
    if reason:
        blocks.insert(0, Note(f"No randomisation check. {reason}", "warning"))
    if any(one.everything.value is not None for one in left.values()):
        blocks.append(report.figure(found, left))
    blocks.append(Note(_details(run, found)))
    applied = [one.method.title for one in found if one.maps is not None]
    return Section(
        "attribution",
        "Attribution",
        f"{len(applied)} methods on {len(run.images)} images: {', '.join(applied)}.",
        tuple(blocks),
        results=report.results(found, left),
        checks=report.checks(found, left, reason),
        findings=report.findings(found, left),
    )


def _details(run: _Run, found: Sequence[Explained]) -> str:
    """Say with which options the maps and the check were made."""
    sentences = [
        "The baseline of integrated gradients, DeepLIFT and occlusion is each image's own mean colour."
    ]
    for one in found:
        coarse = one.method.economical()
        if one.maps is None:
            continue
        if isinstance(one.method, GradCam):
            sentences.append(f"GradCAM reads layer {run.subject.layer.removeprefix('network.')}.")
        if isinstance(one.method, IntegratedGradients) and isinstance(coarse, IntegratedGradients):
            steps = f"{one.method.steps} Gauss–Legendre steps, in the check {coarse.steps}"
            sentences.append(f"Integrated gradients take {steps}.")
        if isinstance(one.method, Occlusion) and isinstance(coarse, Occlusion):
            (height, stride), (width, _) = (one.method.window(side) for side in run.size)
            sentences.append(
                f"Occlusion covers {height} × {width} pixels and moves by {stride}, "
                f"in the check by {coarse.window(run.size[0])[1]}."
            )
    sentences.append("In the check the trained network's maps are made with the same options as the others.")
    return " ".join(sentences)
