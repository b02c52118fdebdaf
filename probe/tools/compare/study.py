"""Put runs of one study side by side: what is different, and whether that may be chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from probe.core.document import DataInfo, ModelInfo, Report, Result, percent
from probe.report.assemble import environment
from probe.tools.compare.checks import checks
from probe.tools.compare.differences import Difference, Fact, differences, differing
from probe.tools.compare.runs import Run
from probe.tools.compare.sections import (
    checks_section,
    curves_section,
    differences_section,
    facts_section,
    numbers_section,
    written,
)

_LEADING = 3
"""Results told in the headline for each run: the first ones are what a study is about."""
_LINES = 6
"""About so many of them for all runs together, and at least one for each."""

REFERENCES = {
    "paired": "Q. McNemar. Note on the sampling error of the difference between correlated proportions or percentages. "
    "Psychometrika 12, 1947.",
    "newcombe paired": "R. G. Newcombe. Improved confidence intervals for the difference between binomial proportions "
    "based on paired data. Statistics in Medicine 17, 1998, 2635–2650.",
    "newcombe": "R. G. Newcombe. Interval estimation for the difference between independent proportions: comparison of "
    "eleven methods. Statistics in Medicine 17, 1998, 873–890.",
    "seeds": "B. L. Welch. The generalization of Student's problem when several different population variances are "
    "involved. Biometrika 34, 1947.",
    "holm": "S. Holm. A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, "
    "1979.",
}


def compare(runs: Sequence[Run], *, command: str = "") -> Report:
    """Compare at least two runs of one study; every difference is to the first run.

    The report's model and data are the first run's, under the names of all. An interrupted run is compared as far as it
    went and named among the warnings. Raises ValueError for fewer than two runs or different studies.
    """
    if len(runs) < 2 or len({run.study for run in runs}) != 1:
        raise ValueError("a comparison takes at least two runs of one study")
    started = datetime.now(UTC)
    found, facts = differences(runs), differing(runs)
    model, data = _model(runs), _data(runs)
    return Report(
        study="compare",
        title=f"{' beside '.join(run.label for run in runs)}",
        model=model,
        data=data,
        config={
            "study": runs[0].study,
            "runs": {run.label: run.place for run in runs},
            "reference": runs[0].label,
        },
        environment=environment("cpu"),
        seed=int(runs[0].document.get("seed") or 0),
        command=command,
        created=started.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - started).total_seconds(), 2),
        headline=_headline(runs, found, facts),
        sections=(
            differences_section(found, runs),
            curves_section(runs),
            numbers_section(runs),
            checks_section(runs),
            facts_section(facts, runs),
        ),
        key=("curves",),
        results=_results(found),
        checks=checks(runs, found, facts),
        warnings=_warnings(runs),
        extra=_extra(runs, found, facts),
        methods=_methods(runs, found),
        references=_references(found),
    )


def _model(runs: Sequence[Run]) -> ModelInfo:
    """Return the first run's model under the names of all; the hash only where it is the same."""
    own = runs[0].part("model")
    size = own.get("input_size")

    def joined(key: str) -> str:
        return ", ".join(dict.fromkeys(str(run.part("model").get(key) or "–") for run in runs))

    hashes = {run.part("model").get("sha256") for run in runs}
    return ModelInfo(
        joined("name"),
        joined("source"),
        joined("weights"),
        own.get("sha256") if len(hashes) == 1 else None,
        int(own.get("parameters") or 0),
        own.get("macs"),
        tuple(size) if isinstance(size, list) and len(size) == 3 else (0, 0, 0),
        int(own.get("num_classes") or 0),
        joined("licence"),
    )


def _data(runs: Sequence[Run]) -> DataInfo:
    own = runs[0].part("data")
    names = ", ".join(dict.fromkeys(str(run.part("data").get("name")) for run in runs))
    n = int(own.get("n") or 0)
    return DataInfo(
        names,
        n,
        int(own.get("total") or n),
        bool(own.get("labelled")),
        str(own.get("source") or ""),
        str(own.get("licence") or ""),
    )


def _headline(runs: Sequence[Run], found: Sequence[Difference], facts: Sequence[Fact]) -> tuple[str, ...]:
    lines = [_told(one, runs[0]) for one in _leading(runs, found)]
    tested = [one for one in found if one.p is not None]
    kept = sum(one.significant for one in tested)
    if tested:
        lines.append(
            f"{kept} of {len(tested)} tested differences {'remains' if kept == 1 else 'remain'} at 5% after Holm's "
            "correction over all of them."
        )
    elif not found:
        lines.append(f"The runs have no number in common with {runs[0].label}.")
    else:
        lines.append(f"None of the {len(found)} differences could be tested.")
    parts = list(dict.fromkeys(fact.part for fact in facts))
    lines.append(
        f"Besides their results the runs differ in: {', '.join(_counted(part, facts) for part in parts)}."
        if parts
        else "Model, data, options, environment and seed are the same in all runs."
    )
    return tuple(lines)


def _counted(part: str, facts: Sequence[Fact]) -> str:
    names = [fact.name for fact in facts if fact.part == part]
    return f"{part} ({', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''})"


def _leading(runs: Sequence[Run], found: Sequence[Difference]) -> list[Difference]:
    """Return the first few differences of each run, those that could be tested before the others, and its surest."""
    chosen: list[Difference] = []
    for run in runs[1:]:
        own = [one for one in found if one.run is run]
        tested = [one for one in own if one.p is not None]
        first = (tested or own)[: max(1, min(_LEADING, _LINES // (len(runs) - 1)))]
        surest = min(tested, key=lambda one: one.p or 0.0, default=None)
        chosen += first
        if surest is not None and surest.significant and surest not in first:
            chosen.append(surest)
    return chosen


def _told(one: Difference, reference: Run) -> str:
    values = [
        percent(float(result.value or 0), result.ci)
        if result.unit == "proportion"
        else f"{float(result.value or 0):.4g} {result.unit}".strip()
        for result in (one.second, one.first)
    ]
    text = (
        f"{one.name.replace('_', ' ')}: {one.run.letter} {values[0]} against {values[1]} of {reference.letter}, "
        f"{written(one.value, one.second.unit)}"
    )
    if one.ci is not None:
        scale = 100 if one.second.unit == "proportion" else 1
        text += f" [{scale * one.ci[0]:.3g}, {scale * one.ci[1]:.3g}]".replace("-", "−")
    if one.p is None or one.corrected is None:
        return f"{text}; not tested."
    pairs = f" on the same {one.second.n} images" if one.how == "paired" else ""
    judged = "" if one.significant or one.value == 0 else ": this may be chance"
    return f"{text} (95% interval; {_named(one)}{pairs}, p = {one.p:.2g}, {one.corrected:.2g} after Holm){judged}."


def _named(one: Difference) -> str:
    names = {
        "paired": "exact McNemar test",
        "unpaired": "unpaired, Fisher's exact test",
        "seeds": "Welch's test over seeds",
        "none": "no test",
    }
    return names[one.how]


def _results(found: Sequence[Difference]) -> tuple[Result, ...]:
    """Return the differences; those of proportions in points, since they are no proportions themselves."""
    results = []
    for one in found:
        parts = one.second.unit == "proportion"
        scale, unit = (100, "points") if parts else (1, one.second.unit)
        # Rounded, because a difference of equal numbers may be off by their last bit.
        value = round(scale * one.value, 12)
        ci = None if one.ci is None else (scale * one.ci[0], scale * one.ci[1])
        results.append(Result(f"difference_{one.run.letter}:{one.name}", value, one.second.n, ci, unit))
    return tuple(results)


def _warnings(runs: Sequence[Run]) -> tuple[str, ...]:
    lines = [
        f"{run.label} was interrupted: it holds only what was finished by then."
        for run in runs
        if run.interrupted
    ]
    told: dict[str, list[Run]] = {}
    for run in runs:
        own = [*run.part("model").get("notes", ()), *run.document.get("warnings", ())]
        for sentence in dict.fromkeys(map(str, own)):
            told.setdefault(sentence, []).append(run)
    for sentence, those in told.items():
        whose = "All runs" if len(those) == len(runs) else ", ".join(run.label for run in those)
        lines.append(f"{whose}: {sentence}")
    return tuple(lines)


def _extra(runs: Sequence[Run], found: Sequence[Difference], facts: Sequence[Fact]) -> dict[str, Any]:
    return {
        "runs": {
            run.letter: {
                "name": run.name,
                "place": run.place,
                "command": run.document.get("command"),
                "created": run.document.get("created"),
                "verdict": run.verdict.word,
            }
            for run in runs
        },
        "differences": [
            {
                "name": one.name,
                "run": one.run.letter,
                "value": one.value,
                "ci": one.ci,
                "p": one.p,
                "p_holm": one.corrected,
                "how": one.how,
                "lost": one.lost,
                "won": one.won,
            }
            for one in found
        ],
        "differing": [dataclasses.asdict(fact) for fact in facts],
    }


def _methods(runs: Sequence[Run], found: Sequence[Difference]) -> tuple[str, ...]:
    kinds = {one.how for one in found}
    lines = [
        f"{len(runs)} runs of the {runs[0].study} study were compared with the first of them, by their "
        "numbers as published."
    ]
    if "paired" in kinds:
        lines.append(
            "Where the same images were known image by image, proportions were compared by McNemar's exact test, with "
            "Newcombe's interval for paired proportions."
        )
    if "unpaired" in kinds:
        lines.append(
            "Other proportions were taken as independent and compared by Fisher's exact test, with Newcombe's interval."
        )
    if "seeds" in kinds:
        lines.append("Means over seeds were compared by Welch's t-test.")
    tested = sum(one.p is not None for one in found)
    if tested:
        lines.append(f"P-values were corrected over all {tested} tests by Holm's method.")
    return tuple(lines)


def _references(found: Sequence[Difference]) -> tuple[str, ...]:
    kinds = {one.how for one in found}
    wanted = []
    if "paired" in kinds:
        wanted += ["paired", "newcombe paired"]
    if "unpaired" in kinds:
        wanted.append("newcombe")
    if "seeds" in kinds:
        wanted.append("seeds")
    if any(one.p is not None for one in found):
        wanted.append("holm")
    return tuple(REFERENCES[key] for key in wanted)
