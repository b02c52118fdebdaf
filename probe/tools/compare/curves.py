"""Curves of several runs in one figure: robustness by epsilon, accuracy by depth, training, sites, corruptions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from probe.core.blocks import Axis, Figure, Series
from probe.core.document import Json, Result
from probe.tools.compare.outcomes import number
from probe.tools.compare.runs import Run

_EPSILON = re.compile(r"^(robust_accuracy|robust_agreement|resistance)@(.+)$")
_DEPTH = re.compile(r"^retrain_accuracy:(.+)@(\d+)$")
_CORRUPTION = re.compile(r"^(accuracy|agreement):(.+)@([1-5])$")
_LESION = re.compile(r"^lesion_(accuracy|agreement):([^:]+):(.+)$")
_SITES = 64
_ALL = "all"

Point = tuple[float, Result]


def curves(runs: Sequence[Run]) -> tuple[Figure, ...]:
    """Return the figures that the results of the runs allow, each with every run that has the results for it."""
    figures = [*_robustness(runs), *_learning(runs), *_depths(runs), *_lesions(runs), *_corruptions(runs)]
    return tuple(figure for figure in figures if any(len(series.x) > 1 for series in figure.series))


def _series(label: str, points: Sequence[Point]) -> Series:
    drawn = sorted(
        ((x, r) for x, r in points if isinstance(r.value, int | float)), key=lambda point: point[0]
    )
    bands = all(result.ci is not None for _, result in drawn)
    return Series(
        label,
        tuple(x for x, _ in drawn),
        tuple(float(r.value or 0) for _, r in drawn),
        tuple(r.ci[0] for _, r in drawn if r.ci) if bands else (),
        tuple(r.ci[1] for _, r in drawn if r.ci) if bands else (),
    )


def _matching(run: Run, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], Result]]:
    for name, result in run.results.items():
        if match := pattern.match(name):
            yield match, result


def _robustness(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield one figure for each norm and measure: epsilons of different norms have no common axis."""
    series_by_measure: dict[tuple[str, str], list[Series]] = {}
    for run in runs:
        norm = str(run.part("config").get("norm", ""))
        points: dict[str, list[Point]] = {}
        for match, result in _matching(run, _EPSILON):
            epsilon = number(match[2])
            if epsilon is not None:
                points.setdefault(match[1], []).append((epsilon, result))
        for measure, those in points.items():
            series_by_measure.setdefault((measure, norm), []).append(_series(run.label, those))
    for (measure, norm), series in series_by_measure.items():
        words = measure.replace("_", " ")
        yield Figure(
            f"{words.capitalize()} against epsilon" + (f", {norm}" if norm else ""),
            "line",
            Axis(f"epsilon ({norm})" if norm else "epsilon"),
            Axis(words),
            "For every image, the most successful of each run's own attacks, with 95% Wilson intervals. Runs are comparable only if their "
            "attacks were equally strong: compare the options and the checks below. Drawn up to the epsilon at which the "
            "last curve reaches 0.",
            _until_collapse(series),
        )


def _until_collapse(series: Sequence[Series]) -> tuple[Series, ...]:
    """Cut the curves off at the first epsilon at which all of them are 0, if there is one."""
    last = max(math.inf if not curve.y or curve.y[-1] > 0 else curve.x[curve.y.index(0)] for curve in series)

    def upto(curve: Series) -> Series:
        n_points = sum(x <= last * (1 + 1e-9) for x in curve.x)
        return Series(
            curve.label, curve.x[:n_points], curve.y[:n_points], curve.low[:n_points], curve.high[:n_points]
        )

    return tuple(map(upto, series))


def _learning(runs: Sequence[Run]) -> Iterator[Figure]:
    drawn: list[Series] = []
    for run in runs:
        curves = run.part("extra").get("learning_curves")
        for item in curves if isinstance(curves, list) else ():
            if (series := _stored(run, item)) is not None:
                drawn.append(series)
    if drawn:
        yield Figure(
            "Held-out accuracy during training",
            "line",
            Axis("epoch"),
            Axis("held-out accuracy"),
            "Mean over the seeds of each arm; the band is the range from the lowest to the highest seed.",
            tuple(drawn),
        )


def _stored(run: Run, item: Json) -> Series | None:
    """Return a curve stored in a document, None if it is invalid."""
    try:
        columns = {key: tuple(map(float, item.get(key) or ())) for key in ("x", "y", "low", "high")}
        return Series(f"{run.label}, {item['label']}", **columns) if columns["x"] else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _depths(runs: Sequence[Run]) -> Iterator[Figure]:
    drawn: list[Series] = []
    for run in runs:
        arms: dict[str, list[Point]] = {}
        for match, result in _matching(run, _DEPTH):
            arms.setdefault(match[1], []).append((float(match[2]), result))
        drawn += [_series(f"{run.label}, {_arm(arm)}", points) for arm, points in arms.items()]
    if drawn:
        yield Figure(
            "Held-out accuracy against depth",
            "line",
            Axis("depth (layers with weights)"),
            Axis("held-out accuracy"),
            "Mean over seeds with its 95% interval.",
            tuple(drawn),
        )


def _arm(name: str) -> str:
    return name if name == "intact" else f"without {name}"


def _lesions(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield figures of a structure's single lesions by site, if the runs have sites in common."""
    results: dict[tuple[str, str], dict[str, dict[str, Result]]] = {}
    for run in runs:
        for match, result in _matching(run, _LESION):
            if match[3] != _ALL:
                results.setdefault((match[1], match[2]), {}).setdefault(run.label, {})[match[3]] = result
    for (measure, structure), by_run in results.items():
        sites = tuple(dict.fromkeys(site for those in by_run.values() for site in those))
        shared = set.intersection(*(set(those) for those in by_run.values()))
        if len(by_run) < 2 or not shared or len(sites) > _SITES:
            continue
        yield Figure(
            f"{measure.capitalize()} without each {structure}",
            "scatter",
            Axis("site, in execution order", categories=sites),
            Axis(measure),
            "One site removed at a time, everything else unchanged; with 95% Wilson intervals.",
            tuple(
                _series(label, [(float(sites.index(site)), result) for site, result in those.items()])
                for label, those in by_run.items()
            ),
        )


def _corruptions(runs: Sequence[Run]) -> Iterator[Figure]:
    drawn: list[Series] = []
    measure = "accuracy"
    for run in runs:
        levels: dict[int, list[float]] = {}
        for match, result in _matching(run, _CORRUPTION):
            measure = match[1]
            if isinstance(result.value, int | float):
                levels.setdefault(int(match[3]), []).append(float(result.value))
        means = {level: sum(values) / len(values) for level, values in sorted(levels.items())}
        if means:
            drawn.append(Series(run.label, tuple(map(float, means)), tuple(means.values())))
    if drawn:
        yield Figure(
            f"{measure.capitalize()} under ordinary corruption",
            "line",
            Axis("severity"),
            Axis(f"mean {measure}"),
            "Mean over the kinds of corruption of each run, on the same images at every severity; the table of "
            "differences has each kind separately.",
            tuple(drawn),
        )
