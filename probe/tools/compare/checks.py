"""Whether runs can be compared at all: finished, on the same images, with the same options, and believed themselves."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.document import Check
from probe.core.verdict import CheckStatus
from probe.tools.compare.differences import Difference, Fact
from probe.tools.compare.runs import Run

_NAMED = 5


def checks(runs: Sequence[Run], found: Sequence[Difference], facts: Sequence[Fact]) -> tuple[Check, ...]:
    """Return what must be known before a difference is laid to the networks."""
    return (
        _finished(runs),
        _images(runs, found, facts),
        _alike("Same options", "config", facts, "options", "warn"),
        _alike("Same versions", "environment", facts, "versions or machine facts", "warn"),
        _believed(runs),
    )


def _finished(runs: Sequence[Run]) -> Check:
    left = [run.label for run in runs if run.interrupted]
    return Check(
        "Finished runs",
        "warn" if left else "pass",
        len(left),
        f"Interrupted, so that not all of its images count: {', '.join(left)}."
        if left
        else f"All {len(runs)} runs were finished.",
    )


def _images(runs: Sequence[Run], found: Sequence[Difference], facts: Sequence[Fact]) -> Check:
    other = [
        fact.name
        for fact in facts
        if fact.part == "data" and fact.name in ("name", "n", "sha256", "labelled")
    ]
    paired = sum(one.how == "paired" for one in found)
    if other:
        text = f"The runs looked at different images ({', '.join(other)} differ): differences are unpaired."
        return Check("Same images", "warn", paired, text)
    unpaired = sum(one.how == "unpaired" for one in found)
    if paired:
        rest = (
            f" For {unpaired} more the samples do not say what became of each image: these are unpaired."
            if unpaired
            else ""
        )
        return Check(
            "Same images",
            "pass",
            paired,
            f"{paired} differences are paired, image by image, by samples.jsonl.{rest}",
        )
    absent = ", ".join(run.letter for run in runs if run.samples is None)
    why = f"there is no samples.jsonl for {absent}" if absent else "the samples name other images or labels"
    text = (
        f"All runs name {runs[0].part('data').get('name')} with n = {runs[0].part('data').get('n')}, but {why}: "
        "differences are taken as unpaired, which makes their intervals wider than they need be."
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
        f"{', '.join(other[:_NAMED])}{more}: a difference may come from these and not from the networks.",
    )


def _believed(runs: Sequence[Run]) -> Check:
    failed = [run for run in runs if run.verdict.status == "fail"]
    warned = [run for run in runs if run.verdict.status == "warn"]
    parts = [f"{run.label}: {run.verdict.word}, {run.verdict.why}" for run in runs]
    status: CheckStatus = "fail" if failed else "warn" if warned else "pass"
    if all(run.verdict.status == "not applicable" for run in runs):
        status = "not applicable"
    return Check("The runs' own checks", status, len(failed), f"{'; '.join(parts)}.")
