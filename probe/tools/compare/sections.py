"""Report sections of a comparison: differences, curves, numbers, checks, and other properties that differ."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.document import Block, Cell, Column, Note, Section, Table
from probe.report.text import result_interval, result_value
from probe.tools.compare.curves import curves
from probe.tools.compare.differences import HOW, LEVEL, Difference, Fact
from probe.tools.compare.runs import Run

_P = "Probability of a difference at least as large if there were no true difference."


def differences_section(differences: Sequence[Difference], runs: Sequence[Run]) -> Section:
    """Return the section on the differences from the first run, with their tests."""
    reference = runs[0]
    if not differences:
        reason = f"No other run has a numeric result in common with {reference.label}."
        return Section("differences", "Differences", reason=reason)
    tested = sum(difference.p is not None for difference in differences)
    table = Table(
        f"Differences from {reference.label}",
        (
            Column("Result"),
            Column("Run"),
            Column("Difference", help="The run minus the reference; points are hundredths of a proportion."),
            Column("95% interval"),
            Column("Lost", help="Images that are correct only in the reference."),
            Column("Won", help="Images that are correct only in this run."),
            Column("p", digits=2, help=f"{_P} Not corrected."),
            Column("p, Holm", digits=2, help=f"{_P} Corrected for all {tested} tests (Holm 1979)."),
            Column("Better", help="Whether the run is better; empty if the difference is not significant."),
            Column(
                "Test",
                help="McNemar's test for the same images, Fisher's for independent images, Welch's over seeds.",
            ),
        ),
        tuple(_difference_row(difference) for difference in differences),
        _how_to_read(differences),
    )
    return Section("differences", "Differences", _summary(differences, reference), (table,))


def _difference_row(difference: Difference) -> tuple[Cell, ...]:
    better: Cell = None
    if difference.significant and difference.better is not None:
        better = "yes" if difference.better else "no"
    return (
        difference.name,
        difference.run.letter,
        signed_difference(difference.value, difference.second.unit),
        "" if difference.ci is None else _between(difference.ci, difference.second.unit),
        difference.lost,
        difference.won,
        difference.p,
        difference.corrected,
        better,
        HOW[difference.how],
    )


def signed_difference(value: float, unit: str) -> str:
    """Format a difference with its sign: ``+4.5 points`` for a proportion."""
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


def _summary(differences: Sequence[Difference], reference: Run) -> str:
    tested = [difference for difference in differences if difference.p is not None]
    n_significant = sum(difference.significant for difference in tested)
    return (
        f"{len(differences)} results are numeric in both runs; {len(tested)} could be tested against {reference.label}, and "
        f"{n_significant} {'difference is' if n_significant == 1 else 'differences are'} significant at {LEVEL:.0%} after "
        "Holm's correction over all tests."
    )


def _how_to_read(differences: Sequence[Difference]) -> str:
    kinds = {difference.how for difference in differences}
    sentences = []
    if "paired" in kinds:
        sentences.append(
            "If both runs have the outcome for every image, the test is McNemar's exact test on the images that only one "
            "of them classifies correctly, and the interval is Newcombe's for paired proportions."
        )
    if "unpaired" in kinds:
        sentences.append(
            "Otherwise, proportions are treated as independent: Newcombe's interval and Fisher's exact test. If the "
            "images were in fact the same, these are less sensitive than a paired test."
        )
    if "seeds" in kinds:
        sentences.append("Means over seeds are compared by Welch's t-test, computed from their intervals.")
    if "none" in kinds:
        sentences.append("Other results have a difference but no test.")
    return " ".join(sentences)


def numbers_section(runs: Sequence[Run]) -> Section:
    """Return the section with every result of every run, aligned by name."""
    names = list(dict.fromkeys(name for run in runs for name in run.results))
    columns = [Column("Result")]
    for run in runs:
        columns += [Column(run.label), Column(f"{run.letter}: 95% interval"), Column(f"{run.letter}: n")]
    rows = [(name, *(cell for run in runs for cell in _cells(run, name))) for name in names]
    only = sum(any(name not in run.results for run in runs) for name in names)
    summary = (
        f"{len(names)} results; {only} of them are not in every run."
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
    """Return the section with the curves of all runs in common figures."""
    figures = curves(runs)
    if not figures:
        return Section(
            "curves", "Curves", reason="No run has results along an axis, such as several epsilons."
        )
    return Section("curves", "Curves", blocks=figures)


def checks_section(runs: Sequence[Run]) -> Section:
    """Return the section with the runs' own checks side by side, those that disagree first."""
    names = list(dict.fromkeys(name for run in runs for name in run.checks))
    if not names:
        return Section("checks-of-runs", "Checks side by side", reason="None of the runs has checks.")
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
        "Checks on which the runs disagree are listed first. If a check of a run failed, its numbers may be wrong, and so "
        "may its differences from the others.",
    )
    return Section("checks-of-runs", "Checks side by side", blocks=(verdicts, statuses))


def facts_section(facts: Sequence[Fact], runs: Sequence[Run]) -> Section:
    """Return the section on what differs between the runs besides their results, and on their locations."""
    where = Table(
        "The runs",
        (Column("Run"), Column("Location"), Column("Command"), Column("Created"), Column("Status")),
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
        "Not the same",
        (Column("Part"), Column("Property"), *(Column(run.label) for run in runs)),
        tuple((fact.part, fact.name, *fact.values) for fact in facts),
        "Recorded properties that are not the same in all runs. Any of them can cause a difference between results.",
    )
    return Section("facts", "What differs", blocks=(table, where))
