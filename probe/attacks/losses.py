"""Losses that gradient attacks maximise: per image, larger for wrong predictions (or closer to the target)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.attacks.judge import margin
from probe.attacks.model import AttackedModel

_VALUES_AT_ONCE = 800_000

LossName = Literal["ce", "dlr", "margin"]
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(logits (N, K), labels (N,), targets (N,) or None) → (N,), larger is more adversarial."""


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Return the label's cross-entropy, or minus the target's."""
    if targets is None:
        return F.cross_entropy(logits, labels, reduction="none")
    return -F.cross_entropy(logits, targets, reduction="none")


def dlr(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Return the difference of logits ratio (Croce and Hein 2020), which does not depend on the scale of the logits.

    Untargeted: −(z_y − max other) / (z_1st − z_3rd). Targeted: −(z_y − z_t) / (z_1st − (z_3rd + z_4th) / 2).
    With three classes, the targeted loss divides by z_1st − z_3rd; with two classes, there is no third logit and
    the loss is the plain difference.
    """
    numerator = -margin_to(logits, labels, targets)
    ordered = logits.topk(min(4, logits.shape[1]), dim=1).values
    if ordered.shape[1] < 3:
        return numerator
    lower = ordered[:, 2] if targets is None or ordered.shape[1] < 4 else (ordered[:, 2] + ordered[:, 3]) / 2
    return numerator / (ordered[:, 0] - lower + 1e-12)


def difference(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Return minus the margin: the loss of Carlini and Wagner 2017 without its cap."""
    return -margin(logits, labels, targets)


def margin_to(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Return the label's logit minus the target's, or minus the best other one, (N,)."""
    if targets is None:
        return margin(logits, labels)
    return (logits.gather(1, labels[:, None]) - logits.gather(1, targets[:, None]))[:, 0]


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dlr": dlr, "margin": difference}


def adversarial(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Return which predictions differ from the label, or equal the target, (N,)."""
    predictions = logits.argmax(1)
    return predictions != labels if targets is None else predictions == targets


def broken(
    model: AttackedModel, images: Tensor, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> Tensor:
    """Return which images are adversarial, (N,), given their logits.

    If the logits are approximate, candidates are verified on the plain network in float32.
    """
    success = adversarial(logits, labels, targets)
    if model.approximate and bool(success.any()):
        where = success.nonzero()[:, 0]
        verified = adversarial(model.verdict(images[where]), labels[where], pick(targets, where))
        success = success.index_put((where,), verified)
    return success


def ascent(
    model: AttackedModel,
    images: Tensor,
    labels: Tensor,
    targets: Tensor | None,
    loss: Loss,
    repeats: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (N, K), losses (N,) and the gradients of the losses with respect to the pixels (N, C, H, W).

    ``images`` must not be empty. ``repeats`` passes are averaged, for randomised networks
    (expectation over transformation, Athalye et al. 2018). Gradients that are not finite become 0.
    """
    rows = torch.arange(len(images), device=images.device)
    parts = [
        _ascent(model, images[part], labels[part], pick(targets, part), loss, repeats)
        for part in torch.split(rows, at_once(images))
    ]
    logits, losses, gradients = (torch.cat(column) for column in zip(*parts, strict=True))
    return logits, losses, gradients


def at_once(images: Tensor) -> int:
    """Return how many images to differentiate at once.

    On a CPU, a pass over many large images spends most of its time on allocating memory: for 20 photographs of 224×224,
    efficientnet_lite0 needs 69 ms each in one batch, and 40 ms each in batches of eight. On other devices, all images
    are in one batch.
    """
    if images.device.type != "cpu":
        return max(1, len(images))
    return max(8, _VALUES_AT_ONCE // max(1, images[0].numel()))


def _ascent(
    model: AttackedModel, images: Tensor, labels: Tensor, targets: Tensor | None, loss: Loss, repeats: int
) -> tuple[Tensor, Tensor, Tensor]:
    x = images.detach().requires_grad_()
    total = torch.zeros_like(x)
    logits = losses = x
    for _ in range(repeats):
        logits = model(x)
        losses = loss(logits, labels, targets)
        if not losses.requires_grad:  # the network has detached the graph: there is no gradient
            continue
        total = total + torch.autograd.grad(losses.sum(), x, materialize_grads=True)[0]
    return logits.detach(), losses.detach(), (total / repeats).nan_to_num(0.0, 0.0, 0.0)


def pick(values: Tensor | None, where: Tensor) -> Tensor | None:
    """Return the values at the given indices, None for None."""
    return None if values is None else values[where]
