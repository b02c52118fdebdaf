"""Lesions as a section of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from probe.core import stats
from probe.core.document import (
    Axis,
    Block,
    Cell,
    Column,
    Figure,
    Note,
    Result,
    Section,
    Series,
    Table,
    finite,
    percent,
)
from studies.ablation.evaluate import Comparison
from studies.ablation.lesion import LesionResult
from studies.ablation.plan import names

_SIGNIFICANT = 0.05
_BARS = 64


def lesion_section(lesioned: LesionResult, measure: str, calibration: int) -> Section:
    """Return the section of the lesions of one structure.

    ``measure`` is ``accuracy``, or ``agreement`` where the reference is the network's own prediction.
    ``calibration`` is the number of images on which statistics were re-estimated.
    """
    word = lesioned.structure.name
    identity = f"lesion-{lesioned.structure.name}"
    title = f"Lesion: {word}"
    if lesioned.structure.no_effect_reason:
        block = _sites_table(lesioned, measure)
        return Section(
            identity,
            title,
            lesioned.structure.no_effect_reason,
            (block,),
            findings=(f"{word}: {lesioned.structure.no_effect_reason}",),
        )
    blocks: list[Block] = [
        _map(lesioned, measure),
        *_curves(lesioned, measure),
        _sites_table(lesioned, measure),
    ]
    blocks += _recalibration(lesioned, measure, calibration)
    if lesioned.refused:
        blocks.append(Note("Not cut: " + " ".join(lesioned.refused.values()), "warning"))
    findings = _findings(lesioned, measure)
    return Section(identity, title, "", tuple(blocks), results=_results(lesioned, measure), findings=findings)


def _findings(lesioned: LesionResult, measure: str) -> tuple[str, ...]:
    word, intact, lines = lesioned.structure.name, lesioned.intact, []
    together = lesioned.together
    count = len(lesioned.sites)
    if together is not None:
        lines.append(
            f"Without any {word} ({count} site{'s' if count > 1 else ''}, weights unchanged) {measure} falls from "
            f"{percent(intact.accuracy)} to {percent(together.accuracy, together.ci)} (95% interval, n = {intact.n})."
            if together.accuracy < intact.accuracy
            else f"Without any {word} ({count} site{'s' if count > 1 else ''}, weights unchanged) {measure} is "
            f"{percent(together.accuracy, together.ci)} (95% interval, n = {intact.n}); intact it is "
            f"{percent(intact.accuracy)}."
        )
    alone = {
        site: comparison for site in lesioned.plan.single if (comparison := lesioned.alone(site)) is not None
    }
    if len(alone) > 1:
        worst = min(alone, key=lambda site: (alone[site].n_correct, -alone[site].loss_change))
        harmful = [
            s
            for s, comparison in alone.items()
            if lesioned.corrected[s] < _SIGNIFICANT and comparison.lost > comparison.won
        ]
        tests = "exact McNemar tests, Holm-corrected"
        lines.append(
            f"Cut alone, {lesioned.sites[worst].name} matters most: {measure} "
            f"{percent(alone[worst].accuracy, alone[worst].ci)}. {len(harmful)} of {len(alone)} single cuts lower it "
            f"significantly ({tests}): {names([lesioned.sites[s].name for s in harmful])}."
            if harmful
            else f"None of the {len(alone)} single cuts lowers {measure} significantly ({tests})."
        )
    again = lesioned.recalibrated.get(lesioned.plan.everything)
    if again is not None and together is not None:
        lines.append(_recalibration_text(lesioned, together, again, measure))
    return tuple(line for line in lines if line)


def _recalibration_text(lesioned: LesionResult, before: Comparison, after: Comparison, measure: str) -> str:
    lost, gained = lesioned.intact.n_correct - before.n_correct, after.n_correct - before.n_correct
    if lost <= 0:
        return ""
    if gained <= 0:
        verdict = "so none of the loss is due to shifted statistics; the removed part carried information"
    else:
        share = min(1.0, gained / lost)
        verdict = f"so {percent(share)} of the loss is due to shifted statistics"
        verdict += ", the rest to lost information" if share < 1 else ""
    return (
        f"With batch-norm statistics estimated again, the network without any {lesioned.structure.name} reaches "
        f"{percent(after.accuracy, after.ci)} {measure}, {verdict}."
    )


def _map(lesioned: LesionResult, measure: str) -> Figure:
    """Draw one bar for each site in depth order, coloured by kind; sites that change the resolution are marked."""
    bars = [site for site in lesioned.plan.single if lesioned.alone(site) is not None][:_BARS]
    labels = tuple(lesioned.sites[s].name + (" ↓" if lesioned.sites[s].resizes else "") for s in bars)
    forms: dict[str, list[int]] = {}
    for place, site in enumerate(bars):
        forms.setdefault(_kind(lesioned.sites[site].form), []).append(place)
    if len(forms) > 4:
        forms = {"site": list(range(len(bars)))}
    series = []
    for form, places in forms.items():
        comparisons = [lesioned.alone(bars[place]) for place in places]
        measured = [comparison for comparison in comparisons if comparison is not None]
        series.append(
            Series(
                form,
                tuple(float(place) for place in places),
                tuple(comparison.accuracy for comparison in measured),
                tuple(comparison.ci[0] for comparison in measured),
                tuple(comparison.ci[1] for comparison in measured),
            )
        )
    return Figure(
        f"{measure.capitalize()} with one site cut",
        "bar",
        Axis("site (↓ resizes)", categories=labels),
        Axis(measure),
        "One bar for each site that is cut alone, from input to output, with its 95% Wilson interval; ↓ marks "
        f"sites that change height and width; intact the network has {percent(lesioned.intact.accuracy)}. High bars: "
        "the network does not need this site. Low bars: later layers depend on it. In residual networks the "
        "sites that change the resolution usually matter most.",
        tuple(series),
    )


def _kind(form: str) -> str:
    """Return a form without its numbers, so that similar sites share a colour."""
    return form.split(",")[0].rstrip("0123456789. ")


def _curves(lesioned: LesionResult, measure: str) -> list[Figure]:
    sizes = sorted(lesioned.plan.random)
    if len(lesioned.sites) < 2 or not sizes:
        return []
    series = [_random(lesioned, sizes)]
    for label, sets in (
        ("from the input on", lesioned.plan.forward),
        ("from the output back", lesioned.plan.backward),
    ):
        steps = [(k, lesioned.sets[sets[k]]) for k in sizes if sets[k] in lesioned.sets]
        points = [(0, lesioned.intact), *steps]
        series.append(
            Series(
                label,
                tuple(float(k) for k, _ in points),
                tuple(1 - comparison.accuracy for _, comparison in points),
            )
        )
    return [
        Figure(
            "Error against the number of sites cut",
            "line",
            Axis("sites cut at once"),
            Axis("error" if measure == "accuracy" else "disagreement"),
            "At k, k sites are cut together: a random choice (mean over the draws, band: from the best to the "
            "worst draw), or the first or last k in depth order. A smooth rise means many paths that can replace "
            "one another (Veit et al. 2016); a jump at the first cuts means a chain in which every link is "
            "needed.",
            tuple(series),
        )
    ]


def _random(lesioned: LesionResult, sizes: Sequence[int]) -> Series:
    intact = 1 - lesioned.intact.accuracy
    xs, ys, low, high = [0.0], [intact], [intact], [intact]
    for k in sizes:
        errors = [
            1 - lesioned.sets[sites].accuracy for sites in lesioned.plan.random[k] if sites in lesioned.sets
        ]
        if errors:
            xs.append(float(k))
            ys.append(float(np.mean(errors)))
            low.append(min(errors))
            high.append(max(errors))
    return Series("k random sites", tuple(xs), tuple(ys), tuple(low), tuple(high))


def _sites_table(lesioned: LesionResult, measure: str) -> Table:
    columns = (
        Column("Site", help="Name of the module that contains it, for --sites."),
        Column("What", help="The kind of site."),
        Column("Shape", help="Channels × height × width of the value there."),
        Column(measure.capitalize(), proportion=True, help="With this site cut alone."),
        *Column.interval(proportion=True),
        Column("Lost", help="Images that only the intact network classifies correctly."),
        Column("Won", help="Images that only the network without the site classifies correctly."),
        Column("Flips", help="Images whose prediction differs from the intact network's."),
        Column("p", help="Exact McNemar test of lost against won, Holm-corrected over the sites.", digits=2),
        Column("Loss change", help="Mean change of the cross-entropy, in nats.", digits=2),
        *Column.interval("its 95% t-interval", digits=2),
        Column("Parameters", help="Parameters that are removed with the site."),
        Column("MACs", help="Multiply-accumulates for one image that are removed with the site."),
    )
    rows = tuple(_site_row(lesioned, site) for site in lesioned.plan.single)
    n_uncut = len(lesioned.sites) - len(rows)
    return Table(
        f"Every {lesioned.structure.name}, cut alone",
        columns,
        rows,
        "Sorted from input to output. Small p: more correct predictions were lost than chance explains."
        + (f" {n_uncut} other sites were not cut alone (--max-sites)." if n_uncut else ""),
    )


def _site_row(lesioned: LesionResult, number: int) -> tuple[Cell, ...]:
    site, comparison, cost = lesioned.sites[number], lesioned.alone(number), lesioned.costs.get(number)
    head = (site.name, site.form, "×".join(map(str, site.shape)))
    if comparison is None or cost is None or lesioned.whole is None:
        return (*head, *[None] * 12)
    low, high = comparison.loss_ci or (None, None)
    return (
        *head,
        comparison.accuracy,
        *comparison.ci,
        comparison.lost,
        comparison.won,
        comparison.changed,
        lesioned.corrected[number],
        finite(comparison.loss_change),
        low,
        high,
        lesioned.whole.parameters - cost.parameters,
        lesioned.whole.macs - cost.macs,
    )


def _recalibration(lesioned: LesionResult, measure: str, calibration: int) -> list[Block]:
    if not lesioned.recalibrated:
        return []
    rows = tuple(_recalibration_row(lesioned, sites, again) for sites, again in lesioned.recalibrated.items())
    table = Table(
        "With batch-norm statistics estimated again",
        (
            Column("Cut", help="What was cut together."),
            Column(measure.capitalize(), proportion=True, help="With the statistics of the intact network."),
            Column("again", proportion=True, help="After the statistics were estimated again."),
            *Column.interval(proportion=True),
            Column("p", help="Exact McNemar test against the intact network.", digits=2),
        ),
        rows,
        f"Means and variances of all batch normalisation re-estimated on {calibration} images, weights unchanged. "
        "Accuracy that comes back was lost to shifted statistics; the rest was lost information. The first row "
        "is the intact network with statistics estimated again: it shows the effect of re-estimation alone.",
    )
    return [table]


def _recalibration_row(lesioned: LesionResult, sites: frozenset[int], again: Comparison) -> tuple[Cell, ...]:
    if not sites:
        label = "nothing"
    elif sites == lesioned.plan.everything and len(lesioned.sites) > 1:
        label = f"all {len(lesioned.sites)}"
    else:
        label = names([lesioned.sites[site].name for site in sorted(sites)])
    before = lesioned.intact if not sites else lesioned.sets[sites]
    return label, before.accuracy, again.accuracy, *again.ci, again.p


def _results(lesioned: LesionResult, measure: str) -> tuple[Result, ...]:
    word, n = lesioned.structure.name, lesioned.intact.n
    results = []
    if lesioned.together is not None:
        results.append(
            Result.proportion(
                f"lesion_{measure}:{word}:all",
                lesioned.together.n_correct,
                n,
                higher_is_better=True,
                per_image=f"lesions.{lesioned.structure.text}.right",
            )
        )
        results.append(Result(f"lesion_p:{word}:all", lesioned.together.p, n))
    for site in lesioned.plan.single:
        comparison = lesioned.alone(site)
        if comparison is not None:
            name = f"{word}:{lesioned.sites[site].name}"
            results.append(
                Result.proportion(f"lesion_{measure}:{name}", comparison.n_correct, n, higher_is_better=True)
            )
            results.append(
                Result(
                    f"lesion_loss_change:{name}",
                    finite(comparison.loss_change),
                    n,
                    comparison.loss_ci,
                    "nats",
                )
            )
            results.append(Result(f"lesion_p_holm:{name}", lesioned.corrected[site], n))
    for k, errors in _draw_errors(lesioned).items():
        results.append(
            Result(f"lesion_error:{word}:{k} random", float(np.mean(errors)), n, _mean_interval(errors))
        )
    again = lesioned.recalibrated.get(lesioned.plan.everything)
    if again is not None:
        results.append(
            Result.proportion(f"recalibrated_{measure}:{word}:all", again.n_correct, n, higher_is_better=True)
        )
    return tuple(results)


def _draw_errors(lesioned: LesionResult) -> Mapping[int, list[float]]:
    return {
        k: errors
        for k, draws in lesioned.plan.random.items()
        if (errors := [1 - lesioned.sets[sites].accuracy for sites in draws if sites in lesioned.sets])
    }


def _mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    low, high = stats.t_interval(values)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
