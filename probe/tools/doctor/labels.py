"""Labels outside the classes, and the loss of a constant prediction of the label frequencies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

IGNORED = -100
"""The label that torch's cross-entropy ignores."""


def outside(labels: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return the labels outside 0 … C − 1 for outputs of shape (N, C); None if the labels are not class numbers.

    Integers in a floating-point type count as class numbers too. The label −100 is ignored, as in cross-entropy.
    """
    if labels.dim() != 1 or len(shape) != 2:
        return None
    if labels.is_floating_point() and not bool((labels == labels.round()).all()):
        return None
    if shape[1] == 1:  # a single output: the labels are its target values, not classes
        return None
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= shape[1]))
    return labels[wrong]


def trivial_loss(labels: Tensor) -> float | None:
    """Return the entropy of the label frequencies in nats: the lowest cross-entropy without looking at the images.

    Labels can be class numbers (N,) or probabilities (N, C), whose mean is used. None for other labels.
    """
    if labels.dim() == 2 and labels.is_floating_point():
        frequency = labels.double().mean(0)
    elif labels.dim() == 1 and not labels.is_floating_point():
        counted = labels[labels != IGNORED]
        frequency = torch.unique(counted, return_counts=True)[1].double()
    else:
        return None
    total = float(frequency.sum())
    if not total > 0 or not math.isfinite(total):
        return None
    share = frequency[frequency > 0] / total
    return float(-(share * share.log()).sum())


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Restore parameters, buffers, gradients and requires_grad after the block.

    The tensors are the same objects as before, even if a forward pass has replaced them.
    """
    parameters = [
        (
            parameter,
            parameter.detach().clone(),
            parameter.grad,
            None if parameter.grad is None else parameter.grad.clone(),
            parameter.requires_grad,
        )
        for parameter in module.parameters()
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
            for parameter, value, grad, copy, requires_grad in parameters:
                parameter.requires_grad_(requires_grad)
                parameter.copy_(value)
                if grad is not None and copy is not None:
                    grad.copy_(copy)
                parameter.grad = grad
            for sub, name, buffer, value in buffers:
                sub._buffers[name] = buffer
                buffer.copy_(value)
