"""Findings in sentences."""

from __future__ import annotations

import math

from probe.tools.doctor.diagnosis import Diagnosis, Findings
from probe.tools.doctor.plan import DoctorConfig
from probe.tools.doctor.run import TrainingRun


def course_in_words(course: TrainingRun) -> str:
    """Say what the loss did: ``the loss falls from 2.3 to 0.4 in 40 steps``."""
    start = f"{course.before:.3g}" if math.isfinite(course.before) else "a value that is not finite"
    steps = f"{len(course.losses)} step{'' if len(course.losses) == 1 else 's'}"
    if course.failure is not None:
        step = course.failure.fault.step + 1
        return f"the loss starts at {start} and the {course.failure.fault.kind} is not finite at step {step}"
    if course.outcome == "diverged":
        return f"the loss starts at {start} and is not finite after {steps}"
    verb = {"learned": "falls", "grew": "grows"}.get(course.outcome, "only goes")
    return f"the loss {verb} from {start} to {course.after:.3g} in {steps}"


def sentences(findings: Findings) -> list[str]:
    """Return the answer first: the most likely cause, its numbers and what to change; or what was not found."""
    lines: list[str] = []
    for place, fault in enumerate(findings.faults):
        sure = "" if fault.certain else "probably: "
        lead = "Cause" if place == 0 else "Also"
        lines.append(f"{lead}: {sure}{lowered(fault.title)}. {fault.text}")
        lines.append(f"What to change: {fault.advice}")
    if findings.consequences:
        named = ", ".join(lowered(one.title) for one in findings.consequences)
        lines.append(f"Consequences of this, not causes: {named}.")
    if not findings.faults:
        lines.append(_without_fault(findings))
    for risk in findings.risks:
        lines.append(f"Far from usual, not shown to do harm here: {lowered(risk.title)}. {risk.text}")
        if risk.advice:
            lines.append(f"What could be changed: {risk.advice}")
    return lines


def _without_fault(findings: Findings) -> str:
    course = findings.course
    if course is None:
        return f"Nothing was trained: {findings.evidence.refusal}"
    looked = len([one for one in findings.all if one.grade != "unknown"])
    words = course_in_words(course)
    if course.outcome != "learned":
        return (
            f"The network does not learn ({words}, at a learning rate of {course.lr:.3g}), and none of the {looked} "
            "causes that were looked for explains it."
        )
    if findings.risks:
        return (
            f"No fault found in {len(course.losses)} steps: {words}, at a learning rate of {course.lr:.3g}. Something "
            "is far from usual all the same."
        )
    return (
        f"No fault found in {len(course.losses)} steps: {words}, at a learning rate of {course.lr:.3g}, and "
        "none of the "
        f"{looked} causes that were looked for was seen. A fault that shows later, or on other images, would not "
        "have been."
    )


def lowered(title: str) -> str:
    """Return a title as it stands inside a sentence: names such as NaN and ReLU keep their capitals."""
    first = title.split(" ", 1)[0]
    return title if any(letter.isupper() for letter in first[1:]) else title[0].lower() + title[1:]


def status_of(diagnosis: Diagnosis, findings: Findings) -> str:
    """Return the words that a table shows for a diagnosis."""
    if diagnosis in findings.faults:
        return "cause" if diagnosis.certain else "probable cause"
    if diagnosis in findings.consequences:
        return "consequence"
    return {"risk": "unusual", "clear": "not found", "unknown": "not tested"}.get(
        diagnosis.grade, diagnosis.grade
    )


def methods(config: DoctorConfig, findings: Findings, n: int, data: str) -> tuple[str, ...]:
    """Return what was done, in sentences for a paper."""
    course, tried = findings.course, findings.evidence.sweep
    if course is None:
        return (f"The network was not trained on the {n:,} images of {data}: {findings.evidence.refusal}",)
    lines = [
        f"The network was trained on {n:,} images of {data} for {len(course.losses)} batches of "
        f"{config.train_batch} with "
        f"{'AdamW' if config.optimiser == 'adamw' else 'SGD (Nesterov momentum 0.9)'} at a constant learning rate of "
        f"{course.lr:.3g}, in {config.precision}, with {config.loss} loss and without augmentation, weight decay or "
        "clipping.",
        "Its loss before and after was measured on the same images in training mode; a loss counted as learned "
        "where it "
        "fell by 5% and below that of an answer that knows only the frequencies of the classes.",
    ]
    if tried is not None:
        lines.append(
            f"{len(tried.points)} learning rates from {tried.points[0].lr:.2g} to {tried.points[-1].lr:.2g} were tried "
            f"for {tried.steps} steps each from the same weights (Smith 2017)."
        )
    return tuple(lines)
