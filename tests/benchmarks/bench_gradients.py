"""One gradient with respect to the pixels, as an attack takes it, against the plain module in float32, in one run.

Run with ``python tests/benchmarks/bench_gradients.py``. What a step needs is two multiply-accumulates for each of the forward
pass: the gradient of the input costs as much as the pass itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from ceiling import best, ceiling
from torch import Tensor, nn

from probe.attacks.losses import ascent
from probe.core.allocator import kept_pages
from probe.models.load import load_model
from studies.adversarial.attack_run import attacked_model

NETWORKS = (
    ("efficientnet_lite0", "default", 8),
    ("torchvision:mobilenet_v3_small", "none", 8),
    ("torchvision:resnet18", "none", 8),
    ("zoo:resnet20", "none", 200),
)


def loss(logits: Tensor, labels: Tensor, _targets: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of each image."""
    return F.cross_entropy(logits, labels, reduction="none")


def plainly(module: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Take the gradient as a peer does."""
    leaf = images.contiguous().requires_grad_()
    torch.autograd.grad(loss(module(leaf), labels).sum(), leaf)


def main() -> None:
    """Print a row for each network."""
    floor, reduced = ceiling(torch.float32), ceiling(torch.bfloat16)
    print(
        f"{torch.get_num_threads()} threads; ceilings: {floor / 1e9:.0f} GFLOP/s float32, {reduced / 1e9:.0f} bfloat16"
    )
    for name, weights, n in NETWORKS:
        model = load_model(name, weights=weights, offline=True)
        images = model.example(n)
        labels = model.logits(images).argmax(1)
        plain = load_model(name, weights=weights, offline=True).module.to(
            memory_format=torch.contiguous_format
        )  # type: ignore[call-overload]
        work = 4 * model.macs * n
        slow = best(lambda plain=plain, images=images, labels=labels: plainly(plain, images, labels))  # type: ignore[misc]
        fast = attacked_model(model)
        with kept_pages():
            quick = best(
                lambda fast=fast, images=images, labels=labels: ascent(fast, images, labels, None, loss)
            )  # type: ignore[misc]
        top = reduced if fast.bf16 else floor
        print(
            f"{name:32}{n:4} images  plain {1e3 * slow / n:7.2f} ms  probe {1e3 * quick / n:7.2f} ms an image  "
            f"{slow / quick:4.1f}×  {work / slow / floor:4.0%} → {work / quick / top:4.0%} of the ceiling"
        )


if __name__ == "__main__":
    main()
