"""Lesions as a section of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from probe.core import stats
from probe.core.blocks import Axis, Block, Cell, Column, Figure, Note, Series, Table
from probe.core.document import Result, Section, finite, percent
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
        harmful = [
            s
            for s, comparison in alone.items()
            if lesioned.corrected[s] < _SIGNIFICANT and comparison.lost > comparison.won
        ]
        tests = "exact McNemar tests, Holm-corrected"
        lines.append(
            f"{_most_harmful(lesioned, alone, measure)} {len(harmful)} of {len(alone)} single cuts lower it "
            f"significantly ({tests}): {names([lesioned.sites[s].name for s in harmful])}."
            if harmful
            else f"None of the {len(alone)} single cuts lowers {measure} significantly ({tests})."
        )
    again = lesioned.recalibrated.get(lesioned.plan.everything)
    if again is not None and together is not None:
        lines.append(_recalibration_text(lesioned, together, again, measure))
    return tuple(line for line in lines if line)


def _most_harmful(lesioned: LesionResult, alone: Mapping[int, Comparison], measure: str) -> str:
    """Name the single cut with the lowest accuracy; ties are named, and the loss breaks them."""
    lowest = min(comparison.n_correct for comparison in alone.values())
    tied = [site for site, comparison in alone.items() if comparison.n_correct == lowest]
    tied.sort(key=lambda site: -_or_zero(alone[site].loss_change))
    first = alone[tied[0]]
    value = percent(first.accuracy, first.ci)
    if len(tied) == 1:
        return f"In this sample, cutting {lesioned.sites[tied[0]].name} alone costs most: {measure} {value}."
    listed = names([lesioned.sites[site].name for site in tied])
    return (
        f"In this sample, {len(tied)} sites cost most when cut alone, equally ({listed}): {measure} {value}; of these, "
        f"{lesioned.sites[tied[0]].name} raises the loss most ({first.loss_change:+.2g} nats)."
    )


def _or_zero(value: float) -> float:
    return value if np.isfinite(value) else 0.0


def _recalibration_text(lesioned: LesionResult, before: Comparison, after: Comparison, measure: str) -> str:
    """Write what estimating the statistics again recovers, with the intact network as the control."""
    n, lost = lesioned.intact.n, lesioned.intact.n_correct - before.n_correct
    if lost <= 0:
        return ""
    gained = after.n_correct - before.n_correct
    outcome = (
        f"{gained} of the {lost} correct answers that the cut cost come back"
        if gained >= 0
        else f"{-gained} more correct answers are lost, beside the {lost} that the cut cost"
    )
    text = (
        f"With batch-norm statistics estimated again, the network without any {lesioned.structure.name} reaches "
        f"{percent(after.accuracy, after.ci)} {measure}: {outcome} (n = {n})."
    )
    control = lesioned.recalibrated.get(frozenset())
    if control is None:
        return text
    change = control.n_correct - lesioned.intact.n_correct
    effect = f"changes the number by {change:+d}" if change else "changes nothing"
    return f"{text} In the intact network the same {effect}."


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
        f"sites that change height and width; intact the network has {percent(lesioned.intact.accuracy)}. A low bar: "
        "with the weights as they are, many predictions are lost without this site. Differences between "
        "sites were not tested.",
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
            "At k, k sites are cut together: a random choice (mean over the draws, band: from the lowest to the "
            "highest draw), or the first or last k in depth order. Veit et al. (2016) explain a smooth rise by many paths "
            "that can replace one another; a jump at the first cuts is what a chain would give in which every link is "
            "needed. The curve alone does not prove either.",
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
    level = _joint_level(lesioned)
    level_text = f"{100 * level:.4g}%"
    columns = (
        Column("Site", help="Name of the module that contains it, for --sites."),
        Column("What", help="The kind of site."),
        Column("Shape", help="Channels × height × width of the value there."),
        Column(measure.capitalize(), proportion=True, help="With this site cut alone."),
        Column("Change", unit="points", help="Against the intact network."),
        *Column.interval(f"its {level_text} interval (Newcombe 1998, paired)"),
        Column("Lost", help="Images that only the intact network classifies correctly."),
        Column("Won", help="Images that only the network without the site classifies correctly."),
        Column("Flips", help="Images whose prediction differs from the intact network's."),
        Column("p", help="Exact McNemar test of lost against won, Holm-corrected over the sites.", digits=2),
        Column("Loss change", help="Mean change of the cross-entropy, in nats.", digits=2),
        *Column.interval(f"its {level_text} t-interval", digits=2),
        Column("Parameters", help="Parameters that are removed with the site."),
        Column("MACs", help="Multiply-accumulates for one image that are removed with the site."),
    )
    rows = tuple(_site_row(lesioned, site, level) for site in lesioned.plan.single)
    n_uncut = len(lesioned.sites) - len(rows)
    return Table(
        f"Every {lesioned.structure.name}, cut alone",
        columns,
        rows,
        "Sorted from input to output. Small p: more correct predictions were lost than chance explains. The intervals are "
        f"at {level_text}, so that all of them together hold with 95% (Bonferroni)."
        + (f" {n_uncut} other sites were not cut alone (--max-sites)." if n_uncut else ""),
    )


def _joint_level(lesioned: LesionResult) -> float:
    """Return the level at which the intervals of all single cuts hold together with 95%."""
    return 1 - _SIGNIFICANT / max(1, len(lesioned.corrected))


def _site_row(lesioned: LesionResult, number: int, level: float) -> tuple[Cell, ...]:
    site, comparison, cost = lesioned.sites[number], lesioned.alone(number), lesioned.costs.get(number)
    head = (site.name, site.form, "×".join(map(str, site.shape)))
    if comparison is None or cost is None or lesioned.whole is None:
        return (*head, *[None] * 13)
    both = comparison.n_correct - comparison.won
    neither = comparison.n - both - comparison.won - comparison.lost
    bounds = stats.newcombe_paired(both, comparison.lost, comparison.won, neither, level)
    low, high = _loss_interval(comparison, level)
    return (
        *head,
        comparison.accuracy,
        100 * comparison.difference,
        *(100 * bound for bound in bounds),
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


def _loss_interval(comparison: Comparison, level: float) -> tuple[float | None, float | None]:
    """Return the t-interval of the loss change at another level than 95%."""
    if comparison.loss_ci is None or not np.isfinite(comparison.loss_change):
        return None, None
    wider = stats.t_quantile(comparison.n, level) / stats.t_quantile(comparison.n)
    return tuple(
        comparison.loss_change + wider * (bound - comparison.loss_change) for bound in comparison.loss_ci
    )  # type: ignore[return-value]


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
        "What comes back is what shifted statistics had cost; what does not come back is not explained by this. The first "
        "row, the control, is the intact network with statistics estimated again.",
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
            Result(
                f"lesion_error:{word}:{k} random",
                float(np.mean(errors)),
                len(errors),
                stats.mean_proportion(errors, n) if len(errors) > 1 else None,
                "proportion",
            )
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
