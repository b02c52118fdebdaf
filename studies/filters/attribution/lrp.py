"""Layer-wise relevance propagation (Bach et al. 2015), as the gradient of a network whose layers carry relevance back."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.func import functional_call

from probe.core.errors import NotApplicableError
from probe.graph.edit.rewrite import UpperClamp
from probe.graph.trace.trace import shared_copy
from studies.filters.attribution.methods import OneGradient
from studies.filters.attribution.rules import is_elementwise
from studies.filters.attribution.subject import AttributionSubject, gradients_of, private

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_ASIDE = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d)
_OFF = ("StochasticDepth", "DropPath", "DropBlock2d")
"""What passes everything through once training is over."""

_PRODUCTS = (operator.mul, operator.imul, torch.mul)
_AFFINE = (
    *(operator.add, operator.iadd, operator.sub, operator.isub, operator.truediv),
    *(torch.add, torch.sub, torch.div, "add", "sub", "div"),
)
_SHAPES = (
    *(torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze),
    *("view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "contiguous"),
)
_QUESTIONS = (getattr, operator.eq, torch._assert, "size", "dim")
_LINEAR = (
    *(torch.cat, torch.chunk, torch.split, torch.mean, "mean", "sum", "expand", "chunk", "split"),
    *(F.adaptive_avg_pool2d, F.avg_pool2d, F.max_pool2d, F.pad, "mul", "multiply"),
    *(operator.getitem, operator.floordiv),
)
_KNOWN = (*_PRODUCTS, *_AFFINE, *_SHAPES, *_QUESTIONS, *_LINEAR)
"""Operations through which the gradient carries relevance as it is, or for which there is a rule."""

_STABLE = 1e-6
"""What keeps denominators from 0, in units of the layer's root mean square."""

_NO_FIRST = "LRP needs a first layer that is fed the image itself"


@dataclass(frozen=True)
class Lrp(OneGradient):
    """LRP with a usual composite (Montavon et al. 2019): flat in the first, γ in other convolutions, ε in dense layers.

    Of a product of two hidden maps the smaller one is a gate, which gets no relevance.
    """

    gamma: float = 0.25

    key: ClassVar[str] = "lrp"
    title: ClassVar[str] = "LRP"
    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = False  # biases keep a part
    pixelwise: ClassVar[bool] = True

    def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
        """Return the relevance of each pixel, (N, 1, H, W); without biases it adds up to the logit."""
        module, firsts = carrying(subject.graph("LRP"), self.gamma)
        with gradients_of(module):
            logits: Tensor = module(private(images))
            wanted = logits.gather(1, targets[:, None]).sum()
            calls = [(first, *seen) for first in firsts for seen in first.seen]
            gradients = torch.autograd.grad(wanted, [output for _, _, output in calls])
            total = torch.zeros_like(images[:, :1])
            for (first, inputs, output), gradient in zip(calls, gradients, strict=True):
                relevance = first.spread(inputs, (output * gradient).detach())
                if relevance[0].numel() % images[0, 0].numel():
                    raise NotApplicableError(_NO_FIRST)
                total += relevance.reshape(len(images), -1, *images.shape[2:]).sum(1, keepdim=True)
        return total.detach()

    def passes(self, size: tuple[int, int]) -> float:
        """Return the cost, measured, of convolutions with up to four kinds of weights, and back."""
        return 18.0


def carrying(graph: fx.GraphModule, gamma: float) -> tuple[nn.Module, list[FirstLayer]]:
    """Return a copy, sharing all tensors, whose output × gradient is the relevance of each layer, and its first layers.

    Raises NotApplicableError for an operation without a rule.
    """
    copy: Any = shared_copy(graph)
    first_names = _firsts(copy)
    firsts: list[FirstLayer] = []
    called = dict.fromkeys(str(node.target) for node in copy.graph.nodes if node.op == "call_module")
    for name in called:
        sub = copy.get_submodule(name)
        if name in first_names:
            firsts.append(FirstLayer(sub))
            copy.set_submodule(name, firsts[-1].eval())
        elif (rule := _rule(sub, gamma)) is not None:
            copy.set_submodule(name, rule.eval())
    _replace_products(copy)
    return copy, firsts


def _rule(sub: nn.Module, gamma: float) -> nn.Module | None:
    """Return the layer with its rule, None where the gradient is the rule; raises NotApplicableError where there is none."""
    if isinstance(sub, nn.Conv2d | nn.Linear) or type(sub) is nn.BatchNorm2d:
        if "weight" not in sub._parameters:
            raise NotApplicableError("LRP has no rule for layers whose weights are computed")
        return GammaLayer(sub, gamma if isinstance(sub, nn.Conv2d) else 0.0)
    if type(sub) is nn.ReLU and not sub.inplace:
        return None
    if is_elementwise(sub) or isinstance(sub, UpperClamp):
        return ProportionalActivation(sub)
    if not isinstance(sub, (*_POOLS, *_ASIDE)) and type(sub).__name__ not in _OFF:
        raise NotApplicableError(f"LRP has no rule for {type(sub).__name__}")
    return None


def _firsts(graph: fx.GraphModule) -> set[str]:
    """Return the names of the layers that are fed the image itself, normalised or in another shape.

    Raises NotApplicableError where something else reads the image, or an operation has no rule.
    """
    near: set[fx.Node] = set()
    names: set[str] = set()
    for node in graph.graph.nodes:
        if node.op in ("call_function", "call_method") and node.target not in _KNOWN:
            raise NotApplicableError(f"LRP has no rule for {getattr(node.target, '__name__', node.target)}")
        if node.op == "placeholder":
            near.add(node)
        if not any(source in near for source in node.all_input_nodes):
            continue
        sub = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        normalises = node.target in (*_AFFINE, *_PRODUCTS) and _with_constants(node)
        if isinstance(sub, nn.Conv2d | nn.Linear) and "weight" in sub._parameters:
            names.add(str(node.target))
        elif isinstance(sub, _ASIDE) or node.target in _SHAPES or normalises:
            near.add(node)
        elif node.target not in _QUESTIONS:
            raise NotApplicableError(_NO_FIRST)
    if not names:
        raise NotApplicableError(_NO_FIRST)
    return names


def _with_constants(node: fx.Node) -> bool:
    """Return whether all inputs of a node but one are constants."""
    return sum(source.op != "get_attr" for source in node.all_input_nodes) == 1


def _replace_products(graph: fx.GraphModule) -> None:
    """Put the rule into every product of two nodes."""
    graph.add_submodule("gated_product", GatedProduct().eval())
    for node in list(graph.graph.nodes):
        product = node.op == "call_function" and node.target in _PRODUCTS
        product = product or (node.op == "call_method" and node.target in ("mul", "multiply"))
        if product and all(isinstance(operand, fx.Node) for operand in node.args[:2]):
            with graph.graph.inserting_before(node):
                gated = graph.graph.call_module("gated_product", node.args[:2])
            node.replace_all_uses_with(gated)
            graph.graph.erase_node(node)
    graph.graph.lint()
    graph.recompile()


class GammaLayer(nn.Module):
    """A layer that favours contributions of the sign of its output by γ (0: the ε rule)."""

    def __init__(self, layer: nn.Module, gamma: float) -> None:
        super().__init__()
        self.layer, self.gamma = layer, gamma

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the layer's output, with the gradient output / favoured output × favoured weights."""
        if self.gamma == 0:
            output: Tensor = self.layer(inputs)
            return _rescaled(output, output.detach())
        with torch.no_grad():
            output = self.layer(inputs)
        favoured = torch.where(output > 0, self._favoured(inputs, 1), self._favoured(inputs, -1))
        return _rescaled(favoured, output)

    def _favoured(self, inputs: Tensor, sign: int) -> Tensor:
        """Return the output where contributions of this sign count 1 + γ times."""
        found: Tensor = functional_call(self.layer, self._with(sign), (inputs.clamp_min(0),))
        if not bool((inputs < 0).any()):
            return found
        others = self._with(-sign)
        if "bias" in others:
            others["bias"] = torch.zeros_like(others["bias"])
        rest: Tensor = functional_call(self.layer, others, (inputs.clamp_max(0),))
        return found + rest

    def _with(self, sign: int) -> dict[str, Tensor]:
        """Return the parameters, those of this sign 1 + γ times as large."""
        return {
            name: parameter + self.gamma * sign * (sign * parameter).clamp_min(0)
            for name, parameter in self.layer.named_parameters()
        }


class FirstLayer(nn.Module):
    """The layer that sees the image: a convolution spreads relevance evenly over what it sees, a dense layer by ε.

    ``seen`` are the inputs and outputs of its calls.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the layer's output, and keep it."""
        output: Tensor = self.layer(inputs.detach()).requires_grad_()
        self.seen.append((inputs.detach(), output))
        # What changes the output in place must not change what is kept.
        return output.clone()

    def spread(self, inputs: Tensor, relevance: Tensor) -> Tensor:
        """Return the relevance of the inputs, in their shape."""
        values, weights = inputs, {name: weight.data for name, weight in self.layer.named_parameters()}
        if isinstance(self.layer, nn.Conv2d):
            values = torch.ones_like(inputs)
            weights = {name: torch.full_like(weight, name == "weight") for name, weight in weights.items()}
        values = values.clone().requires_grad_()
        output: Tensor = functional_call(self.layer, weights, (values,))
        (gradient,) = torch.autograd.grad(output, values, relevance / _stable(output.detach()))
        return values.detach() * gradient


class ProportionalActivation(nn.Module):
    """An activation that passes relevance on: its gradient is output / input."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the activation."""
        with torch.no_grad():
            output: Tensor = self.activation(inputs.clone())
        return _rescaled(inputs, output)


class GatedProduct(nn.Module):
    """A product whose smaller factor is a gate, and passes nothing back; equally large factors share."""

    def forward(self, left: Any, right: Any) -> Any:
        """Return ``left * right``."""
        if not all(isinstance(value, Tensor) and value.requires_grad for value in (left, right)):
            return left * right
        if left.numel() < right.numel():
            return left.detach() * right
        if right.numel() < left.numel():
            return left * right.detach()
        return (left.detach() * right + left * right.detach()) / 2


def _rescaled(carrier: Tensor, output: Tensor) -> Tensor:
    """Return ``output``, with the gradient of ``carrier`` times output / carrier."""
    carried = carrier * (output / _stable(carrier)).detach()
    return carried + (output - carried).detach()


def _stable(values: Tensor) -> Tensor:
    """Return the values a little further from 0, so that none is 0."""
    size = _STABLE * values.detach().square().mean().sqrt() + torch.finfo(values.dtype).tiny
    return values + torch.where(values >= 0, size, -size)
