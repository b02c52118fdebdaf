"""What the attribution view found, as blocks of a report: strips, table, chart, findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from probe.core.document import (
    Axis,
    Cell,
    Check,
    Column,
    Figure,
    Gallery,
    Picture,
    Result,
    Series,
    Strip,
    Table,
    finite,
    percent,
)
from probe.core.verdict import CheckStatus
from probe.report.raster import PERCENTILE, SIDE, picture, thumbnail
from studies.filters.attribution.attribute import Method
from studies.filters.attribution.trust import (
    HARDLY,
    PARTLY,
    Completeness,
    MapCorrelation,
    Randomised,
    verdict,
)

ACCEPTED_ERROR = 0.1
"""The median relative completeness error up to which a map may be read as shares of the logit."""


@dataclass(frozen=True)
class AttributedImage:
    """One logit of one image to explain: ``row`` into the shown images, its name and the words for it."""

    row: int
    index: int
    name: str
    target: int
    words: str
    answer: str


@dataclass(frozen=True)
class Explained:
    """What one method gave for every case: its maps, or the reason why there are none."""

    method: Method
    maps: Tensor | None
    reason: str
    seconds: float
    completeness: Completeness | None = None


def gallery(cases: Sequence[AttributedImage], images: Tensor, found: Sequence[Explained]) -> Gallery:
    """Return one strip per case: the image, then each method's map."""
    order = sorted(range(len(cases)), key=lambda number: cases[number].row)
    strips = tuple(_strip(number, cases[number], images[cases[number].row], found) for number in order)
    reading = (
        f"Maps are summed over colours and scaled one by one: full colour is the {PERCENTILE:.0f}th percentile of "
        "|map|. Red speaks for the class, blue against it, white is neutral; GradCAM, which has no sign, runs from "
        "black to yellow. Coarse maps (GradCAM, occlusion) lie over the greyed image, fine ones stand alone. Which "
        "of them to trust, the table says: a map that looks convincing need not depend on what the network learned."
    )
    return Gallery("Which pixels speak for the class", strips, reading, size=112)


def _strip(number: int, case: AttributedImage, image: Tensor, found: Sequence[Explained]) -> Strip:
    small = max(image.shape[-2:]) < SIDE
    pictures = [Picture(thumbnail(image.cpu(), SIDE), f"The image {case.name}", "image", pixelated=small)]
    for one in found:
        if one.maps is None:
            continue
        method = one.method
        pixels = picture(one.maps[number], image, signed=method.signed, overlay=not method.pixelwise)
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


def table(found: Sequence[Explained], left: Mapping[str, Randomised], n: int) -> Table:
    """Return one row per method: completeness error, what redrawing leaves, time and verdict."""
    columns = (
        Column("Method", help="The attribution method."),
        Column("Verdict", help="Whether its maps passed the tests beside it."),
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
            help="Mean Spearman correlation of |map| when the last layer is redrawn.",
            digits=2,
        ),
        Column("95% interval", help="Student's t-interval over images, cut to [−1, 1]."),
        Column(
            "ρ all layers", help="Mean Spearman correlation of |map| when every weight is redrawn.", digits=2
        ),
        Column("95% interval ", help="Student's t-interval over images, cut to [−1, 1]."),
        Column("Images", help="Images with a rank correlation for all layers; constant maps have none."),
        Column(
            "Draws", help="How many times the weights were redrawn; an image's values are averaged first."
        ),
        Column("Time", "s", f"For the {n} maps shown."),
    )
    reading = (
        "Parameter randomisation (Adebayo et al. 2018): the same logit is explained in the trained network and in "
        "copies with redrawn weights, and |map|, summed over colours, is compared by Spearman's ρ. 1: the map does "
        f"not depend on those weights; 0: nothing of it is left. The verdict calls ρ ≥ {HARDLY} hardly changed, and "
        f"ρ ≥ {PARTLY} with all layers redrawn partly kept."
    )
    rows = tuple(
        (method, verdict, *numbers)
        for method, *numbers, verdict in (_row(one, left.get(one.method.key)) for one in found)
    )
    return Table("Which maps to trust", columns, rows, reading)


def _row(one: Explained, randomised: Randomised | None) -> tuple[Cell, ...]:
    if one.maps is None:
        return (one.method.title, *[None] * 9, f"Does not apply: {one.reason}")
    error = one.completeness
    cells: tuple[Cell, ...] = (
        one.method.title,
        error.typical if error else None,
        finite(error.largest) if error else None,
    )
    error_size = error.typical if error else None
    misses = ""
    if error_size is not None and error_size > ACCEPTED_ERROR:
        misses = f" Its sum misses the change of the logit by {percent(error_size)}."
    if randomised is None:
        return (*cells, *[None] * 6, round(one.seconds, 2), f"Not checked.{misses}")
    first, second = randomised.classifier, randomised.everything
    return (
        *cells,
        first.value,
        _interval(first),
        second.value,
        _interval(second),
        second.n,
        randomised.draws,
        round(one.seconds, 2),
        verdict(randomised) + misses,
    )


def _interval(correlation: MapCorrelation) -> str | None:
    return f"{correlation.ci[0]:.2f} to {correlation.ci[1]:.2f}" if correlation.ci else None


def figure(found: Sequence[Explained], left: Mapping[str, Randomised]) -> Figure:
    """Return the chart of rank correlations, one group of bars per judged method."""
    judged = [
        (one.method.title, left[one.method.key])
        for one in found
        if one.method.key in left and left[one.method.key].everything.value is not None
    ]
    titles = tuple(title for title, _ in judged)
    return Figure(
        "What is left of a map when weights are redrawn",
        "bar",
        Axis("method", categories=titles),
        Axis("Spearman's ρ of |map|"),
        "Low bars are good: the map changes with what the network learned. A high bar means that the map "
        "mostly shows the image itself. Whiskers are 95% t-intervals over images.",
        series=(
            _series("classifier redrawn", [one.classifier for _, one in judged]),
            _series("all layers redrawn", [one.everything for _, one in judged]),
        ),
    )


def _series(label: str, correlations: Sequence[MapCorrelation]) -> Series:
    values = [one.value or 0.0 for one in correlations]
    bands = [one.ci or (value, value) for one, value in zip(correlations, values, strict=True)]
    places = tuple(float(number) for number in range(len(values)))
    return Series(
        label, places, tuple(values), tuple(low for low, _ in bands), tuple(high for _, high in bands)
    )


def results(found: Sequence[Explained], left: Mapping[str, Randomised]) -> tuple[Result, ...]:
    """Return the numbers of the table under ``attribution.<method>.<what>``."""
    kept: list[Result] = []
    for one in found:
        name = f"attribution.{one.method.key}"
        if one.completeness is not None:
            error = one.completeness
            kept.append(
                Result(
                    f"{name}.completeness_error", error.typical, len(error.relative), higher_is_better=False
                )
            )
        if one.method.key in left:
            both = left[one.method.key]
            for part, value in (("classifier", both.classifier), ("random", both.everything)):
                kept.append(
                    Result(f"{name}.spearman_{part}", value.value, value.n, value.ci, higher_is_better=False)
                )
        if one.maps is not None:
            kept.append(Result(f"{name}.seconds", round(one.seconds, 3), len(one.maps), unit="s"))
    return tuple(kept)


def findings(found: Sequence[Explained], left: Mapping[str, Randomised]) -> tuple[str, ...]:
    """Say in one or two sentences which maps depend on the network and which do not."""
    judged = [
        (one.method.title, left[one.method.key])
        for one in found
        if one.method.key in left
        and left[one.method.key].everything.value is not None
        and left[one.method.key].classifier.value is not None
    ]
    if not judged:
        return ()
    n = max(both.everything.n for _, both in judged)
    images = f"{n} image" if n == 1 else f"{n} images"
    kept = [(title, both) for title, both in judged if _kept(both) >= HARDLY]
    lowest, least = min(judged, key=lambda pair: _kept(pair[1]))
    sentences = [
        f"{title} maps hardly change when {_what(both)} redrawn (ρ = {_kept(both):.2f}, {images}): do not read them "
        "as an explanation of the class."
        for title, both in kept
    ]
    if _kept(least) < HARDLY:
        sentences.append(
            f"{lowest} depends most on the weights: ρ = {least.classifier.value:.2f} with the classifier and "
            f"{least.everything.value:.2f} with all layers redrawn ({images})."
        )
    return tuple(sentences)


def _kept(both: Randomised) -> float:
    return max(both.classifier.value or 0.0, both.everything.value or 0.0)


def _what(both: Randomised) -> str:
    return "every weight is" if (both.everything.value or 0.0) >= HARDLY else "the classifier is"


def checks(found: Sequence[Explained], left: Mapping[str, Randomised], reason: str) -> tuple[Check, ...]:
    """Return two checks: do the maps add up where they should, and do they depend on the weights."""
    return (_completeness_check(found), _randomisation_check(found, left, reason))


def _completeness_check(found: Sequence[Explained]) -> Check:
    name = "attribution: completeness"
    errors = {
        one.method.title: one.completeness.typical
        for one in found
        if one.completeness is not None and one.completeness.typical is not None
    }
    if not errors:
        return Check(
            name, "not applicable", None, "No map has a sum that is defined and large enough to compare."
        )
    worst = max(errors.values())
    said = ", ".join(f"{title} {100 * error:.2g}%" for title, error in errors.items())
    status: CheckStatus = "pass" if worst <= ACCEPTED_ERROR else "warn"
    return Check(
        name, status, worst, f"Median relative error: {said}; up to {100 * ACCEPTED_ERROR:.0f}% is accepted."
    )


def _randomisation_check(found: Sequence[Explained], left: Mapping[str, Randomised], reason: str) -> Check:
    name = "attribution: maps depend on the learned weights"
    if not left:
        return Check(name, "not applicable", None, reason or "No map could be compared.")
    kept = [
        one.method.title for one in found if one.method.key in left and _kept(left[one.method.key]) >= HARDLY
    ]
    said = f"Hardly changed by redrawn weights (ρ ≥ {HARDLY}): {', '.join(kept) or 'none'}."
    return Check(name, "warn" if kept else "pass", len(kept), said)
