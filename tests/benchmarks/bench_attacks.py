"""Attacks against torchattacks' in one run: the PGD curve, DeepFool, and AutoAttack's four attacks.

Run with ``make bench`` or ``python tests/benchmarks/bench_attacks.py [curve|deepfool|standard …]``. torchattacks
gets the plain module in float32 as its users hand it over, all images at once, and comes first, before probe has
set anything in the process; its results are judged by the same plain module in float32, and so are ours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import torch
import torchattacks
from attacked_network import network_and_images
from ceiling import told
from device import called, wait
from torch import Tensor

from probe.attacks.families.deepfool import DeepFool
from probe.attacks.families.ensembles import Standard
from probe.attacks.norms import NORMS
from probe.attacks.select import get_attack
from probe.core.allocator import kept_pages
from probe.core.seeds import generator, scoped
from probe.models.loaded import LoadedModel
from studies.adversarial.attack_run import attacked_model
from studies.adversarial.engine import BatchAttack, Task
from studies.adversarial.microbatch import MicroBatcher

EPSILONS = tuple(k / 255 for k in range(1, 9))
STEPS = 40
STANDARD_EPSILON = 6 / 255
STANDARD_IMAGES = 30


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Return seconds and result."""
    start = time.perf_counter()
    result = work()
    wait()
    return time.perf_counter() - start, result


def ours_timed(work: Callable[[], Tensor]) -> tuple[float, Tensor, str]:
    """Return seconds and result as with probe's own commands, and how close the work comes to the ceiling."""
    with kept_pages():
        seconds, result = timed(work)
        return seconds, result, told(work, seconds)


def standing(model: LoadedModel, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images the plain module in float32 still names right."""
    return model.logits(images, 256).argmax(1) == labels


def curve(model: LoadedModel, x: Tensor, y: Tensor) -> None:
    """(a) Robust accuracy at eight epsilons by PGD-40."""

    def ours() -> Tensor:
        attacked = attacked_model(model, None)
        task = Task(NORMS["Linf"], EPSILONS, EPSILONS[-1], (), 0)
        images = x.to(memory_format=model.memory_format)
        bench = BatchAttack(attacked, images, y, None, task, MicroBatcher(len(x)), "bench")
        outcome = dict(bench.run([get_attack("pgd", steps=STEPS)]))["pgd"]
        return torch.tensor([float((~outcome.success(e)).mean()) for e in EPSILONS])

    def theirs() -> Tensor:
        accuracies = []
        for epsilon in EPSILONS:
            attack = torchattacks.PGD(model.module, eps=epsilon, alpha=2.5 * epsilon / STEPS, steps=STEPS)
            accuracies.append(standing(model, attack(x.contiguous(), y), y).double().mean())
        return torch.stack(accuracies).float()

    slow, reference = plainly(model, theirs)
    fast, accuracy, of_ceiling = ours_timed(ours)
    print(f"(a) Linf PGD-{STEPS} at {len(EPSILONS)} epsilons, {len(x)} images")
    for name, seconds, values in (("probe", fast, accuracy), ("torchattacks", slow, reference)):
        print(f"  {name:14}{seconds:8.1f} s   {' '.join(f'{float(v):.3f}' for v in values)}")
    higher = int((accuracy > reference + 1e-6).sum())
    print(f"  {slow / fast:.1f} times faster; robust accuracy higher at {higher} of {len(EPSILONS)} epsilons")
    print(f"  {of_ceiling}")


def deepfool(model: LoadedModel, x: Tensor, y: Tensor) -> None:
    """(b) DeepFool."""

    def ours() -> Tensor:
        attacked = attacked_model(model, None)
        images = x.to(memory_format=model.memory_format)
        return DeepFool().perturb(attacked, images, y, NORMS["L2"], 1.0, generator(0, "bench"))

    def theirs() -> Tensor:
        return torchattacks.DeepFool(model.module, steps=50, overshoot=0.02)(x.contiguous(), y)

    slow, reference = plainly(model, theirs)
    fast, found, of_ceiling = ours_timed(ours)
    print(f"(b) DeepFool, {len(x)} images")
    medians = []
    for name, seconds, moved in (("probe", fast, found), ("torchattacks", slow, reference)):
        broken = ~standing(model, moved, y)
        median = float((moved - x).flatten(1).norm(dim=1)[broken].median())
        medians.append(median)
        print(f"  {name:14}{seconds:8.1f} s   success {int(broken.sum())}   median L2 {median:.4f}")
    print(f"  {slow / fast:.1f} times faster; median L2 differs by {medians[0] / medians[1] - 1:+.1%}")
    print(f"  {of_ceiling}")


def standard(model: LoadedModel, x: Tensor, y: Tensor) -> None:
    """(c) AutoAttack's standard ensemble with the published parameters."""
    x, y = x[:STANDARD_IMAGES], y[:STANDARD_IMAGES]

    def ours() -> Tensor:
        attacked = attacked_model(model, None)
        images = x.to(memory_format=model.memory_format)
        return Standard().perturb(attacked, images, y, NORMS["Linf"], STANDARD_EPSILON, generator(0, "bench"))

    def theirs() -> Tensor:
        # torchattacks' own AutoAttack takes 10 steps; these are the published parameters.
        members = (
            torchattacks.APGD(model.module, eps=STANDARD_EPSILON, steps=100),
            torchattacks.APGDT(model.module, eps=STANDARD_EPSILON, steps=100, n_classes=10),
            torchattacks.FAB(
                model.module, eps=STANDARD_EPSILON, steps=100, multi_targeted=True, n_classes=10
            ),
            torchattacks.Square(model.module, eps=STANDARD_EPSILON, n_queries=5000),
        )
        best, left = x, torch.ones(len(x), dtype=torch.bool, device=x.device)
        for member in members:
            moved = member(x.contiguous(), y)
            best = torch.where(left.reshape(-1, 1, 1, 1), moved, best)
            left &= standing(model, moved, y)
        return best

    slow, reference = plainly(model, theirs)
    fast, found, of_ceiling = ours_timed(ours)
    print(f"(c) APGD-CE, APGD-T, FAB-T, Square with the published parameters, {len(x)} images, Linf 6/255")
    left = []
    for name, seconds, moved in (("probe", fast, found), ("torchattacks", slow, reference)):
        left.append(int(standing(model, moved, y).sum()))
        print(f"  {name:14}{seconds:8.1f} s   {left[-1]} of {len(x)} stand")
    print(f"  {slow / fast:.1f} times faster; they differ by {abs(left[0] - left[1])} images")
    print(f"  {of_ceiling}")


def plainly(model: LoadedModel, work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Time a peer on the module in the usual memory format, with the global generators put back."""
    model.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        with scoped(0, "bench"):
            return timed(work)
    finally:
        model.module.to(memory_format=model.memory_format)  # type: ignore[call-overload]


def main(names: Sequence[str]) -> None:
    """Measure all three, or those named."""
    data, model, x, y = network_and_images(200)
    print(f"resnet20 on {data}, trained here; {called()}")
    for part in (curve, deepfool, standard):
        if not names or part.__name__ in names:
            part(model, x, y)


if __name__ == "__main__":
    main(sys.argv[1:])
