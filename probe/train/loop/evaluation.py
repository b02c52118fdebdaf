"""What a trained module gets right, and its batch statistics."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from probe.core.state import training_mode


def count_correct(module: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256) -> int:
    """Return how many images the module classifies correctly in eval mode, without gradients; flags are restored."""
    device = next(module.parameters()).device
    with training_mode(module, False), torch.inference_mode():
        return sum(
            int((module(x.to(device)).argmax(1) == y.to(device)).sum())
            for x, y in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
        )


def reestimate_batch_norm(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of batch normalisation by those of the given images.

    After few training steps, the running averages lag behind the weights (Wu and Johnson 2021,
    "Rethinking 'Batch' in BatchNorm"). All other modules are in eval mode for this; flags and momenta are
    restored. Modules without batch normalisation are not changed.
    """
    norms = [sub for sub in module.modules() if isinstance(sub, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    device = next(module.parameters()).device
    momenta = [norm.momentum for norm in norms]
    with training_mode(module, False), torch.no_grad():
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
                norm.training = True
            for images in batches:
                module(images.to(device))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
