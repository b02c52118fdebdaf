"""The sites whose loss hurts most, on clean images and on the attack's."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.report import Axis, Cell, Column, Figure, Result, Section, Series, Table, finite, percent
from probe.core.stats import holm
from probe.dossier.measure import Attacked, Loss
from studies.ablation.score import Comparison


def sites_section(structures: dict[str, tuple[Loss, ...]], seen: Attacked, labelled: bool) -> Section:
    """Return accuracy without each site, clean and attacked, the most harmful first."""
    every = [(word, loss) for word, losses in structures.items() for loss in losses]
    if not every:
        reason = "The network has no block, shortcut, branch or layer that can be taken out alone."
        return Section("sites", "Sites: clean and robust", reason=reason)
    ps = holm([p for _, loss in every for p in (loss.clean.p, loss.attacked.p)])
    rows = [_row(word, loss, ps[2 * i], ps[2 * i + 1]) for i, (word, loss) in enumerate(every)]
    rows.sort(key=lambda row: (_number(row[2]) + _number(row[5]), str(row[0]), str(row[1])))
    measure = "accuracy" if labelled else "agreement"
    figure = Figure(
        "What each site is worth, clean and attacked",
        "scatter",
        Axis("rise of the loss on clean images (nats)"),
        Axis("rise on attacked images (nats)"),
        "One point a site. Far to the right: needed for clean images; high up: needed for attacked ones. Below 0 the "
        "network does better on the attack's images without the site: the attack was made for the network with it.",
        tuple(
            Series(
                word,
                tuple(loss.clean.loss_change for loss in losses),
                tuple(loss.attacked.loss_change for loss in losses),
            )
            for word, losses in structures.items()
        ),
    )
    table = Table(
        "Without each site",
        (
            Column("Structure"),
            Column("Site"),
            Column(f"Clean {measure}", proportion=True),
            Column("Change", unit="points", help="Against the intact network, on the same images."),
            Column(
                "p, Holm",
                digits=2,
                help=f"Exact McNemar test, corrected for all {len(ps)} tests of this table.",
            ),
            Column(
                f"Attacked {measure}",
                proportion=True,
                help="On the images of the attack on the intact network.",
            ),
            Column("Change, attacked", unit="points"),
            Column("p, Holm, attacked", digits=2),
            Column("Loss, clean", unit="nats", help="Rise of the mean cross-entropy."),
            Column("Loss, attacked", unit="nats"),
        ),
        tuple(rows),
        "What hurts both most stands first.",
    )
    first = every[0][1]
    clean, hit = (_intact(one) / one.n for one in (first.clean, first.attacked))
    summary = (
        f"Intact: {percent(clean)} on {first.clean.n} clean images, {percent(hit)} on the attack's at epsilon "
        f"{seen.epsilon:.4g} (the one of the curve that leaves nearest to half of the right images standing). The "
        "attack's images were made against the intact network and are the same for all: a network without a site is "
        "not attacked anew, so this is no robust accuracy of its own."
    )
    return Section(
        "sites",
        "Sites: clean and robust",
        summary,
        (figure, table),
        results=_results(every),
        findings=_finding(rows, measure),
    )


def _intact(one: Comparison) -> int:
    """Return how many images the intact network has right."""
    return one.right + one.lost - one.won


def _row(word: str, loss: Loss, p: float, p_attacked: float) -> tuple[Cell, ...]:
    clean, hit = loss.clean, loss.attacked
    return (
        word,
        loss.site,
        clean.accuracy,
        100 * clean.difference,
        p,
        hit.accuracy,
        100 * hit.difference,
        p_attacked,
        finite(clean.loss_change),
        finite(hit.loss_change),
    )


def _number(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float) else 0.0


def _results(every: Sequence[tuple[str, Loss]]) -> tuple[Result, ...]:
    found = []
    for word, loss in every:
        for name, one in (("clean", loss.clean), ("attacked", loss.attacked)):
            found.append(
                Result(f"without_{word}:{loss.site}:{name}", one.accuracy, one.n, one.ci, "proportion", True)
            )
    return tuple(found)


def _finding(rows: Sequence[tuple[Cell, ...]], measure: str) -> tuple[str, ...]:
    worst = rows[0]
    clean, hit = _number(worst[3]), _number(worst[6])
    return (
        f"The site whose loss hurts most is {worst[0]} {worst[1]}: clean {measure} changes by {clean:+.1f} points, "
        f"{measure} on the attack's images by {hit:+.1f}.".replace("-", "−"),
    )
