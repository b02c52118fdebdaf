"""What gradient attacks climb: losses per image that grow towards a wrong answer (or towards the target)."""

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
    """Return the difference of logits ratio (Croce and Hein 2020), which no rescaling of the logits can starve.

    Untargeted: −(z_y − max other) / (z_1st − z_3rd). Targeted: −(z_y − z_t) / (z_1st − (z_3rd + z_4th) / 2).
    With three classes the targeted one divides by z_1st − z_3rd; with two classes there is no third logit and
    the plain difference is taken.
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
    """Return which answers have left the label, or reached the target, (N,)."""
    predictions = logits.argmax(1)
    return predictions != labels if targets is None else predictions == targets


def broken(
    model: AttackedModel, images: Tensor, logits: Tensor, labels: Tensor, targets: Tensor | None
) -> Tensor:
    """Return which images are adversarial, (N,), given their logits.

    Approximate logits only nominate; the plain network in float32 then decides.
    """
    found = adversarial(logits, labels, targets)
    if model.approximate and bool(found.any()):
        where = found.nonzero()[:, 0]
        sure = adversarial(model.verdict(images[where]), labels[where], pick(targets, where))
        found = found.index_put((where,), sure)
    return found


def ascent(
    model: AttackedModel,
    images: Tensor,
    labels: Tensor,
    targets: Tensor | None,
    loss: Loss,
    repeats: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (N, K), losses (N,) and the losses' gradients towards the pixels (N, C, H, W).

    ``images`` must not be empty. ``repeats`` passes are averaged, for networks that answer at random
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

    On a CPU a pass over many large images spends its time on fetching fresh memory: of 20 photographs of 224×224
    efficientnet_lite0 takes 69 ms each at once, and 40 ms each by eights. On other devices all go together.
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
        if not losses.requires_grad:  # the network has cut the graph: no gradient at all
            continue
        total = total + torch.autograd.grad(losses.sum(), x, materialize_grads=True)[0]
    return logits.detach(), losses.detach(), (total / repeats).nan_to_num(0.0, 0.0, 0.0)


def pick(values: Tensor | None, where: Tensor) -> Tensor | None:
    """Return the values at the given places, None where there are none."""
    return None if values is None else values[where]
