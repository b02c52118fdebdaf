"""Threat models beside the norm: rotations and shifts, colours, one perturbation for all images, a patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from probe.attacks.threats._base import Threat, ThreatOutcome, ThreatSubject
from probe.core.blocks import Axis, Block, Cell, Column, Figure, Gallery, Note, Picture, Strip, Table
from probe.core.document import Result, Section, percent
from probe.core.errors import NotApplicableError
from probe.core.seeds import generator, scoped
from probe.core.state import frozen_parameters
from probe.core.stats import wilson
from probe.report.raster import magnified
from studies.adversarial.registries import VIEWS
from studies.adversarial.views._shares import shares
from studies.adversarial.workspace import AdversarialWorkspace

MOST = 256
"""Images attacked, at most; a seeded sample when there are more."""

_SIDE = 112


@VIEWS.register("threats", order=7)
def threats(space: AdversarialWorkspace) -> Section:
    """Attack beyond the norm: rotations and shifts, hue, one perturbation for all images, a patch."""
    models = space.config.threat_models
    if not models:
        raise NotApplicableError("No threat model was named: use --threats spatial,colour,universal,patch.")
    order = torch.randperm(space.results.n, generator=generator(space.config.seed, "threats")).tolist()
    places = space.readable(sorted(order[:MOST]))
    if not places:
        raise NotApplicableError("None of the images can be read any more.")
    subject = ThreatSubject(
        space.attacked,
        space.pixels(places),
        space.labels(places),
        space.targets(places),
        space.norm,
        space.epsilon,
        space.config.seed,
        space.config.batch_size,
    )
    blocks: list[Block] = []
    results: list[Result] = []
    findings: list[str] = []
    rows: list[tuple[Cell, ...]] = []
    for name, threat in models.items():
        try:
            outcome = _attacked(space, name, threat, subject)
        except NotApplicableError as error:
            blocks.append(Note(f"{threat.title}: not measured. {error}"))
            continue
        blocks += [_figure(space, threat, outcome), *_gallery(space, threat, outcome, subject, places)]
        rows += _rows(threat, outcome)
        results += _results(space, name, outcome)
        findings.append(_finding(space, threat, outcome))
    if not rows:
        raise NotApplicableError(" ".join(block.text for block in blocks if isinstance(block, Note)))
    return Section(
        "threats",
        "Other threats",
        "What may be changed is not limited by a norm here. Each is an attack on the plain network, so that its accuracy is an upper "
        "bound; others of the kind may break more.",
        (*blocks, _table(space, rows)),
        results=tuple(results),
        findings=tuple(findings),
    )


def _attacked(
    space: AdversarialWorkspace, name: str, threat: Threat, subject: ThreatSubject
) -> ThreatOutcome:
    with (
        space.progress.task(threat.title, threat.work) as advance,
        frozen_parameters(space.model.module),
        torch.enable_grad(),
        scoped(space.config.seed, "threat", name),
    ):
        return threat.attack(replace(subject, advance=advance))


def _robust(outcome: ThreatOutcome) -> list[int]:
    return [int(outcome.robust(budget).sum()) for budget in outcome.budgets]


def _control(outcome: ThreatOutcome) -> list[int]:
    return [len(outcome.rows) - count for count in outcome.control.sum(0).tolist()]


def _figure(space: AdversarialWorkspace, threat: Threat, outcome: ThreatOutcome) -> Figure:
    n, budgets = len(outcome.rows), (0.0, *outcome.budgets)
    clean = int((outcome.smallest > 0).sum())
    return Figure(
        f"{threat.title}: {space.phrases.measure}",
        "line",
        Axis(threat.axis),
        Axis(space.phrases.measure),
        f"{threat.how} Bands are 95% Wilson intervals.",
        (
            shares("worst found", budgets, [clean, *_robust(outcome)], n),
            shares("control", budgets, [clean, *_control(outcome)], n),
        ),
    )


def _gallery(
    space: AdversarialWorkspace,
    threat: Threat,
    outcome: ThreatOutcome,
    subject: ThreatSubject,
    places: Sequence[int],
) -> list[Gallery]:
    strips = []
    for row, image in sorted(outcome.examples.items()):
        at = int(outcome.rows[row])
        before, after = space.attacked.verdict(torch.stack([subject.images[at], image])).argmax(1).tolist()
        name, budget = space.short_name(places[at]), float(outcome.smallest[row])
        strips.append(
            Strip(
                (
                    Picture(
                        magnified(subject.images[at].cpu(), _SIDE),
                        f"{space.item_name(places[at])} without attack",
                        f"original: {space.class_name(before)}",
                        pixelated=min(image.shape[1:]) < _SIDE // 2,
                    ),
                    Picture(
                        magnified(image.cpu(), _SIDE),
                        f"{space.item_name(places[at])} changed within {threat.describe(budget)}",
                        space.class_name(after),
                        pixelated=min(image.shape[1:]) < _SIDE // 2,
                    ),
                ),
                label=name,
                note=f"Broken within {threat.describe(budget)}.",
                compare=(0, 1),
            )
        )
    reading = "The first few images that were broken, with the smallest change that was found to break them."
    return [Gallery(f"{threat.title}: examples", tuple(strips), reading, size=_SIDE)] if strips else []


def _rows(threat: Threat, outcome: ThreatOutcome) -> list[tuple[Cell, ...]]:
    n = len(outcome.rows)
    return [
        (threat.title, threat.describe(budget), robust, n, robust / n, *wilson(robust, n), control / n)
        for budget, robust, control in zip(outcome.budgets, _robust(outcome), _control(outcome), strict=True)
    ]


def _table(space: AdversarialWorkspace, rows: list[tuple[Cell, ...]]) -> Table:
    return Table(
        "Other threats, in numbers",
        (
            Column("Threat", help="What may be changed."),
            Column("Allowed", help="How much of it."),
            Column(space.phrases.robust, help=space.phrases.robust_help),
            Column("of", help="The number of images it was measured on."),
            Column("Share", proportion=True, help="With its 95% Wilson interval beside it."),
            *Column.interval(proportion=True),
            Column("Control", proportion=True, help="The share that a random change of the kind leaves."),
        ),
        tuple(rows),
    )


def _results(space: AdversarialWorkspace, name: str, outcome: ThreatOutcome) -> list[Result]:
    n = len(outcome.rows)
    return [
        Result.proportion(f"{kind}:{name}@{budget:.6g}", count, n, higher_is_better=True)
        for kind, counts in ((space.phrases.name, _robust(outcome)), ("control", _control(outcome)))
        for budget, count in zip(outcome.budgets, counts, strict=True)
    ]


def _finding(space: AdversarialWorkspace, threat: Threat, outcome: ThreatOutcome) -> str:
    n, robust, control = len(outcome.rows), _robust(outcome)[-1], _control(outcome)[-1]
    described = threat.describe(outcome.budgets[-1])
    return (
        f"{described[:1].upper()}{described[1:]}: {space.phrases.measure} {percent(robust / n, wilson(robust, n))} of {n} images "
        f"(a random change of the kind: {percent(control / n, wilson(control, n))})."
    )
