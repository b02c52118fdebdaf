"""Report sections of a comparison: differences, curves, numbers, checks, and other properties that differ."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.blocks import Block, Cell, Column, Note, Table
from probe.core.document import Section
from probe.report.text import result_interval, result_value
from probe.tools.compare.curves import curves
from probe.tools.compare.differences import HOW, LEVEL, Difference, joint_level
from probe.tools.compare.facts import Fact
from probe.tools.compare.pairs import Unmatched
from probe.tools.compare.runs import Run

_P = "Probability of a difference at least as large if there were no true difference."


def differences_section(
    differences: Sequence[Difference], alone: Sequence[Unmatched], runs: Sequence[Run]
) -> Section:
    """Return the section on the differences from the first run, with their tests, and on what is not compared."""
    reference = runs[0]
    rest = (_unmatched_table(alone),) if alone else ()
    if not differences:
        reason = f"No other run has a number that was measured as one of {reference.label} was."
        if not rest:
            return Section("differences", "Differences", reason=reason)
        return Section("differences", "Differences", reason, rest)
    tested = sum(difference.p is not None for difference in differences)
    table = Table(
        f"Differences from {reference.label}",
        (
            Column("Result"),
            Column("Run"),
            Column("Difference", help="The run minus the reference; points are hundredths of a proportion."),
            Column("Measured at", help="The setting that both runs share."),
            Column(
                f"{level_text(tested)} interval",
                help=f"At this level, all {tested} intervals together cover the true differences in 95% of cases (Bonferroni).",
            ),
            Column("Lost", help="Images that count towards the result only in the reference."),
            Column("Won", help="Images that count towards the result only in this run."),
            Column("p", digits=2, help=f"{_P} Not corrected."),
            Column("p, Holm", digits=2, help=f"{_P} Corrected for all {tested} tests (Holm 1979)."),
            Column("Better", help="Whether the run is better; empty if the difference is not significant."),
            Column(
                "Test",
                help="McNemar's test for the same images, Fisher's for independent images, Welch's over seeds; else why none.",
            ),
        ),
        tuple(_difference_row(difference) for difference in differences),
        _how_to_read(differences),
    )
    return Section("differences", "Differences", _summary(differences, reference), (table, *rest))


def level_text(tests: int) -> str:
    """Return the level of the intervals for so many tests: ``99.5%``."""
    return f"{100 * joint_level(tests):.4g}%"


def _unmatched_table(alone: Sequence[Unmatched]) -> Table:
    return Table(
        "Not compared",
        (Column("Result"), Column("Run"), Column("Why")),
        tuple((one.name, one.run.letter, one.why) for one in alone),
        "These numbers have no partner that was measured in the same way.",
    )


def _difference_row(difference: Difference) -> tuple[Cell, ...]:
    better: Cell = None
    if difference.significant and difference.better is not None:
        better = "yes" if difference.better else "no"
    return (
        difference.name,
        difference.run.letter,
        signed_difference(difference.value, difference.second.unit),
        difference.setting,
        "" if difference.joint is None else _between(difference.joint, difference.second.unit),
        difference.lost,
        difference.won,
        difference.p,
        difference.corrected,
        better,
        f"{HOW[difference.how]}: {difference.why}" if difference.why else HOW[difference.how],
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
        f"{len(differences)} numbers were measured alike in both runs; {len(tested)} could be tested against {reference.label}, "
        f"and {n_significant} {'difference is' if n_significant == 1 else 'differences are'} significant at {LEVEL:.0%} after "
        "Holm's correction over all tests."
    )


def _how_to_read(differences: Sequence[Difference]) -> str:
    kinds = {difference.how for difference in differences}
    sentences = []
    if "paired" in kinds:
        sentences.append(
            "If both runs have the outcome for every image, the test is McNemar's exact test on the images that count in only "
            "one of them, and the interval is Newcombe's for paired proportions."
        )
    if "unpaired" in kinds:
        sentences.append(
            "Proportions of different images are independent: Newcombe's interval and Fisher's exact test."
        )
    if "seeds" in kinds:
        sentences.append("Means over seeds are compared by Welch's t-test, computed from their intervals.")
    if "none" in kinds:
        sentences.append("Other results have a difference but no test; the last column says why.")
    if any(difference.p is not None for difference in differences):
        sentences.append(
            "The intervals hold together (Bonferroni); Holm's test is a little sharper, so a difference can be significant "
            "although its interval includes 0."
        )
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


def facts_section(facts: Sequence[Fact], able: Sequence[Fact], runs: Sequence[Run]) -> Section:
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
        (
            Column("Part"),
            Column("Property"),
            *(Column(run.label) for run in runs),
            Column(
                "Can change a number", help="Whether a number that is compared can depend on this property."
            ),
        ),
        tuple((fact.part, fact.name, *fact.values, _influence(fact, able)) for fact in facts),
        "Recorded properties that are not the same in all runs. The last column says which of them can change a number that is "
        "compared above, apart from the networks themselves.",
    )
    return Section("facts", "What differs", blocks=(table, where))


def _influence(fact: Fact, able: Sequence[Fact]) -> str:
    if fact.part == "model":
        return "is what is compared"
    if fact.part == "data":
        return "see the check of the images"
    return "yes" if fact in able else "no"
