"""Fixes for captum's hook-based methods: every hooked module is separate, private and supported by its rule."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from captum import attr as captum
from torch import Tensor, fx, nn

from probe.graph.trace.trace import shared_copy

_ELEMENTWISE = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardshrink,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.PReLU,
    nn.ReLU,
    nn.RReLU,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softshrink,
    nn.Softsign,
    nn.Tanh,
    nn.Tanhshrink,
    nn.Threshold,
)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_PRODUCTS = (operator.mul, operator.imul, torch.mul)
_CAPTUM_NOTICES = (
    "Setting backward hooks on ReLU activations",
    "Setting forward, backward hooks and attributes on non-linear",
)


def is_elementwise(module: nn.Module) -> bool:
    """Return whether ``module`` is an activation that acts on each value alone; gates (sigmoid) count."""
    return isinstance(module, _ELEMENTWISE) or type(module).__module__ == "timm.layers.activations"


def is_hooked(module: nn.Module) -> bool:
    """Return whether the rescale rule applies to ``module``: an activation or a max-pool."""
    return is_elementwise(module) or isinstance(module, _MAX_POOLS)


@contextmanager
def quiet_captum() -> Iterator[None]:
    """Silence captum's notices that it sets hooks; every other warning stays."""
    with warnings.catch_warnings():
        for notice in _CAPTUM_NOTICES:
            warnings.filterwarnings("ignore", message=rf"\s*{notice}")
        yield


class Product(nn.Module):
    """Multiply; between two hidden tensors the gradient follows the rescale rule for products."""

    def forward(self, left: Any, right: Any) -> Any:
        """Return ``left * right``; the rule needs inputs and references stacked along the batch."""
        tensors = isinstance(left, Tensor) and isinstance(right, Tensor)
        if tensors and left.requires_grad and right.requires_grad:
            return _RescaledProduct.apply(left, right)
        return left * right


class _RescaledProduct(torch.autograd.Function):
    """Share the change of a product equally: xy − x'y' = (x − x')(y + y')/2 + (y − y')(x + x')/2."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return left * right

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        left, right = ctx.saved_tensors
        toward_left = (gradient * _midpoint(right)).sum_to_size(left.shape)
        toward_right = (gradient * _midpoint(left)).sum_to_size(right.shape)
        return toward_left, toward_right


def _midpoint(stacked: Tensor) -> Tensor:
    value, reference = stacked.chunk(2)
    middle = (value + reference) / 2
    return torch.cat([middle, middle])


class Own(nn.Module):
    """Give the layer behind a tensor to itself, which shares its values with the input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return a view of all of the input."""
        return input.view_as(input)


def hookable(module: nn.Module, products: bool = False) -> nn.Module:
    """Return a copy, sharing all tensors, on which captum's hooks do what their method says.

    captum hooks the *tensors* before and after a module. Two modules in a row share one (ReLU and max-pool),
    and so do branches (the pooling branch of an inception block); then one rule undoes the other. Here each
    hooked module gets its input to itself, and nothing works in place. With ``products`` the products of
    hidden tensors (squeeze-and-excitation) follow the rescale rule; this needs inputs and references in one
    batch.
    """
    copy = shared_copy(module)
    for name, sub in list(copy.named_modules()):
        if getattr(sub, "inplace", False) is True:
            sub.inplace = False
        if name and is_hooked(sub):
            copy.set_submodule(name, nn.Sequential(Own(), sub).eval())
    if products and isinstance(copy, fx.GraphModule):
        _replace_products(copy)
    return copy


def _replace_products(graph_module: fx.GraphModule) -> None:
    graph_module.add_submodule("rescaled_product", Product().eval())
    for node in list(graph_module.graph.nodes):
        function = node.op == "call_function" and node.target in _PRODUCTS
        method = node.op == "call_method" and node.target in ("mul", "mul_", "multiply")
        operands = node.args[:2]
        if (function or method) and len(operands) == 2 and all(isinstance(o, fx.Node) for o in operands):
            with graph_module.graph.inserting_before(node):
                product = graph_module.graph.call_module("rescaled_product", operands)
            node.replace_all_uses_with(product)
            graph_module.graph.erase_node(node)
    graph_module.graph.lint()
    graph_module.recompile()


class DeepLiftRule(captum.DeepLift):  # type: ignore[misc]
    """captum's DeepLift with the rescale rule for every elementwise activation and for overlapping max-pools.

    captum supports six activations (no ReLU6, SiLU, GELU …), loses contributions where the windows of a max-pool
    overlap, and mixes gradients of different images where a pool's input equals its reference.
    """

    def _is_non_linear(self, module: nn.Module) -> bool:
        return is_hooked(module)

    def _backward_hook(self, module: nn.Module, grad_input: Tensor, grad_output: Tensor) -> Tensor:
        # captum's forward hooks have put ``input`` and ``output`` on the module.
        before: Tensor = module.__dict__.pop("input")
        after: Tensor = module.__dict__.pop("output")
        if isinstance(module, _MAX_POOLS):
            return rescale_max_pool(module, before, after, grad_input, grad_output)
        return rescale_elementwise(before, after, grad_input, grad_output)


def rescale_elementwise(before: Tensor, after: Tensor, grad_input: Tensor, grad_output: Tensor) -> Tensor:
    """Return the rescale rule's multipliers of an elementwise activation (Shrikumar et al. 2017).

    ``before`` and ``after`` hold the inputs in the first and the references in the second half of the batch.
    Where input and reference agree the multiplier is the gradient.
    """
    value, reference = before.chunk(2)
    change = value - reference
    same = _agree(value, reference, change)
    output, output_reference = after.chunk(2)
    slope = (output - output_reference).div_(change.masked_fill_(same, 1.0))
    # Both halves of the batch have the same slopes, so these are worked out once.
    stacked = _halves(grad_output) * slope
    return torch.where(same, _halves(grad_input), stacked).flatten(0, 1)


def rescale_max_pool(
    module: nn.Module, before: Tensor, after: Tensor, grad_input: Tensor, grad_output: Tensor
) -> Tensor:
    """Return the multipliers of a max-pool: each window's change goes to the value that caused it.

    With m the larger of a window's two maxima, m − reference goes to the position of the input's maximum and
    output − m to that of the reference's. Positions shared by several windows add up.
    """
    output, reference = after.chunk(2)
    larger = torch.maximum(output, reference)
    contributions = grad_output * torch.cat([larger - reference, output - larger])
    scattered = torch.zeros_like(before).flatten(2)
    scattered.scatter_add_(2, _switches(module, before).flatten(2), contributions.flatten(2))
    value, at_reference = before.chunk(2)
    change = value - at_reference
    same = _agree(value, at_reference, change)
    both = torch.add(*scattered.view(before.shape).chunk(2)).div_(change.masked_fill_(same, 1.0))
    return torch.where(same, _halves(grad_input), both).flatten(0, 1)


def _switches(module: nn.Module, before: Tensor) -> Tensor:
    pools: dict[type, Callable[..., Any]] = {
        nn.MaxPool1d: F.max_pool1d,
        nn.MaxPool2d: F.max_pool2d,
        nn.MaxPool3d: F.max_pool3d,
    }
    pool = next(function for kind, function in pools.items() if isinstance(module, kind))
    options = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
    indices: Tensor = pool(before, *options, return_indices=True)[1]
    return indices


def _halves(stacked: Tensor) -> Tensor:
    """Return (2, N, …) for a batch of N inputs and N references."""
    return stacked.reshape(2, -1, *stacked.shape[1:])


def _agree(value: Tensor, reference: Tensor, change: Tensor) -> Tensor:
    """Return where the change is rounding error, relative to the values: activations may be tiny throughout."""
    rounding = 10 * torch.finfo(value.dtype).eps
    return change.abs() <= rounding * torch.maximum(value.abs(), reference.abs())
