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
from studies.ablation.lesion import Lesioned
from studies.ablation.plan import names

_SIGNIFICANT = 0.05
_BARS = 64


def lesion_section(made: Lesioned, right: str, calibration: int) -> Section:
    """Return what lesions of one structure came to.

    ``right`` names what is counted: ``accuracy``, or ``agreement`` where the reference is the network's own answer.
    ``calibration`` is the number of images that re-estimated statistics come from.
    """
    word = made.structure.name
    identity = f"lesion-{made.structure.name}"
    title = f"Lesion: {word}"
    if made.structure.no_effect_reason:
        block = _sites_table(made, right)
        return Section(
            identity,
            title,
            made.structure.no_effect_reason,
            (block,),
            findings=(f"{word}: {made.structure.no_effect_reason}",),
        )
    blocks: list[Block] = [_map(made, right), *_curves(made, right), _sites_table(made, right)]
    blocks += _recalibration(made, right, calibration)
    if made.refused:
        blocks.append(Note("Not cut: " + " ".join(made.refused.values()), "warning"))
    findings = _findings(made, right)
    return Section(identity, title, "", tuple(blocks), results=_results(made, right), findings=findings)


def _findings(made: Lesioned, right: str) -> tuple[str, ...]:
    word, intact, found = made.structure.name, made.intact, []
    together = made.together
    count = len(made.sites)
    if together is not None:
        found.append(
            f"Without any {word} ({count} site{'s' if count > 1 else ''}, weights unchanged) {right} falls from "
            f"{percent(intact.accuracy)} to {percent(together.accuracy, together.ci)} (95% interval, n = {intact.n})."
            if together.accuracy < intact.accuracy
            else f"Without any {word} ({count} site{'s' if count > 1 else ''}, weights unchanged) {right} is "
            f"{percent(together.accuracy, together.ci)} (95% interval, n = {intact.n}); intact it is "
            f"{percent(intact.accuracy)}."
        )
    alone = {site: one for site in made.plan.single if (one := made.alone(site)) is not None}
    if len(alone) > 1:
        worst = min(alone, key=lambda site: (alone[site].right, -alone[site].loss_change))
        harmful = [s for s, one in alone.items() if made.corrected[s] < _SIGNIFICANT and one.lost > one.won]
        tests = "exact McNemar tests, Holm-corrected"
        found.append(
            f"Cut alone, {made.sites[worst].name} matters most: {right} "
            f"{percent(alone[worst].accuracy, alone[worst].ci)}. {len(harmful)} of {len(alone)} single cuts lower it "
            f"significantly ({tests}): {names([made.sites[s].name for s in harmful])}."
            if harmful
            else f"None of the {len(alone)} single cuts lowers {right} significantly ({tests})."
        )
    again = made.recalibrated.get(made.plan.everything)
    if again is not None and together is not None:
        found.append(_recalibrated_words(made, together, again, right))
    return tuple(line for line in found if line)


def _recalibrated_words(made: Lesioned, before: Comparison, after: Comparison, right: str) -> str:
    lost, gained = made.intact.right - before.right, after.right - before.right
    if lost <= 0:
        return ""
    if gained <= 0:
        verdict = "so none of the harm was shifted statistics; what was cut carried information"
    else:
        share = min(1.0, gained / lost)
        verdict = f"so {percent(share)} of the harm was shifted statistics"
        verdict += ", the rest lost information" if share < 1 else ""
    return (
        f"With batch-norm statistics estimated again, the network without any {made.structure.name} reaches "
        f"{percent(after.accuracy, after.ci)} {right}, {verdict}."
    )


def _map(made: Lesioned, right: str) -> Figure:
    """Draw one bar for each site in depth order, coloured by what it is, resizing ones marked."""
    shown = [site for site in made.plan.single if made.alone(site) is not None][:_BARS]
    labels = tuple(made.sites[s].name + (" ↓" if made.sites[s].resizes else "") for s in shown)
    forms: dict[str, list[int]] = {}
    for place, site in enumerate(shown):
        forms.setdefault(_kind(made.sites[site].form), []).append(place)
    if len(forms) > 4:
        forms = {"site": list(range(len(shown)))}
    series = []
    for form, places in forms.items():
        found = [made.alone(shown[place]) for place in places]
        kept = [one for one in found if one is not None]
        series.append(
            Series(
                form,
                tuple(float(place) for place in places),
                tuple(one.accuracy for one in kept),
                tuple(one.ci[0] for one in kept),
                tuple(one.ci[1] for one in kept),
            )
        )
    return Figure(
        f"{right.capitalize()} with one site cut",
        "bar",
        Axis("site (↓ resizes)", categories=labels),
        Axis(right),
        "One bar for each site that is cut alone, from input to output, with its 95% Wilson interval; ↓ marks "
        f"sites that change height and width; intact the network has {percent(made.intact.accuracy)}. High bars: "
        "the network does without this site. Low bars: what comes after depends on it. In residual networks the "
        "sites that change the resolution usually matter most.",
        tuple(series),
    )


def _kind(form: str) -> str:
    """Return a form without its numbers, so that like sites share a colour."""
    return form.split(",")[0].rstrip("0123456789. ")


def _curves(made: Lesioned, right: str) -> list[Figure]:
    sizes = sorted(made.plan.random)
    if len(made.sites) < 2 or not sizes:
        return []
    series = [_random(made, sizes)]
    for label, sets in (
        ("from the input on", made.plan.forward),
        ("from the output back", made.plan.backward),
    ):
        found = [(k, made.sets[sets[k]]) for k in sizes if sets[k] in made.sets]
        points = [(0, made.intact), *found]
        series.append(
            Series(label, tuple(float(k) for k, _ in points), tuple(1 - one.accuracy for _, one in points))
        )
    return [
        Figure(
            "Error against the number of sites cut",
            "line",
            Axis("sites cut at once"),
            Axis("error" if right == "accuracy" else "disagreement"),
            "At k, k sites are cut together: a random choice (mean over the draws, band: from the best to the worst "
            "draw), or the first or last k in depth order. A smooth rise means many paths that can stand in for one "
            "another (Veit et al. 2016); a jump at the first cuts means a chain in which every link counts.",
            tuple(series),
        )
    ]


def _random(made: Lesioned, sizes: Sequence[int]) -> Series:
    intact = 1 - made.intact.accuracy
    xs, ys, low, high = [0.0], [intact], [intact], [intact]
    for k in sizes:
        errors = [1 - made.sets[one].accuracy for one in made.plan.random[k] if one in made.sets]
        if errors:
            xs.append(float(k))
            ys.append(float(np.mean(errors)))
            low.append(min(errors))
            high.append(max(errors))
    return Series("k random sites", tuple(xs), tuple(ys), tuple(low), tuple(high))


def _sites_table(made: Lesioned, right: str) -> Table:
    columns = (
        Column("Site", help="Name of the module it is in; --sites takes these."),
        Column("What", help="What is counted."),
        Column("Shape", help="Channels × height × width of the value there."),
        Column(right.capitalize(), proportion=True, help="With this site cut alone."),
        Column("low", proportion=True, help="Lower end of the 95% Wilson interval."),
        Column("high", proportion=True, help="Upper end of the 95% Wilson interval."),
        Column("Lost", help="Images right only in the intact network."),
        Column("Won", help="Images right only without the site."),
        Column("Flips", help="Images with another answer than the intact network's."),
        Column("p", help="Exact McNemar test of lost against won, Holm-corrected over the sites.", digits=2),
        Column("Loss change", help="Mean change of the cross-entropy, in nats.", digits=2),
        Column("low", help="Lower end of its 95% t-interval.", digits=2),
        Column("high", help="Upper end of its 95% t-interval.", digits=2),
        Column("Parameters", help="That go with the site."),
        Column("MACs", help="Multiply-accumulates for one image that go with the site."),
    )
    rows = tuple(_site_row(made, site) for site in made.plan.single)
    left = len(made.sites) - len(rows)
    return Table(
        f"Every {made.structure.name}, cut alone",
        columns,
        rows,
        "Sorted from input to output. Small p: more answers were lost than chance explains."
        + (f" {left} further sites were not cut alone (--max-sites)." if left else ""),
    )


def _site_row(made: Lesioned, number: int) -> tuple[Cell, ...]:
    site, one, cost = made.sites[number], made.alone(number), made.costs.get(number)
    head = (site.name, site.form, "×".join(map(str, site.shape)))
    if one is None or cost is None or made.whole is None:
        return (*head, *[None] * 12)
    low, high = one.loss_ci or (None, None)
    return (
        *head,
        one.accuracy,
        *one.ci,
        one.lost,
        one.won,
        one.changed,
        made.corrected[number],
        finite(one.loss_change),
        low,
        high,
        made.whole.parameters - cost.parameters,
        made.whole.macs - cost.macs,
    )


def _recalibration(made: Lesioned, right: str, calibration: int) -> list[Block]:
    if not made.recalibrated:
        return []
    rows = tuple(_recalibrated_row(made, one, again) for one, again in made.recalibrated.items())
    table = Table(
        "With batch-norm statistics estimated again",
        (
            Column("Cut", help="What was cut together."),
            Column(right.capitalize(), proportion=True, help="As it is, statistics of the intact network."),
            Column("again", proportion=True, help="After the statistics were estimated again."),
            Column("low", proportion=True, help="Lower end of the 95% Wilson interval."),
            Column("high", proportion=True, help="Upper end of the 95% Wilson interval."),
            Column("p", help="Exact McNemar test against the intact network.", digits=2),
        ),
        rows,
        f"Means and variances of all batch normalisation re-estimated on {calibration} images, weights unchanged. What "
        "comes back was shifted statistics; what stays lost was information. The first row is the intact network with "
        "statistics estimated again: what this itself changes.",
    )
    return [table]


def _recalibrated_row(made: Lesioned, one: frozenset[int], again: Comparison) -> tuple[Cell, ...]:
    if not one:
        label = "nothing"
    elif one == made.plan.everything and len(made.sites) > 1:
        label = f"all {len(made.sites)}"
    else:
        label = names([made.sites[site].name for site in sorted(one)])
    before = made.intact if not one else made.sets[one]
    return label, before.accuracy, again.accuracy, *again.ci, again.p


def _results(made: Lesioned, right: str) -> tuple[Result, ...]:
    word, n = made.structure.name, made.intact.n
    found = []
    if made.together is not None:
        found.append(
            Result.proportion(
                f"lesion_{right}:{word}:all",
                made.together.right,
                n,
                higher_is_better=True,
                per_image=f"lesions.{made.structure.text}.right",
            )
        )
        found.append(Result(f"lesion_p:{word}:all", made.together.p, n))
    for site in made.plan.single:
        one = made.alone(site)
        if one is not None:
            name = f"{word}:{made.sites[site].name}"
            found.append(Result.proportion(f"lesion_{right}:{name}", one.right, n, higher_is_better=True))
            found.append(
                Result(f"lesion_loss_change:{name}", finite(one.loss_change), n, one.loss_ci, "nats")
            )
            found.append(Result(f"lesion_p_holm:{name}", made.corrected[site], n))
    for k, errors in _draw_errors(made).items():
        found.append(
            Result(f"lesion_error:{word}:{k} random", float(np.mean(errors)), n, _mean_interval(errors))
        )
    again = made.recalibrated.get(made.plan.everything)
    if again is not None:
        found.append(
            Result.proportion(f"recalibrated_{right}:{word}:all", again.right, n, higher_is_better=True)
        )
    return tuple(found)


def _draw_errors(made: Lesioned) -> Mapping[int, list[float]]:
    return {
        k: errors
        for k, draws in made.plan.random.items()
        if (errors := [1 - made.sets[one].accuracy for one in draws if one in made.sets])
    }


def _mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    low, high = stats.t_interval(values)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
