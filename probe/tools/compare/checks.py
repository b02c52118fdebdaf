"""Checks that runs can be compared: finished, same images, same options, and reliable themselves."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.document import Check
from probe.core.verdict import CheckStatus
from probe.tools.compare.differences import Difference, relate
from probe.tools.compare.facts import Fact, confounds
from probe.tools.compare.runs import Run

_NAMED = 5


def checks(
    runs: Sequence[Run], differences: Sequence[Difference], facts: Sequence[Fact]
) -> tuple[Check, ...]:
    """Return the checks to read before attributing a difference to the networks."""
    able = confounds(facts, differences, runs[0].study)
    options = [fact for fact in facts if fact.part == "config"]
    return (
        _finished(runs),
        _images(runs, differences),
        _alike(
            "Same options", "config", able, "options that can change a compared number", "warn", len(options)
        ),
        _alike("Same versions", "environment", able, "versions or machine facts", "warn"),
        _own_checks(runs),
    )


def _finished(runs: Sequence[Run]) -> Check:
    interrupted = [run.label for run in runs if run.interrupted]
    return Check(
        "Finished runs",
        "warn" if interrupted else "pass",
        len(interrupted),
        f"Interrupted before all images were processed: {', '.join(interrupted)}."
        if interrupted
        else f"All {len(runs)} runs finished.",
    )


def _images(runs: Sequence[Run], differences: Sequence[Difference]) -> Check:
    relations = {relate(runs[0], run) for run in runs[1:]}
    paired = sum(difference.how == "paired" for difference in differences)
    alone = sum(difference.how == "none" and bool(difference.first.n) for difference in differences)
    rest = f" Differences without a test: {alone}." if alone else ""
    if relations == {"same"}:
        absent = ", ".join(run.letter for run in runs if run.samples is None)
        why = f" There is no samples.jsonl for {absent}." if absent else ""
        text = (
            f"The images are the same. Differences paired by image, using samples.jsonl: {paired}.{why}{rest}"
        )
        return Check("Same images", "pass" if paired or not differences else "warn", paired, text)
    if relations == {"apart"}:
        text = f"The runs used different images: proportions are compared as independent samples.{rest}"
        return Check("Same images", "warn", paired, text)
    text = (
        "Not all runs used the same images, and some images may be in more than one run: proportions of those runs are "
        f"neither paired nor independent, and have no test.{rest}"
    )
    return Check("Same images", "warn", paired, text)


def _alike(
    name: str, part: str, facts: Sequence[Fact], words: str, status: CheckStatus, differing: int = 0
) -> Check:
    other = [fact.name for fact in facts if fact.part == part]
    if not other:
        text = f"No {words} differ."
        if differing:
            text = f"No {words} differ; {differing} others do, such as what is shown or which attack was run."
        return Check(name, "pass", 0, text)
    more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
    return Check(
        name,
        status,
        len(other),
        f"{', '.join(other[:_NAMED])}{more} differ: a difference may be due to these and not to the networks.",
    )


def _own_checks(runs: Sequence[Run]) -> Check:
    failed = [run for run in runs if run.verdict.status == "fail"]
    warned = [run for run in runs if run.verdict.status == "warn"]
    parts = [f"{run.label}: {run.verdict.word}, {run.verdict.why}" for run in runs]
    status: CheckStatus = "fail" if failed else "warn" if warned else "pass"
    if all(run.verdict.status == "not applicable" for run in runs):
        status = "not applicable"
    return Check("The runs' own checks", status, len(failed), f"{'; '.join(parts)}.")
