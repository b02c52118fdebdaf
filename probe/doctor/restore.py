"""Putting a module back to where it was before it was trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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
