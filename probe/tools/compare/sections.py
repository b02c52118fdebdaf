"""Tables of a comparison: the numbers, the differences, the checks, and in what the runs differ."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.document import Block, Cell, Column, Note, Section, Table
from probe.report.text import result_interval, result_value
from probe.tools.compare.curves import curves
from probe.tools.compare.differences import HOW, LEVEL, Difference, Fact
from probe.tools.compare.runs import Run

_P = "Probability of a difference at least as large if there were none."


def differences_section(found: Sequence[Difference], runs: Sequence[Run]) -> Section:
    """Return the differences to the first run with their tests."""
    reference = runs[0]
    if not found:
        reason = f"No result of {reference.label} is a number in another run too."
        return Section("differences", "Differences", reason=reason)
    tested = sum(one.p is not None for one in found)
    table = Table(
        f"Differences to {reference.label}",
        (
            Column("Result"),
            Column("Run"),
            Column("Difference", help="The run minus the reference; points are hundredths of a proportion."),
            Column("95% interval"),
            Column("Lost", help="Images that only the reference has right."),
            Column("Won", help="Images that only this run has right."),
            Column("p", digits=2, help=f"{_P} Not corrected."),
            Column("p, Holm", digits=2, help=f"{_P} Corrected for all {tested} tests (Holm 1979)."),
            Column(
                "Better", help="Whether the run is better; stays open where the difference may be chance."
            ),
            Column(
                "How",
                help="The test: McNemar's on the same images, Fisher's on independent ones, Welch's over seeds.",
            ),
        ),
        tuple(_difference_row(one) for one in found),
        _reading(found),
    )
    return Section("differences", "Differences", _summary(found, reference), (table,))


def _difference_row(one: Difference) -> tuple[Cell, ...]:
    better: Cell = None
    if one.significant and one.better is not None:
        better = "yes" if one.better else "no"
    return (
        one.name,
        one.run.letter,
        written(one.value, one.second.unit),
        "" if one.ci is None else _between(one.ci, one.second.unit),
        one.lost,
        one.won,
        one.p,
        one.corrected,
        better,
        HOW[one.how],
    )


def written(value: float, unit: str) -> str:
    """Write a difference with its sign: ``+4.5 points`` for a proportion."""
    if unit == "proportion":
        return f"{_signed(100 * value, '.1f')} points"
    return f"{_signed(value, '.3g')} {unit}".strip()


def _between(ci: tuple[float, float], unit: str) -> str:
    scale, form = (100, ".1f") if unit == "proportion" else (1, ".3g")
    return "\u00a0to\u00a0".join(_signed(scale * end, form) for end in ci)


def _signed(value: float, form: str) -> str:
    text = format(value, form)
    if float(text) == 0:
        return format(0, form)
    return f"+{text}" if value > 0 else text.replace("-", "−", 1)


def _summary(found: Sequence[Difference], reference: Run) -> str:
    tested = [one for one in found if one.p is not None]
    kept = sum(one.significant for one in tested)
    return (
        f"{len(found)} results are numbers in both; {len(tested)} could be tested against {reference.label}, and "
        f"{kept} {'difference remains' if kept == 1 else 'differences remain'} at {LEVEL:.0%} after Holm's correction "
        "over all of them."
    )


def _reading(found: Sequence[Difference]) -> str:
    kinds = {one.how for one in found}
    sentences = []
    if "paired" in kinds:
        sentences.append(
            "Where both runs say what became of each image, the test is McNemar's exact one on the images that only "
            "one of them has right, and the interval Newcombe's for paired proportions."
        )
    if "unpaired" in kinds:
        sentences.append(
            "Elsewhere proportions are taken as independent: Newcombe's interval and Fisher's exact test. If the "
            "images were the same after all, these see less than a paired test would."
        )
    if "seeds" in kinds:
        sentences.append("Means over seeds are compared by Welch's t-test from their intervals.")
    if "none" in kinds:
        sentences.append("What is neither has a difference and no test.")
    return " ".join(sentences)


def numbers_section(runs: Sequence[Run]) -> Section:
    """Return every result of every run, aligned by name."""
    names = list(dict.fromkeys(name for run in runs for name in run.results))
    columns = [Column("Result")]
    for run in runs:
        columns += [Column(run.label), Column(f"{run.letter}: 95% interval"), Column(f"{run.letter}: n")]
    rows = [(name, *(cell for run in runs for cell in _cells(run, name))) for name in names]
    only = sum(any(name not in run.results for run in runs) for name in names)
    summary = (
        f"{len(names)} results; {only} of them not in every run."
        if only
        else f"{len(names)} results, all in every run."
    )
    return Section(
        "numbers", "Numbers side by side", summary, (Table("Results", tuple(columns), tuple(rows)),)
    )


def _cells(run: Run, name: str) -> tuple[Cell, ...]:
    result = run.results.get(name)
    if result is None:
        return None, None, None
    return result_value(result), result_interval(result) or None, result.n


def curves_section(runs: Sequence[Run]) -> Section:
    """Return the runs' curves over each other."""
    figures = curves(runs)
    if not figures:
        return Section(
            "curves", "Curves", reason="No run has results along an axis, such as several epsilons."
        )
    return Section("curves", "Curves", blocks=figures)


def checks_section(runs: Sequence[Run]) -> Section:
    """Return the runs' own checks side by side, those that do not agree first."""
    names = list(dict.fromkeys(name for run in runs for name in run.checks))
    if not names:
        return Section("checks-of-runs", "Checks side by side", reason="None of the runs was checked.")
    table = {
        name: [run.checks[name].status if name in run.checks else None for run in runs] for name in names
    }
    worst = {"fail": 0, "warn": 1, "pass": 2, "not applicable": 3, None: 4}
    names.sort(key=lambda name: (len(set(table[name])) == 1, min(worst[status] for status in table[name])))
    verdicts = Table(
        "Verdicts",
        (Column("Run"), Column("Verdict"), Column("Why")),
        tuple((run.label, run.verdict.word, run.verdict.why) for run in runs),
    )
    statuses = Table(
        "Every check",
        (Column("Check"), *(Column(run.label) for run in runs)),
        tuple((name, *table[name]) for name in names),
        "Checks on which the runs do not agree stand first. A number of a run whose check failed may be wrong, and "
        "then so is its difference to the others.",
    )
    return Section("checks-of-runs", "Checks side by side", blocks=(verdicts, statuses))


def facts_section(facts: Sequence[Fact], runs: Sequence[Run]) -> Section:
    """Return in what the runs differ besides their results, and where each was found."""
    where = Table(
        "The runs",
        (Column("Run"), Column("Place"), Column("Command"), Column("Made"), Column("Status")),
        tuple(
            (
                run.label,
                run.place,
                *(str(run.document.get(key) or "") for key in ("command", "created", "status")),
            )
            for run in runs
        ),
    )
    if not facts:
        blocks: tuple[Block, ...] = (
            where,
            Note("Model, data, options, environment and seed are the same in all runs."),
        )
        return Section("facts", "What differs", blocks=blocks)
    table = Table(
        "Not alike",
        (Column("Of"), Column("What"), *(Column(run.label) for run in runs)),
        tuple((fact.part, fact.name, *fact.values) for fact in facts),
        "What is recorded and not the same in all runs: a difference between results can come from any of it.",
    )
    return Section("facts", "What differs", blocks=(table, where))
