"""Operations inside a ``forward`` that stop gradients, and the logits before a softmax, seen as torch runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_STEPS = {
    name: getattr(torch, name)
    for name in (
        "round",
        "floor",
        "ceil",
        "trunc",
        "fix",
        "sign",
        "sgn",
        "floor_divide",
        "heaviside",
        "clamp",
        "clip",
    )
} | {"floordiv": torch.floor_divide}
_COMPARISONS = dict.fromkeys(("gt", "greater", "ge", "greater_equal"), 1) | dict.fromkeys(
    ("lt", "less", "le", "less_equal"), -1
)
"""Their names, and whether the result becomes 1 as the first less the second grows, or as it falls."""
_CONVERSIONS = {"float", "double", "half", "bfloat16", "to", "type", "int", "long", "short", "byte"}
_ARITHMETIC = {
    "add",
    "sub",
    "mul",
    "div",
    "true_divide",
    "floor_divide",
    "floordiv",
    "truediv",
    "neg",
    "logical_not",
}
_ARITHMETIC |= {
    "radd",
    "rsub",
    "rmul",
    "rshift",
    "lshift",
    "and",
    "or",
    "bitwise_and",
    "bitwise_or",
    "clamp",
    "invert",
}
_SQUASHING = {"softmax", "sigmoid"}
_OUT_OF_TORCH = {"numpy", "array"}
_DATA: Final = torch.Tensor.data.__get__  # type: ignore[attr-defined]

REACH = 0.25
"""Over which part of the standard deviation of its inputs a function in steps is looked at for its slope."""

Pointwise = Callable[[Tensor], Tensor]


def wider_slope(function: Pointwise, at: Tensor) -> Tensor:
    """Return the slope of a function of single values over ``REACH`` standard deviations to both sides, as far as values go."""
    with torch.no_grad():
        values = at.detach()
        reach = (REACH * values.std(correction=0)).clamp_min(1e-6)
        least, most = values.aminmax()
        low, high = (values - reach).clamp_min(least), (values + reach).clamp_max(most)
        rise = function(high).to(values) - function(low).to(values)
        return rise / (high - low).clamp_min(1e-6)


def with_slope(output: Tensor, slope: Tensor, at: Tensor) -> Tensor:
    """Return ``output`` with the gradient ``slope`` at ``at``, value by value."""
    passed: Tensor = output.detach() + (slope * (at - at.detach())).to(output)
    return passed


class _Hidden(NamedTuple):
    """A tensor of integers or truth values (kept, so that its id stays its own), and what it was made of by ``function``."""

    tensor: Tensor
    source: Tensor
    function: Pointwise


class OpenGradients(TorchFunctionMode):
    """Lets gradients pass steps, thresholds and integers by their slope over a wider range, and tensors that are detached.

    The values stay the same. ``opened`` are the names of the operations that were passed, in order. ``torch.no_grad`` has no
    effect inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.opened: dict[str, None] = {}
        self._hidden: dict[int, _Hidden] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled and args == (False,):
            self.opened["no_grad"] = None
            return None
        name = getattr(func, "__name__", "").strip("_")
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is None:
            return func(*args, **kwargs)
        if id(first) in self._hidden:
            return self._of_hidden(self._hidden[id(first)], func, name, args, kwargs)
        if not first.requires_grad:
            return func(*args, **kwargs)
        if name in _OUT_OF_TORCH:
            return func(first.detach(), *args[1:], **kwargs)
        if name == "detach" or func == _DATA:
            self.opened["detach"] = None
            return first
        if name in _STEPS and first.is_floating_point():
            return self._stepped(func, name, args, kwargs)
        output = func(*args, **kwargs)
        if name in _COMPARISONS and len(args) > 1:
            self._hide(output, _COMPARISONS[name] * (first - args[1]), lambda values: values > 0)
        elif name in _CONVERSIONS and not output.is_floating_point():
            # Bytes would wrap where the slope is looked at beyond their range.
            self._hide(output, first, lambda values: values.long())
        return output

    def _hide(self, output: Tensor, source: Tensor, function: Pointwise) -> None:
        self._hidden[id(output)] = _Hidden(output, source, function)

    def _stepped(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        first: Tensor = args[0]

        def step(values: Tensor) -> Tensor:
            result: Tensor = _STEPS[name](values, *args[1:], **kwargs)
            return result

        self.opened[name] = None
        with torch.no_grad():
            output = step(first.detach())
        if output.shape != first.shape:
            return output
        passed = with_slope(output, wider_slope(step, first), first.clone())
        in_place = func.__name__.endswith("_") and not func.__name__.endswith("__")
        return first.copy_(passed) if in_place else passed

    def _of_hidden(
        self,
        hidden: _Hidden,
        func: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Follow what is done to integers or truth values until they are numbers again."""
        output = func(*args, **kwargs)
        known = name in _CONVERSIONS or name in _ARITHMETIC
        if name == "where" and len(args) == 3 and not any(_has_gradient(value) for value in args[1:]):
            known = True
        elif any(isinstance(value, Tensor) for value in args[1:]):
            known = False
        if not known or not isinstance(output, Tensor) or output.shape != hidden.source.shape:
            return output

        def function(values: Tensor) -> Tensor:
            result: Tensor = func(hidden.function(values), *args[1:], **kwargs)
            return result

        if not output.is_floating_point():
            self._hide(output, hidden.source, function)
            return output
        self.opened["threshold" if hidden.tensor.dtype == torch.bool else "integers"] = None
        return with_slope(output, wider_slope(function, hidden.source), hidden.source)


def _has_gradient(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


class SquashedInputs(TorchFunctionMode):
    """Notes the inputs of softmax and sigmoid, and what they made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in _SQUASHING and args and isinstance(args[0], Tensor):
            self.calls.append((args[0], output))
        return output

    def logits_of(self, outputs: Tensor) -> Tensor | None:
        """Return what the outputs of the network were made of by the last such call, None where they were not."""
        for before, after in reversed(self.calls):
            if after.shape == outputs.shape and torch.equal(after, outputs):
                return before
        return None
