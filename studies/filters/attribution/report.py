"""The attribution section: strips, table, chart, findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from probe.core.blocks import Axis, Cell, Column, Figure, Gallery, Picture, Series, Strip, Table
from probe.core.document import Check, Result, finite, percent
from probe.core.verdict import CheckStatus
from probe.report.raster import PERCENTILE, SIDE, picture, thumbnail
from studies.filters.attribution.attribute import Method
from studies.filters.attribution.trust import (
    HARDLY,
    PARTLY,
    Completeness,
    MapCorrelation,
    RandomisationResult,
    verdict,
)

ACCEPTED_ERROR = 0.1
"""The median relative completeness error up to which a map may be read as contributions to the logit."""


@dataclass(frozen=True)
class AttributedImage:
    """One logit of one image to explain: ``row`` in the shown images, the image's name, and texts for captions."""

    row: int
    index: int
    name: str
    target: int
    words: str
    answer: str


@dataclass(frozen=True)
class Explanation:
    """The result of one method for every case: its maps, or the reason why there are none."""

    method: Method
    maps: Tensor | None
    reason: str
    seconds: float
    completeness: Completeness | None = None


def gallery(cases: Sequence[AttributedImage], images: Tensor, explanations: Sequence[Explanation]) -> Gallery:
    """Return one strip per case: the image, then each method's map."""
    order = sorted(range(len(cases)), key=lambda number: cases[number].row)
    strips = tuple(_strip(number, cases[number], images[cases[number].row], explanations) for number in order)
    reading = (
        f"Maps are summed over colours and scaled one by one: full colour is the {PERCENTILE:.0f}th percentile of "
        "|map|. Red supports the class, blue opposes it, white is neutral; GradCAM, which has no sign, runs from "
        "black to yellow. Coarse maps (GradCAM, occlusion) are laid over the greyed image, fine ones are shown "
        "alone. The table says which of them depend on the weights: a map that looks convincing need not depend on what the "
        "network learned."
    )
    return Gallery("Which pixels support the class", strips, reading, size=112)


def _strip(number: int, case: AttributedImage, image: Tensor, explanations: Sequence[Explanation]) -> Strip:
    small = max(image.shape[-2:]) < SIDE
    pictures = [Picture(thumbnail(image.cpu(), SIDE), f"The image {case.name}", "image", pixelated=small)]
    for explained in explanations:
        if explained.maps is None:
            continue
        method = explained.method
        pixels = picture(explained.maps[number], image, signed=method.signed, overlay=not method.pixelwise)
        pictures.append(
            Picture(
                pixels,
                f"{method.title} map of {case.name} for {case.words}",
                method.title,
                anchor=f"attribution/{case.index}/{case.target}/{method.key}",
                pixelated=small,
            )
        )
    return Strip(
        tuple(pictures),
        f"{case.name}: {case.words}",
        case.answer,
        f"attribution/{case.index}/{case.target}",
    )


def table(
    explanations: Sequence[Explanation], randomised: Mapping[str, RandomisationResult], n: int
) -> Table:
    """Return one row per method: completeness error, rank correlation after randomisation, time and verdict."""
    columns = (
        Column("Method", help="The attribution method."),
        Column("Verdict", help="Whether its maps passed the tests in this table."),
        Column(
            "Completeness error",
            help="Median of |Σ map − (f(image) − f(baseline))| / |f(image) − f(baseline)|, f the logit; maps "
            "whose denominator is below 1% of the logits are left out. Defined for integrated gradients and "
            "DeepLIFT.",
            proportion=True,
        ),
        Column("Largest error", "logits", "The largest |Σ map − (f(image) − f(baseline))|."),
        Column(
            "ρ classifier",
            help="Mean Spearman correlation of |map| when the last layer is randomised.",
            digits=2,
        ),
        Column("95% interval", help="Student's t-interval over images, clipped to [−1, 1]."),
        Column(
            "ρ all layers",
            help="Mean Spearman correlation of |map| when every weight is randomised.",
            digits=2,
        ),
        Column("95% interval ", help="Student's t-interval over images, clipped to [−1, 1]."),
        Column("Images", help="Images with a rank correlation for all layers; constant maps have none."),
        Column(
            "Draws",
            help="How many times the weights were randomised; the values of each image are averaged first.",
        ),
        Column("Time", "s", f"For the {n} maps shown."),
    )
    reading = (
        "Parameter randomisation (Adebayo et al. 2018): the same logit is explained in the trained network and "
        "in copies with randomised weights, and |map|, summed over colours, is compared by Spearman's ρ. 1: the "
        f"map does not depend on those weights; 0: the maps are unrelated. The verdict calls ρ ≥ {HARDLY} hardly "
        f"changed, and ρ ≥ {PARTLY} with all layers randomised partly unchanged."
    )
    rows = tuple(
        (method, verdict, *numbers)
        for method, *numbers, verdict in (
            _row(explained, randomised.get(explained.method.key)) for explained in explanations
        )
    )
    return Table("Which maps to trust", columns, rows, reading)


def _row(explained: Explanation, randomised: RandomisationResult | None) -> tuple[Cell, ...]:
    if explained.maps is None:
        return (explained.method.title, *[None] * 9, f"Not applicable: {explained.reason}")
    error = explained.completeness
    cells: tuple[Cell, ...] = (
        explained.method.title,
        error.typical if error else None,
        finite(error.largest) if error else None,
    )
    error_size = error.typical if error else None
    misses = ""
    if error_size is not None and error_size > ACCEPTED_ERROR:
        misses = f" Its sum misses the change of the logit by {percent(error_size)}."
    if randomised is None:
        return (*cells, *[None] * 6, round(explained.seconds, 2), f"Not checked.{misses}")
    first, second = randomised.classifier, randomised.everything
    return (
        *cells,
        first.value,
        _interval(first),
        second.value,
        _interval(second),
        second.n,
        randomised.draws,
        round(explained.seconds, 2),
        verdict(randomised) + misses,
    )


def _interval(correlation: MapCorrelation) -> str | None:
    return f"{correlation.ci[0]:.2f} to {correlation.ci[1]:.2f}" if correlation.ci else None


def figure(explanations: Sequence[Explanation], randomised: Mapping[str, RandomisationResult]) -> Figure:
    """Return the chart of rank correlations, one group of bars per judged method."""
    judged = [
        (explained.method.title, randomised[explained.method.key])
        for explained in explanations
        if explained.method.key in randomised
        and randomised[explained.method.key].everything.value is not None
    ]
    titles = tuple(title for title, _ in judged)
    return Figure(
        "Similarity of maps before and after randomising weights",
        "bar",
        Axis("method", categories=titles),
        Axis("Spearman's ρ of |map|"),
        "A low bar: the map changes when the weights do. A high bar: it stays much the same, whatever the network has "
        "learned. Whiskers are 95% t-intervals over images.",
        series=(
            _series("classifier randomised", [both.classifier for _, both in judged]),
            _series("all layers randomised", [both.everything for _, both in judged]),
        ),
    )


def _series(label: str, correlations: Sequence[MapCorrelation]) -> Series:
    values = [correlation.value or 0.0 for correlation in correlations]
    bands = [
        correlation.ci or (value, value) for correlation, value in zip(correlations, values, strict=True)
    ]
    places = tuple(float(number) for number in range(len(values)))
    return Series(
        label, places, tuple(values), tuple(low for low, _ in bands), tuple(high for _, high in bands)
    )


def results(
    explanations: Sequence[Explanation], randomised: Mapping[str, RandomisationResult]
) -> tuple[Result, ...]:
    """Return the numbers of the table under ``attribution.<method>.<what>``."""
    numbers: list[Result] = []
    for explained in explanations:
        name = f"attribution.{explained.method.key}"
        if explained.completeness is not None:
            error = explained.completeness
            numbers.append(
                Result(
                    f"{name}.completeness_error", error.typical, len(error.relative), higher_is_better=False
                )
            )
        if explained.method.key in randomised:
            both = randomised[explained.method.key]
            for part, value in (("classifier", both.classifier), ("random", both.everything)):
                numbers.append(
                    Result(f"{name}.spearman_{part}", value.value, value.n, value.ci, higher_is_better=False)
                )
        if explained.maps is not None:
            numbers.append(
                Result(f"{name}.seconds", round(explained.seconds, 3), len(explained.maps), unit="s")
            )
    return tuple(numbers)


def findings(
    explanations: Sequence[Explanation], randomised: Mapping[str, RandomisationResult]
) -> tuple[str, ...]:
    """Write in one or two sentences which maps depend on the network and which do not."""
    judged = [
        (explained.method.title, randomised[explained.method.key])
        for explained in explanations
        if explained.method.key in randomised
        and randomised[explained.method.key].everything.value is not None
        and randomised[explained.method.key].classifier.value is not None
    ]
    if not judged:
        return ()
    n = max(both.everything.n for _, both in judged)
    images = f"{n} image" if n == 1 else f"{n} images"
    unchanged = [(title, both) for title, both in judged if _correlation(both) >= HARDLY]
    lowest, least = min(judged, key=lambda pair: _correlation(pair[1]))
    sentences = [
        f"{title} maps hardly change on {images} when {_what(both)} randomised (ρ = {_correlation(both):.2f}): on these "
        "images they say little about the class."
        for title, both in unchanged
    ]
    if _correlation(least) < HARDLY:
        sentences.append(
            f"Of the methods that were checked, {lowest} changes most on {images} when weights are randomised: "
            f"ρ = {_with_interval(least.classifier)} with the classifier and {_with_interval(least.everything)} with all "
            "layers randomised; differences between the methods were not tested."
        )
    return tuple(sentences)


def _with_interval(correlation: MapCorrelation) -> str:
    interval = f" [{correlation.ci[0]:.2f}, {correlation.ci[1]:.2f}]" if correlation.ci else ""
    return f"{correlation.value or 0.0:.2f}{interval}"


def _correlation(both: RandomisationResult) -> float:
    return max(both.classifier.value or 0.0, both.everything.value or 0.0)


def _what(both: RandomisationResult) -> str:
    return "every weight is" if (both.everything.value or 0.0) >= HARDLY else "the classifier is"


def checks(
    explanations: Sequence[Explanation], randomised: Mapping[str, RandomisationResult], reason: str
) -> tuple[Check, ...]:
    """Return two checks: do the maps add up where they should, and do they depend on the weights."""
    return (_completeness_check(explanations), _randomisation_check(explanations, randomised, reason))


def _completeness_check(explanations: Sequence[Explanation]) -> Check:
    name = "attribution: completeness"
    errors = {
        explained.method.title: explained.completeness.typical
        for explained in explanations
        if explained.completeness is not None and explained.completeness.typical is not None
    }
    if not errors:
        return Check(
            name, "not applicable", None, "No map has a sum that is defined and large enough to compare."
        )
    worst = max(errors.values())
    text = ", ".join(f"{title} {100 * error:.2g}%" for title, error in errors.items())
    status: CheckStatus = "pass" if worst <= ACCEPTED_ERROR else "warn"
    return Check(
        name, status, worst, f"Median relative error: {text}; up to {100 * ACCEPTED_ERROR:.0f}% is accepted."
    )


def _randomisation_check(
    explanations: Sequence[Explanation], randomised: Mapping[str, RandomisationResult], reason: str
) -> Check:
    name = "attribution: maps depend on the learned weights"
    if not randomised:
        return Check(name, "not applicable", None, reason or "No map could be compared.")
    unchanged = [
        explained.method.title
        for explained in explanations
        if explained.method.key in randomised and _correlation(randomised[explained.method.key]) >= HARDLY
    ]
    text = f"Hardly changed by randomised weights (ρ ≥ {HARDLY}): {', '.join(unchanged) or 'none'}."
    return Check(name, "warn" if unchanged else "pass", len(unchanged), text)
