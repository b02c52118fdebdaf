"""The comparison study: runs of one study side by side, with the significance of their differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from probe.core.document import Report, Result, percent
from probe.core.subject import DataInfo, ModelInfo
from probe.report.assemble import environment
from probe.tools.compare.checks import checks
from probe.tools.compare.differences import Difference, differences, joint_level, unmatched
from probe.tools.compare.facts import Fact, confounds, differing_facts
from probe.tools.compare.pairs import Unmatched, is_p_value
from probe.tools.compare.runs import Run
from probe.tools.compare.sections import (
    checks_section,
    curves_section,
    differences_section,
    facts_section,
    level_text,
    numbers_section,
    signed_difference,
)

_LEADING = 3
"""Number of results in the headline for each run: the first results are the main ones of a study."""
_UNMATCHED = 3
"""Number of results without a partner in the headline."""
_LINES = 6
"""Approximate number of results in the headline for all runs together; at least one for each."""

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
    """Compare at least two runs of one study; all differences are from the first run.

    The report's model and data are those of the first run, with the names of all. An interrupted run is compared with
    the results that it has, and listed in the warnings. Raises ValueError for fewer than two runs or different studies.
    """
    if len(runs) < 2 or len({run.study for run in runs}) != 1:
        raise ValueError("a comparison takes at least two runs of one study")
    started = datetime.now(UTC)
    compared, alone, facts = differences(runs), unmatched(runs), differing_facts(runs)
    able = confounds(facts, compared, runs[0].study)
    model, data = _model(runs), _data(runs)
    return Report(
        study="compare",
        title=f"{' vs '.join(run.label for run in runs)}",
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
        headline=_headline(runs, compared, alone, (facts, able)),
        sections=(
            differences_section(compared, alone, runs),
            curves_section(runs),
            numbers_section(runs),
            checks_section(runs),
            facts_section(facts, able, runs),
        ),
        key=("curves",),
        results=_results(compared),
        checks=checks(runs, compared, facts),
        warnings=_warnings(runs),
        extra=_extra(runs, compared, alone, facts),
        methods=_methods(runs, compared),
        references=_references(compared),
    )


def _model(runs: Sequence[Run]) -> ModelInfo:
    """Return the first run's model with the names of all models; the hash only if it is the same for all."""
    own = runs[0].part("model")
    size = own.get("input_size")

    def join(key: str) -> str:
        return ", ".join(dict.fromkeys(str(run.part("model").get(key) or "–") for run in runs))

    hashes = {run.part("model").get("sha256") for run in runs}
    return ModelInfo(
        join("name"),
        join("source"),
        join("weights"),
        own.get("sha256") if len(hashes) == 1 else None,
        int(own.get("parameters") or 0),
        own.get("macs"),
        tuple(size) if isinstance(size, list) and len(size) == 3 else (0, 0, 0),
        int(own.get("num_classes") or 0),
        join("licence"),
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


def _headline(
    runs: Sequence[Run],
    compared: Sequence[Difference],
    alone: Sequence[Unmatched],
    differing: tuple[Sequence[Fact], Sequence[Fact]],
) -> tuple[str, ...]:
    tested = [difference for difference in compared if difference.p is not None]
    lines = [_difference_text(difference, runs[0], len(tested)) for difference in _leading(runs, compared)]
    n_significant = sum(difference.significant for difference in tested)
    if tested:
        lines.append(
            f"{n_significant} of {len(tested)} tested differences {'is' if n_significant == 1 else 'are'} significant at 5% "
            "after Holm's correction over all tests."
        )
    elif not compared:
        lines.append(
            f"The runs have no number in common with {runs[0].label} that was measured in the same way."
        )
    else:
        lines.append(f"None of the {len(compared)} differences could be tested.")
    told = [one for one in alone if not is_p_value(one.name)][:_UNMATCHED]
    lines += [f"Not compared: {_words(one.name)} ({one.why})." for one in told]
    if len(alone) > len(told):
        lines.append(
            f"Not compared{' either' if told else ''}: {len(alone) - len(told)} more; the table says why."
        )
    return (*lines, _differing_text(*differing))


def _differing_text(facts: Sequence[Fact], able: Sequence[Fact]) -> str:
    if not facts:
        return "Model, data, options, environment and seed are the same in all runs."
    parts = [
        _part_text(part, rows)
        for part, rows in (
            ("model", [fact for fact in facts if fact.part == "model"]),
            ("data", [fact for fact in facts if fact.part == "data"]),
            *(
                (part, [fact for fact in able if fact.part == part])
                for part in ("config", "environment", "run")
            ),
        )
        if rows
    ]
    rest = "nothing that can change a compared number"
    return f"Besides their results, the runs differ in: {', '.join(parts) or rest}."


def _part_text(part: str, facts: Sequence[Fact]) -> str:
    names = [fact.name for fact in facts if fact.part == part]
    return f"{part} ({', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''})"


def _leading(runs: Sequence[Run], compared: Sequence[Difference]) -> list[Difference]:
    """Return the first difference of each run, the first tested ones, and one with the least p if it is significant."""
    chosen: list[Difference] = []
    for run in runs[1:]:
        own = [difference for difference in compared if difference.run is run]
        tested = [difference for difference in own if difference.p is not None]
        listed = [*own[:1], *(difference for difference in tested or own if difference is not own[0])]
        first = listed[: max(1, min(_LEADING, _LINES // (len(runs) - 1)))]
        surest = min(tested, key=lambda difference: difference.p or 0.0, default=None)
        chosen += first
        if surest is not None and surest.significant and surest not in first:
            chosen.append(surest)
    return chosen


def _words(name: str) -> str:
    return name.replace("_", " ")


def _name(difference: Difference) -> str:
    stem = difference.name.partition("@")[0] if difference.setting else difference.name
    return _words(stem) + (f" at {difference.setting}" if difference.setting else "")


def _difference_text(difference: Difference, reference: Run, tests: int) -> str:
    values = [
        percent(float(result.value or 0), result.ci)
        if result.unit == "proportion"
        else f"{float(result.value or 0):.4g} {result.unit}".strip()
        for result in (difference.second, difference.first)
    ]
    text = (
        f"{_name(difference)}: {difference.run.letter} {values[0]} vs {reference.letter} {values[1]}, "
        f"{signed_difference(difference.value, difference.second.unit)}"
    )
    if difference.joint is not None:
        scale = 100 if difference.second.unit == "proportion" else 1
        text += f" [{scale * difference.joint[0]:.3g}, {scale * difference.joint[1]:.3g}]".replace("-", "−")
    if difference.p is None or difference.corrected is None:
        return f"{text}; not tested{f' ({difference.why})' if difference.why else ''}."
    if difference.tied:
        return f"{text}: all {difference.second.n} images have the same outcome in both."
    pairs = f" on the same {difference.second.n} images" if difference.how == "paired" else ""
    verdict = "" if difference.significant else ": not significant"
    if difference.value == 0 and difference.lost:
        verdict = f": a tie, {difference.lost} images lost and {difference.won} won"
    return (
        f"{text} ({level_text(tests)} interval; {_test_name(difference)}{pairs}, p = {difference.p:.2g}, "
        f"{difference.corrected:.2g} after Holm){verdict}."
    )


def _test_name(difference: Difference) -> str:
    names = {
        "paired": "exact McNemar test",
        "unpaired": "unpaired, Fisher's exact test",
        "seeds": "Welch's test over seeds",
        "none": "no test",
    }
    return names[difference.how]


def _results(compared: Sequence[Difference]) -> tuple[Result, ...]:
    """Return the differences; those of proportions in points, because they are not proportions themselves."""
    results = []
    for difference in compared:
        name = f"difference_{difference.run.letter}:{difference.name}"
        n, unit = difference.second.n, difference.second.unit
        results.append(
            Result.points(name, difference.value, n, difference.ci)
            if unit == "proportion"
            else Result(name, round(difference.value, 12), n, difference.ci, unit)
        )
    return tuple(results)


def _warnings(runs: Sequence[Run]) -> tuple[str, ...]:
    lines = [
        f"{run.label} was interrupted: it has only the results up to that point."
        for run in runs
        if run.interrupted
    ]
    runs_by_sentence: dict[str, list[Run]] = {}
    for run in runs:
        own = [*run.part("model").get("notes", ()), *run.document.get("warnings", ())]
        for sentence in dict.fromkeys(map(str, own)):
            runs_by_sentence.setdefault(sentence, []).append(run)
    for sentence, those in runs_by_sentence.items():
        whose = "All runs" if len(those) == len(runs) else ", ".join(run.label for run in those)
        lines.append(f"{whose}: {sentence}")
    return tuple(lines)


def _extra(
    runs: Sequence[Run], compared: Sequence[Difference], alone: Sequence[Unmatched], facts: Sequence[Fact]
) -> dict[str, Any]:
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
                "name": difference.name,
                "run": difference.run.letter,
                "value": difference.value,
                "ci": difference.ci,
                "p": difference.p,
                "p_holm": difference.corrected,
                "how": difference.how,
                "lost": difference.lost,
                "won": difference.won,
                "setting": difference.setting,
                "ci_joint": difference.joint,
                "not_tested_because": difference.why,
            }
            for difference in compared
        ],
        "joint_level": joint_level(sum(difference.p is not None for difference in compared)),
        "not_compared": [{"name": one.name, "run": one.run.letter, "why": one.why} for one in alone],
        "differing": [dataclasses.asdict(fact) for fact in facts],
    }


def _methods(runs: Sequence[Run], compared: Sequence[Difference]) -> tuple[str, ...]:
    kinds = {difference.how for difference in compared}
    lines = [
        f"{len(runs)} runs of the {runs[0].study} study were compared with the first of them, using their published "
        "numbers. A number was compared only with one measured in the same way; accuracies under attack at the same epsilon, "
        "norm and target, by the same attacks."
    ]
    if "paired" in kinds:
        lines.append(
            "If the outcome for every image was known in both runs, proportions were compared by McNemar's exact test, "
            "with Newcombe's interval for paired proportions."
        )
    if "unpaired" in kinds:
        lines.append(
            "Proportions of different images were compared as independent by Fisher's exact test, with Newcombe's interval."
        )
    if "seeds" in kinds:
        lines.append("Means over seeds were compared by Welch's t-test.")
    tested = sum(difference.p is not None for difference in compared)
    if tested:
        lines.append(
            f"P-values were corrected over all {tested} tests by Holm's method, and intervals are at {level_text(tested)} "
            "(Bonferroni)."
        )
    return tuple(lines)


def _references(compared: Sequence[Difference]) -> tuple[str, ...]:
    kinds = {difference.how for difference in compared}
    keys = []
    if "paired" in kinds:
        keys += ["paired", "newcombe paired"]
    if "unpaired" in kinds:
        keys.append("newcombe")
    if "seeds" in kinds:
        keys.append("seeds")
    if any(difference.p is not None for difference in compared):
        keys.append("holm")
    return tuple(REFERENCES[key] for key in keys)
