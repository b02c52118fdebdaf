"""The findings of an examination: one Diagnosis for each cause, and all of them in order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from probe.tools.doctor.plan import DoctorConfig
from probe.tools.doctor.training_run import LEARNED, TrainingRun

if TYPE_CHECKING:
    from probe.tools.doctor.evidence import TrainingEvidence


Grade = Literal["fault", "risk", "clear", "unknown"]
"""fault: explains why the training fails; risk: unusual, but the training works; unknown: not tested."""


@dataclass(frozen=True)
class Diagnosis:
    """The evidence on one cause.

    ``title`` describes the cause in a few words, ``text`` is one sentence with the numbers, ``advice`` what to change
    (empty if nothing is wrong). ``certain``: whether the cause was observed directly or by an experiment that removes
    it; otherwise it is only likely. ``explains`` are causes that would be consequences of this one.
    """

    cause: str
    grade: Grade
    title: str
    text: str
    advice: str = ""
    certain: bool = True
    explains: frozenset[str] = frozenset()

    @property
    def found(self) -> bool:
        """Whether something is wrong or unusual."""
        return self.grade in ("fault", "risk")


@dataclass(frozen=True)
class Findings:
    """All diagnoses of an examination, sorted.

    ``faults`` explain the failure, the most likely first; ``consequences`` follow from the faults; ``risks`` did
    no harm in this run; ``others`` found nothing. ``evidence`` has the numbers that all of them used.
    """

    faults: tuple[Diagnosis, ...]
    consequences: tuple[Diagnosis, ...]
    risks: tuple[Diagnosis, ...]
    others: tuple[Diagnosis, ...]
    evidence: TrainingEvidence = field(repr=False)

    @property
    def cause(self) -> str | None:
        """The most likely cause of the failure, else the first risk; None if nothing was found."""
        first = (*self.faults, *self.risks)[:1]
        return first[0].cause if first else None

    @property
    def healthy(self) -> bool:
        """Whether the network learned and nothing was found."""
        return self.cause is None and self.course is not None and self.course.outcome == "learned"

    @property
    def course(self) -> TrainingRun | None:
        """The training run that was watched; None if no training step was possible."""
        return self.evidence.course

    @property
    def all(self) -> tuple[Diagnosis, ...]:
        """Every diagnosis: faults, consequences, risks, others."""
        return (*self.faults, *self.consequences, *self.risks, *self.others)

    @property
    def text(self) -> str:
        """The findings, one sentence per line: the cause with its numbers, and what to change."""

        return "\n".join(sentences(self))

    def __str__(self) -> str:
        """Return the text."""
        return self.text


def sort(diagnoses: tuple[Diagnosis, ...], evidence: TrainingEvidence) -> Findings:
    """Separate causes from their consequences; ``diagnoses`` are in the order of the registry.

    A diagnosis that a fault explains is its consequence, unless it comes before that fault and explains the fault.
    """
    ordered = list(diagnoses)
    place = {diagnosis.cause: index for index, diagnosis in enumerate(ordered)}
    faults: list[Diagnosis] = []
    consequences: list[Diagnosis] = []
    for item in (diagnosis for diagnosis in ordered if diagnosis.found):
        others = (other for other in ordered if other.grade == "fault" and other is not item)
        earlier = place[item.cause]
        explained = any(
            item.cause in other.explains
            and (place[other.cause] < earlier or other.cause not in item.explains)
            for other in others
        )
        if explained:
            consequences.append(item)
        elif item.grade == "fault":
            faults.append(item)
    explained_or_fault = (*faults, *consequences)
    return Findings(
        faults=tuple(sorted(faults, key=lambda diagnosis: not diagnosis.certain)),
        consequences=tuple(consequences),
        risks=tuple(
            diagnosis
            for diagnosis in ordered
            if diagnosis.grade == "risk" and diagnosis not in explained_or_fault
        ),
        others=tuple(diagnosis for diagnosis in ordered if not diagnosis.found),
        evidence=evidence,
    )


def course_in_words(course: TrainingRun) -> str:
    """Describe the course of the loss: ``the loss falls from 2.3 to 0.4 in 40 steps``."""
    start = f"{course.before:.3g}" if math.isfinite(course.before) else "a value that is not finite"
    steps = f"{len(course.losses)} step{'' if len(course.losses) == 1 else 's'}"
    if course.failure is not None:
        step = course.failure.fault.step + 1
        return f"the loss starts at {start} and the {course.failure.fault.kind} is not finite at step {step}"
    if course.outcome == "diverged":
        return f"the loss starts at {start} and is not finite after {steps}"
    verb = {"learned": "falls", "grew": "rises"}.get(course.outcome, "only goes")
    if course.outcome == "learned" and not course.after < course.before:
        verb = "goes"
    end = f"{course.after:.3g}"
    if end == start and course.after != course.before:
        start, end = f"{course.before:.6g}", f"{course.after:.6g}"
    return f"the loss {verb} from {start} to {end} in {steps}"


def sentences(findings: Findings) -> list[str]:
    """Return the summary: the most likely cause, its numbers and what to change; or that none was found."""
    lines: list[str] = []
    for place, fault in enumerate(findings.faults):
        sure = "" if fault.certain else "probably: "
        lead = "Cause" if place == 0 else "Also"
        lines.append(f"{lead}: {sure}{lower_first(fault.title)}. {fault.text}")
        lines.append(f"What to change: {fault.advice}")
    if findings.consequences:
        titles = ", ".join(lower_first(diagnosis.title) for diagnosis in findings.consequences)
        lines.append(f"Also found, and possibly consequences of this: {titles}.")
    if not findings.faults:
        lines.append(_without_fault(findings))
    learned = findings.course is not None and findings.course.outcome == "learned"
    lead = "Unusual, but the network learns" if learned else "Unusual, and not shown to be the cause"
    for risk in findings.risks:
        lines.append(f"{lead}: {lower_first(risk.title)}. {risk.text}")
        if risk.advice:
            lines.append(f"What could be changed: {risk.advice}")
    return lines


def _without_fault(findings: Findings) -> str:
    course = findings.course
    if course is None:
        return f"Nothing was trained: {findings.evidence.refusal}"
    looked = len([diagnosis for diagnosis in findings.all if diagnosis.grade != "unknown"])
    words = course_in_words(course)
    if course.outcome != "learned":
        return (
            f"The network does not learn ({words}, at a learning rate of {course.lr:.3g}), and none of the {looked} "
            "causes that were tested explains it."
        )
    if findings.risks:
        return (
            f"No fault found in {len(course.losses)} steps: {words}, at a learning rate of {course.lr:.3g}. However, "
            "something is unusual."
        )
    return (
        f"No fault found in {len(course.losses)} steps: {words}, at a learning rate of {course.lr:.3g}, and none of the "
        f"{looked} causes that were tested was found. {_better_rate(findings)}A fault that appears later, or on other "
        "images, would not have been detected."
    )


def _better_rate(findings: Findings) -> str:
    """Say at which of the tried rates the loss falls clearly further; empty where at none."""
    course, tried = findings.course, findings.evidence.sweep
    if course is None or tried is None or tried.best is None:
        return ""
    here = tried.at(course.lr)
    if here is None or not here.after - tried.best.after > LEARNED * tried.before:
        return ""
    return (
        f"In {tried.steps} steps the loss falls further at a learning rate of {tried.best.lr:.2g}: to "
        f"{tried.best.after:.3g}, at {course.lr:.3g} to {here.after:.3g}. "
    )


def _floor(findings: Findings) -> str:
    if findings.evidence.plan.trivial is None:
        return ""
    return (
        " and to 5% below that of a constant prediction of the class frequencies, or if it ended at half of the latter or "
        "less"
    )


def lower_first(title: str) -> str:
    """Return a title for use inside a sentence: names such as NaN and ReLU keep their capitals."""
    first = title.split(" ", 1)[0]
    return title if any(letter.isupper() for letter in first[1:]) else title[0].lower() + title[1:]


def status_of(diagnosis: Diagnosis, findings: Findings) -> str:
    """Return the verdict on a diagnosis for a table."""
    if diagnosis in findings.faults:
        return "cause" if diagnosis.certain else "probable cause"
    if diagnosis in findings.consequences:
        return "consequence"
    return {"risk": "unusual", "clear": "not found", "unknown": "not tested"}.get(
        diagnosis.grade, diagnosis.grade
    )


def methods(config: DoctorConfig, findings: Findings, n: int, data: str) -> tuple[str, ...]:
    """Return the methods paragraph, for a paper."""
    course, tried = findings.course, findings.evidence.sweep
    if course is None:
        return (f"The network was not trained on the {n:,} images of {data}: {findings.evidence.refusal}",)
    lines = [
        f"The network was trained on {n:,} images of {data} for {len(course.losses)} batches of {config.train_batch} "
        f"with {'AdamW' if config.optimiser == 'adamw' else 'SGD (Nesterov momentum 0.9)'} at a constant learning rate of "
        f"{course.lr:.3g}, in {config.precision}, with {config.loss} loss and without augmentation, weight decay or "
        "clipping.",
        "The loss before and after was measured on the same images in training mode; the network counted as learning if "
        f"the loss fell by 5%{_floor(findings)}.",
    ]
    if tried is not None:
        lines.append(
            f"{len(tried.points)} learning rates from {tried.points[0].lr:.2g} to {tried.points[-1].lr:.2g} were tried "
            f"for {tried.steps} steps each from the same weights (Smith 2017)."
        )
    return tuple(lines)
