"""A network prepared for attribution: a private copy, its rewrite, and the layer that GradCAM uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx, nn

from probe.core.errors import NotApplicableError
from probe.core.state import frozen_parameters
from probe.graph.edit.fold import folded_graph
from probe.graph.edit.rewrite import UpperClamp, hidden_activations, modular
from probe.graph.edit.spelled import spelled
from probe.graph.trace.layers import last_map_layer
from probe.graph.trace.trace import TraceError, shared_copy
from studies.filters.attribution.rules import hookable, is_elementwise, quiet_captum

Baseline = Literal["mean", "black"]


@dataclass(frozen=True)
class AttributionSubject:
    """A network prepared by ``prepare`` for the attribution methods.

    ``module`` is a copy in eval mode that shares its tensors with the network and calls a module wherever that calls a
    function that is a layer. ``rewritten`` has every activation as a module of its own, and batch normalisation folded into the
    convolutions, or is None and ``refusal`` says why. ``layer`` names the last module of
    ``module`` whose output is a map larger than 1 × 1 ("" when there is none).
    """

    module: nn.Module
    rewritten: fx.GraphModule | None
    refusal: str
    layer: str

    def graph(self, method: str) -> fx.GraphModule:
        """Return the rewritten network; raises NotApplicableError when there is none."""
        if self.rewritten is None:
            raise NotApplicableError(
                f"{method} needs every activation as a separate module, and this network cannot be rewritten that "
                f"way: {self.refusal}"
            )
        return self.rewritten


def prepare(module: nn.Module, example: Tensor) -> AttributionSubject:
    """Return the subject for ``module``; ``example`` is one batch (N, C, H, W) of its inputs.

    A network that cannot be rewritten is not an error: only the methods that need the rewrite do not apply.
    """
    # Tensors made in inference mode can neither be traced nor take a gradient; a clone made outside can.
    with torch.inference_mode(False):
        example = example.detach().clone()
        copy = shared_copy(spelled(module, example))
        try:
            rewritten, refusal = folded_graph(modular(module, example)), ""
        except TraceError as error:
            rewritten, refusal = None, str(error)
        return AttributionSubject(copy, rewritten, refusal, last_map_layer(copy, example))


@dataclass(frozen=True)
class Activations:
    """How many activations of a rewritten network are ReLUs, and the names of the others.

    ``hidden`` are ReLUs inside functions that the rewrite cannot open; no rule reaches them.
    """

    relus: int
    others: tuple[str, ...]
    hidden: tuple[str, ...]

    @classmethod
    def of(cls, graph_module: fx.GraphModule) -> Activations:
        """Count the activations of a network that ``modular`` has rewritten; ReLU6 is a ReLU with a bound."""
        modules = [
            sub for sub in graph_module.modules() if is_elementwise(sub) and not isinstance(sub, UpperClamp)
        ]
        inside = [name.rpartition(": ") for name in hidden_activations(graph_module)]
        hidden = tuple(layer for layer, _, function in inside if function in ("relu", "relu6"))
        relus = sum(isinstance(sub, nn.ReLU) for sub in modules)
        others = [type(sub).__name__ for sub in modules if not isinstance(sub, nn.ReLU)]
        others += [function for _, _, function in inside if function not in ("relu", "relu6")]
        return cls(relus, tuple(others), hidden)


def guided_refusal(graph_module: fx.GraphModule) -> str:
    """Return why guided backpropagation and deconvnet do not apply to a rewritten network, or "" when they do.

    Both are rules for the backward pass of ReLU; through other activations they are not defined. A network
    without any activation is linear: there both are the gradient.
    """
    activations = Activations.of(graph_module)
    if activations.hidden:
        return (
            f"a ReLU is hidden in {', '.join(sorted(activations.hidden)[:3])}, where the rule cannot reach it"
        )
    if activations.others and not activations.relus:
        names = " and ".join(sorted(set(activations.others)))
        return f"the rule is defined for ReLU, and this network has {names} instead"
    return ""


def guidable(graph_module: fx.GraphModule) -> nn.Module:
    """Return a copy for captum's guided methods; raises NotApplicableError where they do not apply."""
    refusal = guided_refusal(graph_module)
    if refusal:
        raise NotApplicableError(refusal)
    return hookable(graph_module)


@contextmanager
def gradients_of(module: nn.Module) -> Iterator[None]:
    """Allow gradients inside the block, with the parameters frozen and captum's notices silenced."""
    with torch.inference_mode(False), torch.enable_grad(), frozen_parameters(module), quiet_captum():
        yield


def private(images: Tensor) -> Tensor:
    """Return a clone that requires a gradient, in the same memory format."""
    return images.detach().clone().requires_grad_()


def baseline_of(images: Tensor, baseline: Baseline) -> Tensor:
    """Return the baseline, an image without content: each image's own mean colour, or black; shape of ``images``."""
    if baseline == "black":
        return torch.zeros_like(images)
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images).clone()
