"""Minimum-norm attacks side by side on one network: sizes, cost, and how near each comes to the best of all."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.attacks.base import ATTACKS, AttackInputs
from probe.attacks.foolbox_adapter import StartedAttack
from probe.attacks.norms import Norm
from probe.attacks.select import SelectedAttack, choose_attacks
from probe.core.errors import CannotRunError, UsageError
from probe.core.progress import SILENT, Progress
from probe.core.seeds import generator, scoped
from probe.core.state import kept_buffers, training_mode
from probe.core.stats import median_interval, wilson
from probe.data.images import ImageSet
from probe.models.loaded import LoadedModel
from studies.adversarial.attack_run import attacked_model

Interval = tuple[float, float]


@dataclass(frozen=True)
class BenchRow:
    """One attack's row: ``success`` of ``n`` images, the median size (inf: at least half of the images resist), and cost.

    ``queries``, forward passes, and ``gradients`` are means an image; ``seconds`` are those of all images.
    ``optimality`` is the local optimality of ``local_optimality``; ``sizes`` (n,) are those of the images, inf where the
    attack failed.
    """

    name: str
    n: int
    success: int
    success_interval: Interval
    median: float
    median_interval: Interval
    queries: float
    gradients: float
    seconds: float
    optimality: float
    sizes: tuple[float, ...]


def bench_choice(names: tuple[str, ...], norm: Norm, steps: int | None) -> tuple[SelectedAttack, ...]:
    """Return the attacks to compare, by default the white-box minimum-norm attacks that support the norm from the image itself.

    Raises UsageError for an attack that does not support the norm or does not look for the smallest perturbation.
    """
    fit = [
        name
        for name in ATTACKS
        if (traits := ATTACKS.get(name).traits).minimum_norm
        and traits.access == "white-box"
        and norm.name in traits.norms
        and not issubclass(ATTACKS.get(name), StartedAttack)
    ]
    chosen = choose_attacks(names or tuple(fit), norm, targeted=False, steps=steps)
    for selected in chosen:
        if selected.fixed:
            raise UsageError(
                f"--bench compares attacks that look for the smallest perturbation, and {selected.name} looks within an "
                f"epsilon: use {', '.join(fit)}."
            )
    return chosen


def bench_attacks(
    model: LoadedModel,
    images: ImageSet,
    norm: Norm,
    attacks: Sequence[SelectedAttack],
    *,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[BenchRow, ...]:
    """Run each attack on the images that the network classifies correctly; returns the rows, the best attack first.

    Raises UsageError for images without labels and for attacks that do not support their size, CannotRunError when no image is
    classified correctly.
    """
    for selected in attacks:
        selected.attack.check_size(model.input.size, norm)
    batches = _correct(model, images, batch_size)
    measured = []
    with training_mode(model.module, False), kept_buffers(model.module):
        for selected in attacks:
            with progress.task(f"Attacking with {selected.text}", len(batches)) as advance:
                attacked = attacked_model(model)
                sizes, seconds = [], 0.0
                for number, (x, y) in enumerate(batches):
                    stream = f"{selected.text} {number}"
                    inputs = AttackInputs(
                        attacked, x, y, norm, norm.largest(tuple(x.shape[1:])), generator(seed, stream)
                    )
                    started = time.perf_counter()
                    with scoped(seed, stream):
                        proposals = selected.attack.run(inputs)
                    # The sizes are on the CPU before the clock is read.
                    seconds += time.perf_counter() - started
                    cost = attacked.queries, attacked.gradients
                    verdict = inputs.judge(proposals)
                    attacked.queries, attacked.gradients = cost
                    sizes.append(torch.where(verdict.success, verdict.sizes, torch.inf).cpu())
                    advance(1)
            measured.append((selected, torch.cat(sizes), seconds, attacked.queries, attacked.gradients))
    everything = np.stack([sizes.double().numpy() for _, sizes, *_ in measured])
    shares = local_optimality(everything)
    rows = [
        _row(selected, everything[index], seconds, queries, gradients, float(shares[index]))
        for index, (selected, _, seconds, queries, gradients) in enumerate(measured)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.optimality, row.median)))


def local_optimality(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the local optimality of each attack, in [0, 1]; ``sizes`` (attacks, images), inf where an attack failed.

    An attack's robust accuracy as a function of epsilon lies above that of the best of all attacks, image by image. The result
    is the area above the attack's curve, as a share of the area above the best one; both up to the largest size that the best one
    needs (Cinà et al. 2024, AttackBench). It is 1 for all where that is 0, and 0 for all where nothing succeeds.
    """
    best = sizes.min(0)
    known = best[np.isfinite(best)]
    if not known.size:
        return np.zeros(len(sizes))
    end = known.max()
    whole = np.clip(end - best, 0, None).sum()
    if whole == 0:
        return np.asarray((sizes <= end)[:, np.isfinite(best)].mean(1))
    return np.asarray(np.clip(end - sizes, 0, None).sum(1) / whole)


def _correct(model: LoadedModel, images: ImageSet, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    if not images.labelled:
        raise UsageError("--bench needs labelled images: name a data set, or a folder with class folders.")
    if images.num_classes is not None:
        model.check_classes(images.class_names or images.num_classes, images.name)
    batches = []
    for batch in images.batches(model.input, batch_size):
        assert batch.labels is not None
        x = batch.images.to(model.device, memory_format=model.memory_format)
        y = batch.labels.to(model.device)
        right = model.logits(x, batch_size).argmax(1).to(y.device) == y
        if bool(right.any()):
            batches.append((x[right], y[right]))
    if not batches:
        raise CannotRunError(
            "The network classifies none of these images correctly, so there is nothing to attack."
        )
    return batches


def _row(
    selected: SelectedAttack,
    sizes: NDArray[np.float64],
    seconds: float,
    queries: int,
    gradients: int,
    optimality: float,
) -> BenchRow:
    n, success = len(sizes), int(np.isfinite(sizes).sum())
    middle, interval = median_interval(sizes)
    return BenchRow(
        selected.text,
        n,
        success,
        wilson(success, n),
        middle,
        interval,
        queries / n,
        gradients / n,
        seconds,
        optimality,
        tuple(float(size) for size in sizes),
    )


def cells(row: BenchRow, norm: Norm) -> tuple[str, ...]:
    """Return a row of the printed table."""

    def size(value: float) -> str:
        if math.isinf(value):
            return "–"
        return f"{value:g}" if norm.name == "L0" else f"{value:.4g}"

    low, high = row.median_interval
    return (
        row.name,
        f"{row.success}/{row.n}",
        size(row.median),
        f"{size(low)} to {size(high)}",
        f"{row.optimality:.3f}",
        f"{row.queries:.0f}",
        f"{row.gradients:.0f}",
        f"{row.seconds:.1f}",
    )


COLUMNS = ("name", "success", "median", "95% interval", "optimality", "queries", "gradients", "seconds")


def plain(row: BenchRow) -> dict[str, object]:
    """Return a row for JSON; sizes that are infinite become null."""

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "attack": row.name,
        "n": row.n,
        "success": row.success,
        "success_interval": list(row.success_interval),
        "median_size": known(row.median),
        "median_interval": [known(end) for end in row.median_interval],
        "local_optimality": row.optimality,
        "queries_per_image": row.queries,
        "gradients_per_image": row.gradients,
        "seconds": row.seconds,
        "sizes": [known(size) for size in row.sizes],
    }
