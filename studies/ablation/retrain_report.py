"""Retrained arms as sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from probe.core.document import (
    Axis,
    Block,
    Cell,
    Check,
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
from probe.graph.edit.structure import SWAP
from studies.ablation.arms import TrainedArm
from studies.ablation.evaluate import interval, mean, paired
from studies.ablation.retrain import Retrained, Variant, label_of, named


def _band(rows: Sequence[Sequence[float]], label: str) -> Series:
    """Return the mean over seeds along the epochs, with a band from the lowest to the highest seed."""
    shortest = min(map(len, rows), default=0)
    table = np.array([row[:shortest] for row in rows])
    return Series(
        label,
        tuple(float(epoch + 1) for epoch in range(shortest)),
        tuple(table.mean(0)) if shortest else (),
        tuple(table.min(0)) if shortest else (),
        tuple(table.max(0)) if shortest else (),
    )


def curves_figure(made: Retrained, depth: int | None) -> Figure:
    """Draw held-out accuracy along training, with the band of all seeds."""
    series = [
        _band([one.curve for one in made.of(v, depth) if one.curve], named(v, depth, False))
        for v in made.variants
        if any(one.curve for one in made.of(v, depth))
    ]
    where = f" at depth {depth}" if len(made.depths) > 1 else ""
    return Figure(
        f"Held-out accuracy along training{where}",
        "line",
        Axis("epoch"),
        Axis("held-out accuracy"),
        "Mean over seeds; the band goes from the lowest to the highest seed. Bands that part early show a "
        "structure that makes training easier; bands that meet at the end, one that only makes it faster.",
        tuple(series),
    )


def learning_curves(made: Retrained) -> list[dict[str, Any]]:
    """Return held-out accuracy along the epochs of every arm as plain values: label, x, y, low, high."""
    found = []
    for depth in made.depths:
        for series in curves_figure(made, depth).series:
            at = f" at depth {depth}" if len(made.depths) > 1 else ""
            found.append({**asdict(series), "label": f"{series.label}{at}"})
    return found


def loss_figure(made: Retrained, depth: int | None) -> Figure:
    """Draw the training loss along training, with the band of all seeds."""
    series = [
        _band([[e.loss for e in one.history] for one in made.of(v, depth) if one.history], label_of(v))
        for v in made.variants
        if any(one.history for one in made.of(v, depth))
    ]
    guess = float(np.log(made.setting.num_classes))
    return Figure(
        "Training loss" + (f" at depth {depth}" if len(made.depths) > 1 else ""),
        "line",
        Axis("epoch"),
        Axis("cross-entropy, nats"),
        f"Mean over seeds with the band of all seeds. A network that stays at {guess:.2f} (log of the number of "
        "classes) has learned nothing: it is dead.",
        tuple(series),
    )


def depth_figure(made: Retrained, train: bool) -> Figure:
    """Draw training or held-out error against depth, with t-intervals over seeds."""
    series = []
    for variant in made.variants:
        xs, ys, low, high = [], [], [], []
        for depth in made.depths:
            arms = made.of(variant, depth)
            errors = [one.train_error if train else 1 - one.accuracy for one in arms]
            middle = mean(errors)
            if middle is None or depth is None:
                continue
            bounds = interval(errors) or (middle, middle)
            xs.append(float(depth))
            ys.append(middle)
            low.append(max(0.0, bounds[0]))
            high.append(min(1.0, bounds[1]))
        series.append(Series(label_of(variant), tuple(xs), tuple(ys), tuple(low), tuple(high)))
    what = "Training" if train else "Held-out"
    return Figure(
        f"{what} error against depth",
        "line",
        Axis("depth (layers with weights)"),
        Axis(f"{what.lower()} error"),
        "Mean over seeds with its 95% t-interval. "
        + (
            "Rising with depth it shows degradation (He et al. 2015): deeper networks that fit even their training "
            "images worse, which is no overfitting."
            if train
            else "With shortcuts more depth does no harm; without them it does, once gradients no longer get through."
        ),
        tuple(series),
    )


_SAME_SIZE = 0.01


def retrain_section(made: Retrained) -> Section:
    """Return accuracies, learning curves and differences of all arms at the network's own depth or depths."""
    depth = made.depths[-1]
    findings = tuple(
        line for variant in made.variants[1:] for line in _difference_words(made, variant, depth)
    )
    blocks: list[Block] = [_accuracy_table(made)]
    if len(made.depths) > 1:
        blocks += [depth_figure(made, train=True), depth_figure(made, train=False)]
        findings = (*findings, *_degradation_words(made))
    blocks += [curves_figure(made, depth), loss_figure(made, depth), *_notes(made)]
    return Section(
        "retrain",
        "Retrain: built without, trained again"
        if not any(text.startswith(SWAP) for variant in made.variants for text in variant)
        else "Retrain: built in another way, trained again",
        _what(made),
        tuple(blocks),
        results=_results(made),
        checks=_checks(made),
        findings=findings,
    )


def _what(made: Retrained) -> str:
    setting = made.setting
    seeds = len(made.of((), made.depths[0]))
    recipe = setting.recipe
    return (
        f"Every arm from random weights with the same recipe, order of images and budget: {recipe.epochs} epochs of "
        f"{recipe.optimiser.upper() if recipe.optimiser == 'sgd' else 'AdamW'} (peak learning rate {recipe.lr:g}) on "
        f"{len(setting.labels):,} images, measured on {len(setting.held_labels):,} held-out ones ({made.split}), "
        f"{seeds} seed{'s' if seeds > 1 else ''}. The same seed gives arms the same first weights."
    )


def _difference_words(made: Retrained, variant: Variant, depth: int | None) -> list[str]:
    intact, cut = made.accuracies((), depth), made.accuracies(variant, depth)
    difference, ci, p = paired(intact, cut)
    many = len(made.depths) > 1
    if difference is None:
        return [f"{named(variant, depth, many).capitalize()}: no training ended with finite numbers."]
    first, second = (percent(mean(values.tolist()) or 0.0) for values in (intact, cut))
    told = " (one seed: no interval)"
    if ci is not None and p is not None:
        test = f"95% t-interval, paired t-test over {len(intact)} seeds p = {p:.2g}"
        told = f" [{100 * ci[0]:.1f}, {100 * ci[1]:.1f}] ({test})"
    where = f" at depth {depth}" if many else ""
    return [
        f"Trained {label_of(variant)}{where} the network reaches {second} held-out accuracy, intact {first}: "
        f"{_what_it_is(variant)} {100 * difference:.1f} points{told}."
    ]


def _what_it_is(variant: Variant) -> str:
    if any(text.startswith(SWAP) for text in variant):
        return "the intact network is better by"
    return f"{' and '.join(variant)}: worth"


def _degradation_words(made: Retrained) -> list[str]:
    """Say whether deeper networks have higher training error, with and without the structure."""
    first, last = made.depths[0], made.depths[-1]
    lines = []
    for variant in made.variants:
        by_seed = [[one.train_error for one in made.of(variant, depth)] for depth in (first, last)]
        errors = [mean(values) for values in by_seed]
        if errors[0] is None or errors[1] is None:
            continue
        # Degradation is claimed only where every seed shows it.
        rises = min(by_seed[1]) > max(by_seed[0])
        bounds = interval(by_seed[1])
        within = (
            "" if bounds is None else f" [{100 * max(0.0, bounds[0]):.0f}, {100 * min(1.0, bounds[1]):.0f}]"
        )
        lines.append(
            f"{label_of(variant).capitalize()}, training error goes from {percent(errors[0])} at depth {first} to "
            f"{percent(errors[1])}{within} at depth {last}"
            + (": the deeper network is harder to train (degradation)." if rises and variant else ".")
        )
    return lines


def _accuracy_table(made: Retrained) -> Table:
    rows = [_accuracy_row(made, v, d) for d in made.depths for v in made.variants]
    return Table(
        "Arms",
        (
            Column("Arm", help="One variant of the network, trained from random weights."),
            Column("Seeds", help="Trainings; each arm has the same ones."),
            Column("Held-out accuracy", proportion=True, help="Mean over seeds."),
            Column("low", proportion=True, help="Lower end of the mean's 95% t-interval."),
            Column("high", proportion=True, help="Upper end of the mean's 95% t-interval."),
            Column("Training accuracy", proportion=True, help="Mean over seeds, in eval mode."),
            Column("Worth", unit="points", help="Intact minus this arm, mean over seeds.", digits=3),
            Column("low", help="Lower end of its 95% t-interval.", digits=3),
            Column("high", help="Upper end of its 95% t-interval.", digits=3),
            Column("p", help="Paired t-test over seeds.", digits=2),
            Column("Dead networks", help="Never left the loss of guessing."),
            Column("Diverged", help="Stopped at a loss or gradient that is not finite."),
            Column("Dead units", proportion=True, help="ReLU channels that no held-out image fires."),
        ),
        tuple(rows),
        "Worth is what the intact network is better by; an interval that holds 0 means that these seeds do not tell.",
    )


def _accuracy_row(made: Retrained, variant: Variant, depth: int | None) -> tuple[Cell, ...]:
    arms = made.of(variant, depth)
    accuracy = made.accuracies(variant, depth)
    ci = interval(accuracy.tolist()) or (None, None)
    worth: tuple[Cell, ...] = (None, None, None, None)
    if variant:
        difference, bounds, p = paired(made.accuracies((), depth), accuracy)
        low, high = bounds or (None, None)
        worth = (_points(difference), _points(low), _points(high), p)
    units = sum(one.units for one in arms)
    return (
        named(variant, depth, len(made.depths) > 1),
        len(arms),
        mean(accuracy.tolist()),
        *(None if bound is None else min(max(bound, 0.0), 1.0) for bound in ci),
        mean([1 - one.train_error for one in arms]),
        *worth,
        sum(made.dead(one) for one in arms),
        sum(one.fault is not None for one in arms),
        sum(one.dead for one in arms) / units if units else None,
    )


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _notes(made: Retrained) -> list[Block]:
    notes: list[Block] = []
    for arms in made.arms.values():
        for one in arms:
            if one.fault is not None:
                notes.append(Note(_fault_words(one), "warning"))
    return notes


def _fault_words(one: TrainedArm) -> str:
    fault = one.fault
    if fault is None:
        return ""
    norms = ", ".join(f"{name} {norm:.2g}" for name, norm in fault.last_norms[:6])
    where = f" of {fault.layer}" if fault.layer else ""
    depth = f" at depth {one.arm.depth}" if one.arm.depth else ""
    return (
        f"{label_of(one.arm.cuts).capitalize()}{depth}, seed {one.arm.seed}: stopped at step {fault.step} (epoch "
        f"{fault.epoch + 1}, learning rate {fault.lr:.3g}), where the {fault.kind}{where} became {fault.value}. "
        + (f"Last finite gradient norms: {norms}. " if norms else "")
        + fault.advice
    )


def _checks(made: Retrained) -> tuple[Check, ...]:
    everything = [one for arms in made.arms.values() for one in arms]
    faults = [one for one in everything if one.fault is not None]
    dead = [one for one in everything if made.dead(one)]
    seeds = len(made.of((), made.depths[0]))
    return (
        Check(
            "Finite training",
            "fail" if faults else "pass",
            len(faults),
            f"{len(faults)} of {len(everything)} trainings met a loss or gradient that is not finite.",
        ),
        Check(
            "Dead networks",
            "warn" if dead else "pass",
            len(dead),
            f"{len(dead)} of {len(everything)} trainings never left the loss of guessing: "
            + (
                "their accuracy says that this recipe does not train them, not how good they could be."
                if dead
                else "none."
            ),
        ),
        Check(
            "Enough seeds",
            "pass" if seeds >= 3 else "warn",
            seeds,
            f"{seeds} seed{'s' if seeds != 1 else ''} for each arm; a difference needs at least 3 to be told "
            "from chance.",
        ),
        *_capacity_checks(made),
    )


def _capacity_checks(made: Retrained) -> list[Check]:
    depth, checks = made.depths[-1], []
    whole = made.anatomy((), depth).parameters
    for variant in made.variants[1:]:
        own = made.anatomy(variant, depth).parameters
        change = (own - whole) / whole
        matched = any(one.arm.match for one in made.of(variant, depth))
        name = label_of(variant).capitalize()
        detail = f"{name} the network has {own:,} parameters, intact {whole:,} ({change:+.1%})."
        if abs(change) > _SAME_SIZE and not matched:
            detail += " The difference is that of the structure and of this capacity: --match-parameters parts them."
        status = "warn" if abs(change) > _SAME_SIZE else "pass"
        checks.append(Check(f"Equal capacity: {label_of(variant)}", status, own - whole, detail))  # type: ignore[arg-type]
    return checks


def _results(made: Retrained) -> tuple[Result, ...]:
    found = []
    for depth in made.depths:
        at = f"@{depth}" if depth is not None else ""
        for variant in made.variants:
            name = f"{'+'.join(variant) or 'intact'}{at}"
            accuracy = made.accuracies(variant, depth).tolist()
            train = [1 - one.train_error for one in made.of(variant, depth)]
            found.append(
                Result(
                    f"retrain_accuracy:{name}",
                    mean(accuracy),
                    len(accuracy),
                    interval(accuracy),
                    "proportion",
                    True,
                )
            )
            found.append(
                Result(
                    f"retrain_train_accuracy:{name}",
                    mean(train),
                    len(train),
                    interval(train),
                    "proportion",
                    True,
                )
            )
            if variant:
                difference, ci, p = paired(made.accuracies((), depth), made.accuracies(variant, depth))
                found.append(Result(f"retrain_worth:{name}", difference, len(accuracy), ci, "proportion"))
                found.append(Result(f"retrain_worth_p:{name}", finite(p), len(accuracy)))
    return tuple(found)
