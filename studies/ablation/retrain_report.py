"""The section of the retrained arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from probe.core.blocks import Axis, Block, Cell, Column, Figure, Note, Series, Table
from probe.core.document import Result, Section, finite, percent
from probe.graph.edit.structure import SWAP
from studies.ablation.arms import TrainedArm
from studies.ablation.evaluate import mean, paired_points, proportion_interval
from studies.ablation.retrain import RetrainResult, Variant, arm_name, label_of
from studies.ablation.retrain_checks import retrain_checks


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


def curves_figure(retrained: RetrainResult, depth: int | None) -> Figure:
    """Draw held-out accuracy along training, with the band of all seeds."""
    series = [
        _band(
            [trained.curve for trained in retrained.of(v, depth) if trained.curve], arm_name(v, depth, False)
        )
        for v in retrained.variants
        if any(trained.curve for trained in retrained.of(v, depth))
    ]
    where = f" at depth {depth}" if len(retrained.depths) > 1 else ""
    return Figure(
        f"Held-out accuracy along training{where}",
        "line",
        Axis("epoch"),
        Axis("held-out accuracy"),
        "Mean over seeds; the band goes from the lowest to the highest seed. Bands that lie apart "
        "early and meet at the end: the arms differ in how fast they learn, and not in what they reach, in these seeds.",
        tuple(series),
    )


def learning_curves(retrained: RetrainResult) -> list[dict[str, Any]]:
    """Return held-out accuracy along the epochs of every arm as plain values: label, x, y, low, high."""
    curves = []
    for depth in retrained.depths:
        for series in curves_figure(retrained, depth).series:
            at = f" at depth {depth}" if len(retrained.depths) > 1 else ""
            curves.append({**asdict(series), "label": f"{series.label}{at}"})
    return curves


def loss_figure(retrained: RetrainResult, depth: int | None) -> Figure:
    """Draw the training loss along training, with the band of all seeds."""
    series = [
        _band(
            [[e.loss for e in trained.history] for trained in retrained.of(v, depth) if trained.history],
            label_of(v),
        )
        for v in retrained.variants
        if any(trained.history for trained in retrained.of(v, depth))
    ]
    guess = float(np.log(retrained.setting.num_classes))
    return Figure(
        "Training loss" + (f" at depth {depth}" if len(retrained.depths) > 1 else ""),
        "line",
        Axis("epoch"),
        Axis("cross-entropy, nats"),
        f"Mean over seeds with the band of all seeds. A network that stays at {guess:.2f} (log of the number of "
        "classes) has learned nothing: it counts as dead.",
        tuple(series),
    )


def depth_figure(retrained: RetrainResult, train: bool) -> Figure:
    """Draw training or held-out error against depth, with t-intervals over seeds."""
    series = []
    for variant in retrained.variants:
        xs, ys, low, high = [], [], [], []
        for depth in retrained.depths:
            arms = retrained.of(variant, depth)
            errors = [trained.train_error if train else 1 - trained.accuracy for trained in arms]
            middle = mean(errors)
            if middle is None or depth is None:
                continue
            bounds = proportion_interval(errors, _n_items(retrained, train)) or (middle, middle)
            xs.append(float(depth))
            ys.append(middle)
            low.append(bounds[0])
            high.append(bounds[1])
        series.append(Series(label_of(variant), tuple(xs), tuple(ys), tuple(low), tuple(high)))
    split = "Training" if train else "Held-out"
    return Figure(
        f"{split} error against depth",
        "line",
        Axis("depth (layers with weights)"),
        Axis(f"{split.lower()} error"),
        "Mean over seeds with its 95% interval. "
        + (
            "A training error that rises with depth is called degradation (He et al. 2015): deeper networks fit even "
            "their training images worse, which is not overfitting."
            if train
            else "The networks of He et al. 2015 without shortcuts had a larger error when they were deeper; those with "
            "shortcuts did not."
        ),
        tuple(series),
    )


def _n_items(retrained: RetrainResult, train: bool) -> int:
    """Return the number of images of an error: the training ones, or the held-out ones."""
    setting = retrained.setting
    return len(setting.labels if train else setting.held_labels)


def retrain_section(retrained: RetrainResult) -> Section:
    """Return accuracies, learning curves and differences of all arms at the network's own depth or depths."""
    depth = retrained.depths[-1]
    findings = tuple(
        line for variant in retrained.variants[1:] for line in _difference_words(retrained, variant, depth)
    )
    blocks: list[Block] = [_accuracy_table(retrained)]
    if len(retrained.depths) > 1:
        blocks += [depth_figure(retrained, train=True), depth_figure(retrained, train=False)]
        findings = (*findings, *_degradation_words(retrained))
    blocks += [curves_figure(retrained, depth), loss_figure(retrained, depth), *_notes(retrained)]
    return Section(
        "retrain",
        "Retrain: built without the structure, trained again"
        if not any(text.startswith(SWAP) for variant in retrained.variants for text in variant)
        else "Retrain: built with other structures, trained again",
        _what(retrained),
        tuple(blocks),
        results=_results(retrained),
        checks=retrain_checks(retrained),
        findings=findings,
    )


def _what(retrained: RetrainResult) -> str:
    setting = retrained.setting
    seeds = len(retrained.of((), retrained.depths[0]))
    recipe = setting.recipe
    epochs = f"{recipe.epochs} epoch{'' if recipe.epochs == 1 else 's'}"
    return (
        "Every arm is trained from random weights with the same recipe, order of images and budget: "
        f"{epochs} of {recipe.optimiser.upper() if recipe.optimiser == 'sgd' else 'AdamW'} (peak "
        f"learning rate {recipe.lr:g}) on {len(setting.labels):,} images, measured on "
        f"{len(setting.held_labels):,} held-out ones ({retrained.split}), {seeds} seed{'s' if seeds > 1 else ''}. The "
        "same seed gives all arms the same initial weights."
    )


def _difference_words(retrained: RetrainResult, variant: Variant, depth: int | None) -> list[str]:
    intact, cut = retrained.accuracies((), depth), retrained.accuracies(variant, depth)
    difference, ci, p = paired_points(intact, cut)
    many = len(retrained.depths) > 1
    if difference is None:
        return [f"{arm_name(variant, depth, many).capitalize()}: no training ended with finite numbers."]
    first, second = (percent(mean(values.tolist()) or 0.0) for values in (intact, cut))
    interval_text = " (one seed: no interval)"
    if ci is not None and p is not None:
        test = f"95% t-interval, paired t-test over {len(intact)} seeds p = {p:.2g}"
        interval_text = f" [{100 * ci[0]:.1f}, {100 * ci[1]:.1f}] ({test})"
    where = f" at depth {depth}" if many else ""
    return [
        f"Trained {label_of(variant)}{where} the network reaches {second} held-out accuracy, intact {first}: "
        f"{_what_it_is(variant)} {100 * difference:.1f} points{interval_text}."
    ]


def _what_it_is(variant: Variant) -> str:
    if any(text.startswith(SWAP) for text in variant):
        return "the intact network is better by"
    return f"the effect of removing {' and '.join(variant)} is"


def _degradation_words(retrained: RetrainResult) -> list[str]:
    """Write whether deeper networks have higher training error, with and without the structure."""
    first, last = retrained.depths[0], retrained.depths[-1]
    lines = []
    for variant in retrained.variants:
        by_seed = [
            [trained.train_error for trained in retrained.of(variant, depth)] for depth in (first, last)
        ]
        errors = [mean(values) for values in by_seed]
        if errors[0] is None or errors[1] is None:
            continue
        # Degradation is claimed only where every seed shows it.
        rises = min(by_seed[1]) > max(by_seed[0])
        bounds = proportion_interval(by_seed[1], len(retrained.setting.labels))
        within = "" if bounds is None else f" [{100 * bounds[0]:.0f}, {100 * bounds[1]:.0f}]"
        lines.append(
            f"{label_of(variant).capitalize()}, training error goes from {percent(errors[0])} at depth {first} to "
            f"{percent(errors[1])}{within} at depth {last}"
            + (
                f", and is larger in each of the {len(by_seed[1])} seeds (degradation)."
                if rises and variant
                else "."
            )
        )
    return lines


def _accuracy_table(retrained: RetrainResult) -> Table:
    rows = [_accuracy_row(retrained, v, d) for d in retrained.depths for v in retrained.variants]
    return Table(
        "Arms",
        (
            Column("Arm", help="One variant of the network, trained from random weights."),
            Column("Seeds", help="Trainings; each arm has the same ones."),
            Column("Held-out accuracy", proportion=True, help="Mean over seeds."),
            *Column.interval("the mean's 95% interval over seeds", proportion=True),
            Column("Training accuracy", proportion=True, help="Mean over seeds, in eval mode."),
            Column(
                "Effect of removing", unit="points", help="Intact minus this arm, mean over seeds.", digits=3
            ),
            *Column.interval("its 95% t-interval"),
            Column("p", help="Paired t-test over seeds.", digits=2),
            Column("Dead networks", help="Networks whose loss never left that of guessing."),
            Column("Diverged", help="Trainings that stopped at a loss or gradient that is not finite."),
            Column("Dead units", proportion=True, help="ReLU channels that no held-out image activates."),
        ),
        tuple(rows),
        "The effect of removing is the accuracy of the intact network minus that of the arm; where its interval "
        "contains 0, these seeds cannot tell the arms apart. "
        + (
            f"Each of the {len(retrained.variants) - 1} arms is tested on its own, without a correction."
            if len(retrained.variants) > 2
            else ""
        ),
    )


def _accuracy_row(retrained: RetrainResult, variant: Variant, depth: int | None) -> tuple[Cell, ...]:
    arms = retrained.of(variant, depth)
    accuracy = retrained.accuracies(variant, depth)
    ci = proportion_interval(accuracy.tolist(), len(retrained.setting.held_labels)) or (None, None)
    effect: tuple[Cell, ...] = (None, None, None, None)
    if variant:
        difference, bounds, p = paired_points(retrained.accuracies((), depth), accuracy)
        low, high = bounds or (None, None)
        effect = (_points(difference), _points(low), _points(high), p)
    units = sum(trained.units for trained in arms)
    return (
        arm_name(variant, depth, len(retrained.depths) > 1),
        len(arms),
        mean(accuracy.tolist()),
        *ci,
        mean([1 - trained.train_error for trained in arms]),
        *effect,
        sum(retrained.dead(trained) for trained in arms),
        sum(trained.fault is not None for trained in arms),
        sum(trained.dead for trained in arms) / units if units else None,
    )


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _notes(retrained: RetrainResult) -> list[Block]:
    notes: list[Block] = []
    for arms in retrained.arms.values():
        for trained in arms:
            if trained.fault is not None:
                notes.append(Note(_fault_words(trained), "warning"))
    return notes


def _fault_words(trained: TrainedArm) -> str:
    fault = trained.fault
    if fault is None:
        return ""
    norms = ", ".join(f"{name} {norm:.2g}" for name, norm in fault.last_norms[:6])
    where = f" of {fault.layer}" if fault.layer else ""
    depth = f" at depth {trained.arm.depth}" if trained.arm.depth else ""
    return (
        f"{label_of(trained.arm.cuts).capitalize()}{depth}, seed {trained.arm.seed}: stopped at step {fault.step} (epoch "
        f"{fault.epoch + 1}, learning rate {fault.lr:.3g}), where the {fault.kind}{where} became {fault.value}. "
        + (f"Last finite gradient norms: {norms}. " if norms else "")
        + fault.advice
    )


def _results(retrained: RetrainResult) -> tuple[Result, ...]:
    results = []
    for depth in retrained.depths:
        at = f"@{depth}" if depth is not None else ""
        for variant in retrained.variants:
            name = f"{'+'.join(variant) or 'intact'}{at}"
            accuracy = retrained.accuracies(variant, depth).tolist()
            train = [1 - trained.train_error for trained in retrained.of(variant, depth)]
            results.append(
                Result(
                    f"retrain_accuracy:{name}",
                    mean(accuracy),
                    len(accuracy),
                    proportion_interval(accuracy, len(retrained.setting.held_labels)),
                    "proportion",
                    True,
                )
            )
            results.append(
                Result(
                    f"retrain_train_accuracy:{name}",
                    mean(train),
                    len(train),
                    proportion_interval(train, len(retrained.setting.labels)),
                    "proportion",
                    True,
                )
            )
            if variant:
                difference, ci, p = paired_points(
                    retrained.accuracies((), depth), retrained.accuracies(variant, depth)
                )
                results.append(Result.points(f"retrain_worth:{name}", difference, len(accuracy), ci))
                results.append(Result(f"retrain_worth_p:{name}", finite(p), len(accuracy)))
    return tuple(results)
