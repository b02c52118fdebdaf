"""The section of the retrained arms."""

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
from studies.ablation.evaluate import interval, mean, paired_difference
from studies.ablation.retrain import RetrainResult, Variant, arm_name, label_of


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
        "Mean over seeds; the band goes from the lowest to the highest seed. Bands that separate early show that "
        "the structure makes training easier; bands that meet at the end, that it only makes it faster.",
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
            bounds = interval(errors) or (middle, middle)
            xs.append(float(depth))
            ys.append(middle)
            low.append(max(0.0, bounds[0]))
            high.append(min(1.0, bounds[1]))
        series.append(Series(label_of(variant), tuple(xs), tuple(ys), tuple(low), tuple(high)))
    split = "Training" if train else "Held-out"
    return Figure(
        f"{split} error against depth",
        "line",
        Axis("depth (layers with weights)"),
        Axis(f"{split.lower()} error"),
        "Mean over seeds with its 95% t-interval. "
        + (
            "An error that rises with depth shows degradation (He et al. 2015): deeper networks fit even their "
            "training images worse, which is not overfitting."
            if train
            else "With shortcuts, more depth does not raise the error; without them it does, once gradients vanish."
        ),
        tuple(series),
    )


_SAME_SIZE = 0.01


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
        checks=_checks(retrained),
        findings=findings,
    )


def _what(retrained: RetrainResult) -> str:
    setting = retrained.setting
    seeds = len(retrained.of((), retrained.depths[0]))
    recipe = setting.recipe
    return (
        "Every arm is trained from random weights with the same recipe, order of images and budget: "
        f"{recipe.epochs} epochs of {recipe.optimiser.upper() if recipe.optimiser == 'sgd' else 'AdamW'} (peak "
        f"learning rate {recipe.lr:g}) on {len(setting.labels):,} images, measured on "
        f"{len(setting.held_labels):,} held-out ones ({retrained.split}), {seeds} seed{'s' if seeds > 1 else ''}. The "
        "same seed gives all arms the same initial weights."
    )


def _difference_words(retrained: RetrainResult, variant: Variant, depth: int | None) -> list[str]:
    intact, cut = retrained.accuracies((), depth), retrained.accuracies(variant, depth)
    difference, ci, p = paired_difference(intact, cut)
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


def _accuracy_table(retrained: RetrainResult) -> Table:
    rows = [_accuracy_row(retrained, v, d) for d in retrained.depths for v in retrained.variants]
    return Table(
        "Arms",
        (
            Column("Arm", help="One variant of the network, trained from random weights."),
            Column("Seeds", help="Trainings; each arm has the same ones."),
            Column("Held-out accuracy", proportion=True, help="Mean over seeds."),
            *Column.interval("the mean's 95% t-interval", proportion=True),
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
        "The effect of removing is the accuracy of the intact network minus that of the arm; an interval that "
        "contains 0 is not significant.",
    )


def _accuracy_row(retrained: RetrainResult, variant: Variant, depth: int | None) -> tuple[Cell, ...]:
    arms = retrained.of(variant, depth)
    accuracy = retrained.accuracies(variant, depth)
    ci = interval(accuracy.tolist()) or (None, None)
    effect: tuple[Cell, ...] = (None, None, None, None)
    if variant:
        difference, bounds, p = paired_difference(retrained.accuracies((), depth), accuracy)
        low, high = bounds or (None, None)
        effect = (_points(difference), _points(low), _points(high), p)
    units = sum(trained.units for trained in arms)
    return (
        arm_name(variant, depth, len(retrained.depths) > 1),
        len(arms),
        mean(accuracy.tolist()),
        *(None if bound is None else min(max(bound, 0.0), 1.0) for bound in ci),
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


def _checks(retrained: RetrainResult) -> tuple[Check, ...]:
    everything = [trained for arms in retrained.arms.values() for trained in arms]
    faults = [trained for trained in everything if trained.fault is not None]
    dead = [trained for trained in everything if retrained.dead(trained)]
    seeds = len(retrained.of((), retrained.depths[0]))
    return (
        Check(
            "Finite training",
            "fail" if faults else "pass",
            len(faults),
            f"{len(faults)} of {len(everything)} trainings reached a loss or gradient that is not finite.",
        ),
        Check(
            "Dead networks",
            "warn" if dead else "pass",
            len(dead),
            f"{len(dead)} of {len(everything)} trainings never left the loss of guessing: "
            + (
                "their accuracy shows that this recipe does not train them, not how good they could be."
                if dead
                else "none."
            ),
        ),
        Check(
            "Enough seeds",
            "pass" if seeds >= 3 else "warn",
            seeds,
            f"{seeds} seed{'s' if seeds != 1 else ''} for each arm; a difference needs at least 3 to be tested "
            "for significance.",
        ),
        *_capacity_checks(retrained),
    )


def _capacity_checks(retrained: RetrainResult) -> list[Check]:
    depth, checks = retrained.depths[-1], []
    intact = retrained.anatomy((), depth).parameters
    for variant in retrained.variants[1:]:
        own = retrained.anatomy(variant, depth).parameters
        change = (own - intact) / intact
        matched = any(trained.arm.match for trained in retrained.of(variant, depth))
        name = label_of(variant).capitalize()
        detail = f"{name} the network has {own:,} parameters, intact {intact:,} ({change:+.1%})."
        if abs(change) > _SAME_SIZE and not matched:
            detail += " The difference is due to both the structure and this capacity: --match-parameters separates them."
        status = "warn" if abs(change) > _SAME_SIZE else "pass"
        checks.append(Check(f"Equal capacity: {label_of(variant)}", status, own - intact, detail))  # type: ignore[arg-type]
    return checks


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
                    interval(accuracy),
                    "proportion",
                    True,
                )
            )
            results.append(
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
                difference, ci, p = paired_difference(
                    retrained.accuracies((), depth), retrained.accuracies(variant, depth)
                )
                results.append(Result(f"retrain_worth:{name}", difference, len(accuracy), ci, "proportion"))
                results.append(Result(f"retrain_worth_p:{name}", finite(p), len(accuracy)))
    return tuple(results)
