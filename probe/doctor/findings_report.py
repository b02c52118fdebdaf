"""The findings as a table and as numbers."""

from __future__ import annotations

from typing import Any

from probe.core.report import Column, Result, Section, Table, finite
from probe.doctor.diagnosis import Findings
from probe.doctor.wording import status_of


def findings_section(findings: Findings) -> Section:
    """Return one row for each cause that was looked for, the findings first."""
    # Where nothing is to be changed the last column would be empty.
    width = 4 if any(one.advice for one in findings.all) else 3
    rows = tuple((one.title, status_of(one, findings), one.text, one.advice)[:width] for one in findings.all)
    columns = (
        Column("cause", help="What was looked for."),
        Column("verdict", help="A consequence would not be there without the cause above it."),
        Column("evidence", help="The numbers that speak for or against it."),
        Column("what to change", help="The first thing to try."),
    )
    reading = (
        "A cause was seen directly, or its removal made the training work; a probable one fits the numbers. Not found "
        "says that the numbers of this short run do not show it, not that it cannot come later."
    )
    return Section(
        "causes",
        "Causes",
        _summary(findings),
        (Table("What was looked for", columns[:width], rows, reading),),
    )


def _summary(findings: Findings) -> str:
    """Count what was looked for and found."""
    tested = sum(one.grade != "unknown" for one in findings.all)
    seen = sum(one.found for one in findings.all)
    return f"{tested} of {len(findings.all)} causes could be tested; {seen or 'none'} of them left a trace."


def plain(findings: Findings) -> dict[str, Any]:
    """Return the diagnoses as results.json keeps them, the most likely cause first."""
    return {
        "cause": findings.cause,
        "healthy": findings.healthy,
        "outcome": None if findings.course is None else findings.course.outcome,
        "diagnoses": [
            {
                "cause": one.cause,
                "verdict": status_of(one, findings),
                "title": one.title,
                "evidence": one.text,
                "advice": one.advice,
            }
            for one in findings.all
        ],
    }


def results(findings: Findings) -> tuple[Result, ...]:
    """Return the numbers of the run; what was not measured is None."""
    course, tried = findings.course, findings.evidence.sweep
    found: list[Result] = []
    if course is not None:
        found += [
            Result("loss_before", finite(course.before)),
            Result("loss_after", finite(course.after), higher_is_better=False),
            Result("steps", len(course.losses)),
            Result("failed_step", None if course.failed_at is None else course.failed_at + 1),
            Result("learning_rate", course.lr),
        ]
        gradients = findings.evidence.gradients
        if len(gradients) > 1 and gradients[-1][2] > 0:
            found.append(Result("gradient_first_to_last_layer", finite(gradients[0][2] / gradients[-1][2])))
    if tried is not None:
        found += [
            Result("largest_stable_learning_rate", tried.stable),
            Result("suggested_learning_rate", tried.suggestion),
        ]
    census = findings.evidence.census
    if census.units:
        found.append(Result("dead_units_before", census.dead, census.units, unit="units"))
    after = findings.evidence.after
    if after is not None and after.units:
        found.append(Result("dead_units_after", after.dead, after.units, unit="units"))
    return tuple(found)
