"""Class activation maps of a layer: GradCAM (Selvaraju et al. 2017) and LayerCAM (Jiang et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probe.core.state import forward_hooks


def gradcam(module: nn.Module, layer: str, images: Tensor, classes: Tensor) -> Tensor:
    """Return rectified maps (N, 1, h, w) in the resolution of ``layer``, for the logits ``classes`` (N,).

    Of a layer that is called several times the last call that returns a map larger than 1 × 1 counts. The images need a
    gradient, or the module's parameters do.
    """
    output, gradient = _output_and_gradient(module, layer, images, classes)
    weighted = gradient.mean((2, 3), keepdim=True) * output
    return weighted.sum(1, keepdim=True).relu().detach()


def layercam(module: nn.Module, layer: str, images: Tensor, classes: Tensor) -> Tensor:
    """Return rectified maps (N, 1, h, w) as ``gradcam`` does, each place weighted by its own positive gradient."""
    output, gradient = _output_and_gradient(module, layer, images, classes)
    return (gradient.relu() * output).sum(1, keepdim=True).relu().detach()


def _output_and_gradient(
    module: nn.Module, layer: str, images: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the output (N, K, h, w) of a layer and the gradient of the logits there."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _args: object, output: object) -> object:
        if not isinstance(output, Tensor):
            return output
        if output.dim() == 4 and min(output.shape[2:]) > 1:
            outputs.append(output)
        # What changes the output in place must not change what is kept.
        return output.clone()

    with forward_hooks(module, {layer: keep}):
        logits: Tensor = module(images)
    (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), outputs[-1])
    return outputs[-1], gradient
