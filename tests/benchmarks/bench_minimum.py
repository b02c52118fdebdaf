"""Minimum-norm attacks against adv-lib's and foolbox' in one run: the median smallest size at equal budgets of steps.

Run with ``make bench`` or ``python tests/benchmarks/bench_minimum.py [Linf|L2|L1|L0 …] [STEPS …] [NAME …]``; with names, ours
are compared only with the attacks whose name has one of them. adv-lib is not a dependency, because visdom, which it imports,
has to be built: ``pip install --target DIR --no-deps adv-lib``, with DIR at the end of PYTHONPATH; an empty visdom stands in
here. Without it only foolbox is compared. Unbroken images count as infinite. L0 counts pixels; ``grey`` attacks one channel,
where values are pixels, as adv-lib counts them.
"""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from attacked_network import network_and_images
from device import called, wait
from torch import Tensor, nn

from probe.attacks.foolbox_adapter import foolbox
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS
from probe.attacks.select import get_attack
from probe.attacks.torchattacks_adapter import silent
from probe.core.seeds import generator, scoped
from probe.core.state import frozen_parameters

IMAGES = {100: 60, 1000: 40}
ORDER = {"Linf": float("inf"), "L2": 2, "L1": 1, "L0": 0}
OURS = {"Linf": ("fmn",), "L2": ("fmn", "alma", "ddn"), "L1": ("fmn", "alma"), "L0": ("fmn", "sigma-zero")}
Work = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Grey(nn.Module):
    """A network of colour images on images of one channel."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the grey images in colour."""
        logits: Tensor = self.module(x.expand(-1, 3, -1, -1))
        return logits


def ours(name: str, norm: str, steps: int) -> Work:
    """Return one of our attacks."""

    def work(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        largest = NORMS[norm].largest(tuple(x.shape[1:]))
        attack = get_attack(name, steps=steps).attack
        return attack.perturb(AttackedModel(module), x, y, NORMS[norm], largest, generator(0, "bench"))

    return work


def foolbox_works(norm: str, steps: int) -> dict[str, Work]:
    """Return foolbox' attacks; its FMN in L0 and L2 divides by zero lengths, and is left out there."""
    kinds = {
        "Linf": {"fmn": foolbox.attacks.LInfFMNAttack(steps=steps)},
        "L2": {"ddn": foolbox.attacks.DDNAttack(steps=steps)},
        "L1": {
            "fmn": foolbox.attacks.L1FMNAttack(steps=steps),
            "ead": foolbox.attacks.EADAttack(binary_search_steps=9, steps=steps // 9, decision_rule="L1"),
        },
        "L0": {},
    }[norm]

    def work(attack: Any) -> Work:
        def run(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            peer = foolbox.PyTorchModel(module, bounds=(0, 1), device=x.device)
            found: Tensor = attack(peer, x, y, epsilons=None)[1]
            return found

        return run

    return {f"foolbox {name}": work(attack) for name, attack in kinds.items()}


def advlib_works(norm: str, steps: int) -> dict[str, Work]:
    """Return adv-lib's attacks with the authors' parameters; none where it is not installed."""
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))
    try:
        import adv_lib.attacks as peers
        from adv_lib.attacks.auto_pgd import minimal_apgd
    except ImportError:
        print("  adv-lib is not installed: see the top of bench_minimum.py")
        return {}
    order = ORDER[norm]
    works: dict[str, Work] = {
        "adv-lib fmn": lambda m, x, y: peers.fmn(m, x, y, norm=order, steps=steps),
        "adv-lib fmn, α 10": lambda m, x, y: peers.fmn(m, x, y, norm=order, steps=steps, α_init=10.0),
        "adv-lib pdpgd": lambda m, x, y: peers.pdpgd(
            m, x, y, norm=order, num_steps=steps, proximal_operator=23 if norm == "L0" else None
        ),
    }
    if norm != "L0":
        most = {"Linf": 0.25, "L2": 2.0, "L1": 30.0}[norm]
        works["adv-lib apgd"] = lambda m, x, y: minimal_apgd(
            m, x, y, norm=order, max_eps=most, binary_search_steps=10, n_iter=steps // 10
        )
    if norm in ("L2", "L1"):
        first, smoothing = {"L2": (0.3, 0.9), "L1": (0.5, 0.5)}[norm]
        works["adv-lib alma"] = lambda m, x, y: peers.alma(
            m, x, y, num_steps=steps, distance=norm.lower(), init_lr_distance=first, α=smoothing
        )
    if norm == "L2":
        works["adv-lib ddn"] = lambda m, x, y: peers.ddn(m, x, y, steps=steps, levels=None)
        works["adv-lib sdf"] = lambda m, x, y: peers.sdf(m, x, y, steps=steps)
    if norm == "L0":
        works["adv-lib sigma-zero"] = lambda m, x, y: peers.sigma_zero(m, x, y, num_steps=steps)
    return works


def compare(
    module: nn.Module, x: Tensor, y: Tensor, norm: str, steps: int, names: Sequence[str] = ()
) -> None:
    """Print each attack's median size, its ratio to the best, and how many images it left unbroken."""
    works = {f"probe {name}": ours(name, norm, steps) for name in OURS[norm]}
    peers = foolbox_works(norm, steps) | advlib_works(norm, steps)
    works |= {name: work for name, work in peers.items() if not names or any(word in name for word in names)}
    rows = []
    for name, work in works.items():
        with silent(), scoped(0, "bench"), frozen_parameters(module):
            start = time.perf_counter()
            moved = work(module, x, y).detach().clamp(0, 1)
            wait()
            seconds = time.perf_counter() - start
            with torch.no_grad():
                reached = module(moved).argmax(1) != y
        sizes = torch.where(reached, NORMS[norm].size(moved - x), torch.inf).sort().values
        rows.append((float(sizes[(len(sizes) - 1) // 2]), name, int(sizes.isinf().sum()), seconds))
    print(f"{norm}, {steps} steps, {len(x)} images of {x.shape[1]} channels")
    for median, name, unbroken, seconds in sorted(rows):
        ratio = median / min(rows)[0]
        print(f"  {name:20} median {median:9.5f}  ×{ratio:.3f}  unbroken {unbroken:2}  {seconds:6.1f} s")


def main(words: Sequence[str]) -> None:
    """Compare in the norms, at the steps and with the attacks named, by default in all, at both and with all."""
    names = [word for word in words if not word.isdigit() and word not in NORMS]
    data, model, x, y = network_and_images(max(IMAGES.values()))
    print(f"resnet20 on {data}, trained here; {called()}")
    module = model.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for steps, n in IMAGES.items():
        if str(steps) not in words and any(word.isdigit() for word in words):
            continue
        for norm in [name for name in NORMS if name in words] or list(NORMS):
            compare(module, x[:n].contiguous(), y[:n], norm, steps, names)
            if norm == "L0":
                compare(Grey(module), x[:n, :1].contiguous(), y[:n], norm, steps, names)


if __name__ == "__main__":
    main(sys.argv[1:])
