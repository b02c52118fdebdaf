"""The section on which maps to trust: table, charts, results and findings."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.blocks import Axis, Cell, Column, Figure, Series, Table
from probe.core.document import Result, percent
from studies.filters.attribution.bench import SHARES
from studies.filters.attribution.controls import Centre, Edges, RandomMap
from studies.filters.attribution.judge import (
    CONTROLS,
    DESCRIPTIONS,
    TESTS,
    JudgedMaps,
    MapScore,
    MapTest,
    Verdicts,
    titles,
)

_CONTROLS = "a random map, an edge detector and a blob in the middle"
_SHORT = {RandomMap.key: "random", Edges.key: "edges", Centre.key: "middle"}

_SHOWN = 4
"""Methods whose curves are drawn, beside the controls."""

_COLUMNS = {
    "road": (
        "Mean of P without the last-ranked cells − P without the first-ranked, 20, 50 and 80% of them, imputed from their "
        "neighbours (Rong et al. 2022). Higher is better; the table is sorted by it. It cannot tell whether the imputed image "
        "looks natural to the network."
    ),
    "pointing": (
        "Share of the positive evidence in the explained quarter of a mosaic of four images of different classes. Higher is "
        "better, 25% is chance. It needs clear objects, and cannot tell which part of an object matters."
    ),
    "deletion": (
        "Area under P while the first-ranked cells take the image's mean colour. Lower is better. It takes the images off "
        "what the network was trained on, so P may fall because of that."
    ),
    "insertion": (
        "Area under P while the first-ranked cells of a blurred image are made sharp. Higher is better. It favours connected "
        "regions and edges, for the blurred rest still shows large objects."
    ),
    "infidelity": (
        "Squared error of the map's sum over random windows against the drop of the logit when they take the mean colour, at "
        "the best scale, over the mean squared drop: 0 exact, 1 no information (Yeh et al. 2019). It cannot tell what "
        "changes other than these do, and a map that only marks the middle can do well."
    ),
    "sensitivity": (
        "Largest relative change of the map when pixels change by at most 0.02 (Yeh et al. 2019), where maps are cheap. "
        "Lower is stabler; a constant map is perfectly stable, so this alone says nothing for a map."
    ),
    "gini": (
        "Of |map|: 0 all pixels alike, near 1 a few only. Sparse maps are easier to read, not truer; controls have a value, too."
    ),
}


def table(verdicts: Verdicts) -> Table:
    """Return one row per method and control, sorted by ROAD, with each test's mean and interval."""
    columns = [
        Column("Method", help="The attribution method; controls know nothing of the network."),
        Column("Passed", help="Tests in which it is better than every control."),
    ]
    for test in (*TESTS, *DESCRIPTIONS):
        columns.append(
            Column(test.title, help=_COLUMNS[test.key], digits=2, proportion=test.key in ("pointing",))
        )
        if test in TESTS:
            columns.append(
                Column(_interval_name(test), help="95% bootstrap interval of the mean over images.")
            )
    columns.append(Column("Time", "s", "For the maps of the images, without the tests."))
    reading = (
        f"A test counts for a method only if it is better, image by image, than every control ({_CONTROLS}): the 95% bootstrap "
        "interval of the mean difference excludes 0. P is the softmax probability of the explained class. With few images real "
        "differences are missed; the intervals are not corrected for the number of methods and tests, so of many that are just "
        "above 0 a few may be chance. What each test cannot tell stands at its column."
    )
    rows = tuple(_row(verdicts, one) for one in verdicts.sorted())
    return Table("Which map to trust, for what", tuple(columns), rows, reading)


def _interval_name(test: MapTest) -> str:
    # Names of columns differ by spaces at the end, which nobody sees.
    return "95% interval" + " " * TESTS.index(test)


def _row(verdicts: Verdicts, one: JudgedMaps) -> tuple[Cell, ...]:
    if one.reason:
        blank = [None] * (2 * len(TESTS) + len(DESCRIPTIONS) + 1)
        return (one.method.title, f"Not applicable: {one.reason}", *blank)
    passed = ", ".join(test.title for test in verdicts.passed(one)) or "none"
    cells: list[Cell] = [_name(one), None if one.control else passed]
    for test in (*TESTS, *DESCRIPTIONS):
        score = verdicts.score(one, test)
        cells.append(None if score is None else score.value)
        if test in TESTS:
            cells.append(_interval(score, test))
    return (*cells, round(one.seconds, 2))


def _name(one: JudgedMaps) -> str:
    return f"{one.method.title} (control)" if one.control else one.method.title


def comparison(verdicts: Verdicts) -> Table:
    """Return one row per method: of which controls each test tells it apart."""
    judged = [one for one in verdicts.sorted() if not one.control and not one.reason]
    tests = [test for test in TESTS if any(test.key in one.values for one in judged)]
    columns = [
        Column("Method", help="The attribution method."),
        *(
            Column(test.title, help=f"The controls that it beats in this test. {_COLUMNS[test.key]}")
            for test in tests
        ),
    ]
    rows = tuple((one.method.title, *(_beaten(verdicts, one, test) for test in tests)) for one in judged)
    reading = (
        "The controls that a method is shown to be better than: random (noise), edges, and middle (a blob there). One that does not "
        "beat the edges may show no more than edges, one that does not beat the middle no more than where things usually are."
    )
    return Table("Better than which control", tuple(columns), rows, reading)


def _beaten(verdicts: Verdicts, one: JudgedMaps, test: MapTest) -> str | None:
    if test.key not in one.values:
        return None
    equal = {control.method.key for control in verdicts.equals(one, test)}
    beaten = [c for key in CONTROLS if (c := verdicts.of(key)) is not None and key not in equal]
    if len(beaten) == len(CONTROLS):
        return "all"
    return ", ".join(_SHORT[control.method.key] for control in beaten) or "none"


def _interval(score: MapScore | None, test: MapTest) -> str | None:
    if score is None or score.ci is None:
        return None
    low, high = score.ci
    if test.key == "pointing":
        return f"{100 * low:.0f} to {100 * high:.0f}%"
    return f"{_two(low)} to {_two(high)}"


def _two(value: float) -> str:
    """Write a number with two digits after the point and a true minus sign."""
    return f"{value:.2f}".replace("-", "−")


def figures(verdicts: Verdicts) -> tuple[Figure, ...]:
    """Return the deletion and insertion curves, and the bars of the pointing game where it was played."""
    best = [one for one in verdicts.sorted() if not one.control and not one.reason][:_SHOWN]
    drawn = best + [one for key in CONTROLS if (one := verdicts.of(key)) is not None]
    found = [
        Figure(
            f"{'Deletion' if kind == 'deletion' else 'Insertion'} curves",
            "line",
            Axis(axis),
            Axis("probability of the explained class"),
            reading,
            tuple(
                Series(one.method.title, SHARES, tuple(float(y) for y in one.curves[kind])) for one in drawn
            ),
        )
        for kind, axis, reading in (
            (
                "deletion",
                "share of the image that has its mean colour",
                f"The {len(best)} best methods by ROAD and the controls, mean over images. The faster a curve falls, the more the "
                "answer rests on what the map ranks first, or the more the grey holes disturb the network; the curves of "
                "the controls show how far it falls without knowing the network.",
            ),
            (
                "insertion",
                "share of the image that is sharp",
                "The same with the image blurred at first. The faster a curve rises, the sooner what the map ranks first brings "
                "the class back.",
            ),
        )
    ]
    pointing = _pointing(verdicts)
    return (*found, *([] if pointing is None else [pointing]))


def _pointing(verdicts: Verdicts) -> Figure | None:
    test = next(test for test in TESTS if test.key == "pointing")
    scores = [
        (one, score)
        for one in verdicts.judged
        if (score := verdicts.score(one, test)) is not None and score.value is not None
    ]
    if not scores:
        return None
    scores.sort(key=lambda pair: (pair[0].control, -(pair[1].value or 0.0)))
    series = []
    for label, control in (("method", False), ("control: chance", True)):
        rows = [(float(place), score) for place, (one, score) in enumerate(scores) if one.control == control]
        bands = [score.ci or (score.value or 0.0,) * 2 for _, score in rows]
        series.append(
            Series(
                label,
                tuple(place for place, _ in rows),
                tuple(score.value or 0.0 for _, score in rows),
                tuple(low for low, _ in bands),
                tuple(high for _, high in bands),
            )
        )
    return Figure(
        "Pointing game",
        "bar",
        Axis("method", categories=tuple(one.method.title for one, _ in scores)),
        Axis("share of the positive evidence in the right quarter"),
        "Each quarter of a mosaic is explained in turn. A map that does not depend on the class has a quarter of its evidence "
        "in the right one, as the controls do; whiskers that reach down to that say no more than chance. They are 95% "
        "bootstrap intervals.",
        tuple(series),
    )


def results(verdicts: Verdicts) -> tuple[Result, ...]:
    """Return the numbers of the table under ``trust.<method>.<test>``."""
    found = []
    for one in verdicts.judged:
        for test in (*TESTS, *DESCRIPTIONS):
            score = verdicts.score(one, test)
            if score is not None:
                name = f"trust.{one.method.key}.{test.key}"
                found.append(Result(name, score.value, score.n, score.ci, higher_is_better=test.higher))
    return tuple(found)


def findings(verdicts: Verdicts) -> tuple[str, ...]:
    """Write for each purpose which map to take, and which methods no test tells from the controls."""
    sentences = []
    for key, purpose in (
        ("road", "To see which pixels the answer rests on"),
        ("deletion", "To see which pixels the answer cannot do without"),
        ("insertion", "To see which pixels are enough for the answer"),
        ("pointing", "To see which of several objects a class is"),
    ):
        test = next(test for test in TESTS if test.key == key)
        measured = [one for one in verdicts.judged if key in one.values and not one.control]
        if not measured:
            continue
        best = verdicts.best(test)
        if not best and key in ("deletion", "insertion"):
            continue  # the table says so
        if not best:
            sentences.append(
                f"{purpose}: no map is shown to be better than {_CONTROLS} ({test.title}, "
                f"{len(measured)} methods)."
            )
            continue
        tied = f", tied with {titles(best[1:])}" if len(best) > 1 else ""
        sentences.append(f"{purpose}: {best[0].method.title}{tied} ({_numbers(verdicts, best[0], test)}).")
    judged = [one for one in verdicts.judged if not one.control and not one.reason]
    none = [one for one in judged if not verdicts.passed(one)]
    if none:
        sentences.append(
            f"In no test better than {_CONTROLS}: {titles(none)} ({len(none)} of {len(judged)} methods)."
        )
    return tuple(sentences)


def _numbers(verdicts: Verdicts, one: JudgedMaps, test: MapTest) -> str:
    """Write a method's value with interval and n, and the controls' values."""
    score = verdicts.score(one, test)
    controls: Sequence[JudgedMaps] = [c for key in CONTROLS if (c := verdicts.of(key)) is not None]
    others = [
        (control, value)
        for control in controls
        if (of := verdicts.score(control, test)) is not None and (value := of.value) is not None
    ]
    if score is None or score.value is None:
        return test.title
    if test.key == "pointing":
        return (
            f"{percent(score.value, score.ci)} of the evidence in the right quarter of a mosaic, {score.n} quarters; "
            "chance: 25%"
        )
    interval = f" [{_two(score.ci[0])}, {_two(score.ci[1])}]" if score.ci else ""
    beside = ", ".join(f"{control.method.title.lower()} {_two(value)}" for control, value in others)
    return f"{test.title} {_two(score.value)}{interval} on {score.n} images; {beside}"
