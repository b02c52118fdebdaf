"""Search for the first operation that turns finite numbers into NaN or infinity, with its line in the user's code."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Operation:
    """A call of a torch function: ``place`` is file and line of the caller, empty inside a library.

    ``layer`` is the innermost module that makes the call: empty for the whole network, None outside (in the loss).
    ``reason`` says which input caused the problem, and ``singular`` whether the function itself has no finite value
    there (such as log at 0); otherwise the numbers are too large for their type. ``way`` is the pass in which it happened.
    """

    name: str
    layer: str | None
    place: str
    reason: str
    singular: bool
    way: Literal["forward", "backward"] = "forward"


@contextmanager
def inside(module: nn.Module) -> Iterator[Callable[[], str | None]]:
    """Yield a function that returns the name of the submodule that is running, None outside the module."""
    around: list[str] = []
    with ExitStack() as stack:
        for name, sub in module.named_modules():
            enter = sub.register_forward_pre_hook(lambda *_, name=name: around.append(name))
            leave = sub.register_forward_hook(lambda *_: _leave(around), always_call=True)
            stack.callback(enter.remove)
            stack.callback(leave.remove)
        yield lambda: around[-1] if around else None


def _leave(around: list[str]) -> None:
    around.pop()


def first_bad(
    module: nn.Module, forward: Callable[[], Any], loss: Callable[[Any], Tensor]
) -> Operation | None:
    """Run a step's forward and backward pass and return the first operation that turns finite into non-finite numbers.

    None if there is none, or if it happened outside torch's functions. Gradients are not changed; the caller restores
    buffers and random generators. The forward pass takes precedence over the backward pass. Non-finite inputs
    (such as a mask of −inf) are assumed to be intended.
    """
    operations: list[Operation] = []
    with ExitStack() as stack:
        layer = stack.enter_context(inside(module))
        spy = stack.enter_context(_Spy(layer, operations))
        value = loss(forward())
        if operations or value.grad_fn is None:
            return operations[0] if operations else None
        spy.listening = False
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        torch.autograd.grad(value, parameters, allow_unused=True)
    return operations[0] if operations else None


class _Spy(TorchFunctionMode):
    """Inspect the inputs and outputs of every torch function, and of its gradient."""

    def __init__(self, layer: Callable[[], str | None], operations: list[Operation]) -> None:
        super().__init__()
        self.layer, self.operations, self.listening = layer, operations, True
        self._known: set[Any] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not self.listening or self.operations:
            return func(*args, **kwargs)
        arguments = list(_flat((args, tuple(kwargs.values()))))
        fine = any(isinstance(value, Tensor) for value in arguments) and all(map(_finite, arguments))
        copies = (
            [value.detach().clone() if isinstance(value, Tensor) else value for value in arguments]
            if fine
            else []
        )
        result = func(*args, **kwargs)
        outputs = [output for output in _flat(result) if isinstance(output, Tensor)]
        if fine and not all(map(_finite, outputs)):
            self.operations.append(self._operation(func, copies, "forward"))
        elif fine:
            for output in outputs:
                self._follow(output.grad_fn, func, copies)
        return result

    def _operation(
        self, func: Callable[..., Any], arguments: Sequence[Any], way: Literal["forward", "backward"]
    ) -> Operation:
        name = getattr(func, "__name__", str(func)).strip("_")
        reason, singular = explain(name, arguments, way)
        return Operation(name, self.layer(), caller(), reason, singular, way)

    def _follow(self, node: Any, func: Callable[..., Any], arguments: Sequence[Any]) -> None:
        """Watch the gradients of the nodes that this call added to the graph."""
        waiting = [node]
        operation: Operation | None = None
        while waiting:
            node = waiting.pop()
            if node is None or node in self._known or type(node).__name__ == "AccumulateGrad":
                continue
            self._known.add(node)
            operation = operation or self._operation(func, arguments, "backward")
            node.register_hook(self._check(operation))
            waiting += [following for following, _ in node.next_functions]

    def _check(self, operation: Operation) -> Callable[..., None]:
        def hook(returned: Sequence[Tensor | None], received: Sequence[Tensor | None]) -> None:
            if not self.operations and all(map(_finite, received)) and not all(map(_finite, returned)):
                self.operations.append(operation)

        return hook


def explain(name: str, arguments: Sequence[Any], way: str = "forward") -> tuple[str, bool]:
    """Return which inputs make a function or its gradient not finite, and whether the function is singular there."""
    tensors = [
        value.detach() for value in arguments if isinstance(value, Tensor) and value.is_floating_point()
    ]
    if not tensors:
        return "", False
    x = tensors[0]
    zeros, negative = int((x == 0).sum()), int((x < 0).sum())
    of = f"of {x.numel():,} inputs"
    if name in ("log", "log2", "log10") and zeros + negative:
        return f"{zeros:,} {of} are 0 and {negative:,} negative, where a logarithm is not finite", True
    if name in ("sqrt", "rsqrt") and negative:
        return f"{negative:,} {of} are negative (the smallest is {float(x.min()):.3g})", True
    if (
        name in ("sqrt", "rsqrt", "norm", "vector_norm", "cdist", "std")
        and zeros
        and (way == "backward" or name == "rsqrt")
    ):
        return (
            f"{zeros:,} {of} are 0, where its {'gradient' if way == 'backward' else 'value'} is infinite",
            True,
        )
    if name in (
        "div",
        "true_divide",
        "truediv",
        "divide",
        "reciprocal",
        "rtruediv",
        "rdiv",
        "itruediv",
        "div_",
    ):
        return _division(name, arguments)
    if name in ("asin", "acos", "arcsin", "arccos", "atanh") and bool((x.abs() >= 1).any()):
        return f"{int((x.abs() >= 1).sum()):,} {of} are outside the open interval from −1 to 1", True
    if name in ("pow", "rpow", "float_power") and (zeros or negative):
        return f"{zeros:,} {of} are 0 and {negative:,} negative", True
    largest = max((float(tensor.abs().max()) for tensor in tensors if tensor.numel()), default=math.nan)
    limit = torch.finfo(x.dtype).max
    return f"the largest input is {largest:.3g}; the largest {_type(x)} value is {limit:.3g}", False


def _division(name: str, arguments: Sequence[Any]) -> tuple[str, bool]:
    numbers = [
        value
        for value in arguments
        if isinstance(value, Tensor | int | float) and not isinstance(value, bool)
    ]
    below = numbers[0] if name in ("reciprocal", "rtruediv", "rdiv") else numbers[-1]
    divisor = below.detach() if isinstance(below, Tensor) else torch.tensor(float(below))
    zeros = int((divisor == 0).sum())
    if zeros:
        return f"{zeros:,} of {divisor.numel():,} divisors {'is' if zeros == 1 else 'are'} 0", True
    return f"the smallest divisor is {float(divisor.abs().min()):.3g}", False


def caller() -> str:
    """Return file and line of the innermost frame outside torch; empty if that is in a library or in probe itself."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, str(Path(__file__).parent))):
            library = file.startswith((_OURS, "<")) or "site-packages" in file
            return "" if library else f"{Path(file).name}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not (value.is_floating_point() or value.is_complex()) or bool(torch.isfinite(value).all())
    return not isinstance(value, float) or math.isfinite(value)


def _type(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
