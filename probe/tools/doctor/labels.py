"""Labels: which are outside the classes, and the loss of an answer that knows only how frequent they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

IGNORED = -100
"""The label that torch's cross-entropy leaves out."""


def outside(labels: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return the class numbers outside 0 … C − 1 for outputs of shape (N, C); None when labels are not class numbers.

    Whole numbers in a floating type count as class numbers too. The label −100 is left out, as cross-entropy does.
    """
    if labels.dim() != 1 or len(shape) != 2:
        return None
    if labels.is_floating_point() and not bool((labels == labels.round()).all()):
        return None
    if shape[1] == 1:  # one output: the labels are what it should be, not which
        return None
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= shape[1]))
    return labels[wrong]


def trivial_loss(labels: Tensor) -> float | None:
    """Return the entropy of the labels' frequencies in nats: the least cross-entropy without looking at the images.

    Labels that are probabilities (N, C) count by their mean. None when labels are neither.
    """
    if labels.dim() == 2 and labels.is_floating_point():
        frequency = labels.double().mean(0)
    elif labels.dim() == 1 and not labels.is_floating_point():
        kept = labels[labels != IGNORED]
        frequency = torch.unique(kept, return_counts=True)[1].double()
    else:
        return None
    total = float(frequency.sum())
    if not total > 0 or not math.isfinite(total):
        return None
    share = frequency[frequency > 0] / total
    return float(-(share * share.log()).sum())


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Put parameters, buffers, gradients and requires_grad back after the block.

    The tensors are the same objects as before, also where a forward pass has put others in their place.
    """
    parameters = [
        (
            one,
            one.detach().clone(),
            one.grad,
            None if one.grad is None else one.grad.clone(),
            one.requires_grad,
        )
        for one in module.parameters()
    ]
    buffers = [
        (sub, name, buffer, buffer.detach().clone())
        for sub in module.modules()
        for name, buffer in sub._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value, grad, copy, wanted in parameters:
                parameter.requires_grad_(wanted)
                parameter.copy_(value)
                if grad is not None and copy is not None:
                    grad.copy_(copy)
                parameter.grad = grad
            for sub, name, buffer, value in buffers:
                sub._buffers[name] = buffer
                buffer.copy_(value)
