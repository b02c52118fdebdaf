"""Checks that runs can be compared: finished, same images, same options, and reliable themselves."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.document import Check
from probe.core.verdict import CheckStatus
from probe.tools.compare.differences import Difference, Fact
from probe.tools.compare.runs import Run

_NAMED = 5


def checks(
    runs: Sequence[Run], differences: Sequence[Difference], facts: Sequence[Fact]
) -> tuple[Check, ...]:
    """Return the checks to read before attributing a difference to the networks."""
    return (
        _finished(runs),
        _images(runs, differences, facts),
        _alike("Same options", "config", facts, "options", "warn"),
        _alike("Same versions", "environment", facts, "versions or machine facts", "warn"),
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


def _images(runs: Sequence[Run], differences: Sequence[Difference], facts: Sequence[Fact]) -> Check:
    other = [
        fact.name
        for fact in facts
        if fact.part == "data" and fact.name in ("name", "n", "sha256", "labelled")
    ]
    paired = sum(difference.how == "paired" for difference in differences)
    if other:
        text = f"The runs used different images ({', '.join(other)} differ): the differences are unpaired."
        return Check("Same images", "warn", paired, text)
    unpaired = sum(difference.how == "unpaired" for difference in differences)
    if paired:
        rest = (
            f" For {unpaired} more, the samples do not give the outcome for every image: these are unpaired."
            if unpaired
            else ""
        )
        return Check(
            "Same images",
            "pass",
            paired,
            f"{paired} differences are paired by image, using samples.jsonl.{rest}",
        )
    absent = ", ".join(run.letter for run in runs if run.samples is None)
    why = (
        f"there is no samples.jsonl for {absent}" if absent else "the samples have different images or labels"
    )
    text = (
        f"All runs used {runs[0].part('data').get('name')} with n = {runs[0].part('data').get('n')}, but {why}: the "
        "differences are treated as unpaired, which makes their intervals wider than necessary."
    )
    return Check("Same images", "warn", 0, text)


def _alike(name: str, part: str, facts: Sequence[Fact], words: str, status: CheckStatus) -> Check:
    other = [fact.name for fact in facts if fact.part == part]
    if not other:
        return Check(name, "pass", 0, f"No {words} differ.")
    more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
    return Check(
        name,
        status,
        len(other),
        f"{', '.join(other[:_NAMED])}{more}: a difference may be due to these and not to the networks.",
    )


def _own_checks(runs: Sequence[Run]) -> Check:
    failed = [run for run in runs if run.verdict.status == "fail"]
    warned = [run for run in runs if run.verdict.status == "warn"]
    parts = [f"{run.label}: {run.verdict.word}, {run.verdict.why}" for run in runs]
    status: CheckStatus = "fail" if failed else "warn" if warned else "pass"
    if all(run.verdict.status == "not applicable" for run in runs):
        status = "not applicable"
    return Check("The runs' own checks", status, len(failed), f"{'; '.join(parts)}.")
