"""Recognition of local response normalisation (Krizhevsky et al. 2012) by its formula."""

from __future__ import annotations

from numbers import Real

from torch import fx, nn

from probe.graph.trace.ops import plain_name

_MOVES = ("view", "reshape", "_unsafe_view", "squeeze", "unsqueeze")
_PADS = ("pad", "constant_pad_nd")
_POOLS = ("avg_pool2d", "avg_pool3d")


def response_norm(graph: fx.GraphModule, node: fx.Node) -> tuple[nn.Module, fx.Node] | None:
    """Return the normalisation and its input where a node is x / (k + alpha · mean of neighbouring x²) ** beta.

    PyTorch itself spells it like this, so that the exported graph of a module shows only the formula.
    """
    value, power = _operands(node, ("div", "truediv", "divide", "div_"))
    base, beta = _operands(power, ("pow",))
    scaled, k = _number_last(base, ("add", "add_"))
    mean, alpha = _number_last(scaled, ("mul", "mul_", "multiply"))
    if not (isinstance(value, fx.Node) and isinstance(mean, fx.Node) and isinstance(beta, Real)):
        return None
    if not (isinstance(k, Real) and isinstance(alpha, Real)):
        return None
    size, start = _windows(graph, mean)
    if not size or not _is_square_of(start, value) or len(value.meta.get("shape") or ()) < 3:
        return None
    return nn.LocalResponseNorm(size, float(alpha), float(beta), float(k)), value


def _operands(node: object, names: tuple[str, ...]) -> tuple[object, object]:
    """Return the two operands of one of these operations, Nones for another node."""
    if not isinstance(node, fx.Node) or plain_name(node.target) not in names:
        return None, None
    return (node.args[0], node.args[1]) if len(node.args) == 2 and not node.kwargs else (None, None)


def _number_last(node: object, names: tuple[str, ...]) -> tuple[object, object]:
    first, second = _operands(node, names)
    return (second, first) if isinstance(first, Real) else (first, second)


def _windows(graph: fx.GraphModule, node: fx.Node) -> tuple[int, fx.Node]:
    """Return how many channels are averaged, 0 if it is something else, and the value that they are channels of."""
    size, before, after = 0, 0, 0
    while node.op in ("call_function", "call_method", "call_module") and node.args:
        name = plain_name(node.target)
        own = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if name in _POOLS or isinstance(own, nn.AvgPool2d | nn.AvgPool3d):
            size, reach = _kernel(node, own)
            before += reach
            after += reach
        elif name in _PADS:
            sides = node.args[1] if len(node.args) > 1 else None
            if not isinstance(sides, list | tuple) or any(sides[:-2]):
                return 0, node
            before, after = before + int(sides[-2]), after + int(sides[-1])
        elif name not in _MOVES:
            break
        source = node.args[0]
        if not isinstance(source, fx.Node):
            return 0, node
        node = source
    return (size if (before, after) == (size // 2, (size - 1) // 2) else 0), node


def _kernel(node: fx.Node, own: nn.Module | None) -> tuple[int, int]:
    """Return the length of a pooling along its first dimension, and its padding there; 0 if it has another shape."""
    if isinstance(own, nn.AvgPool2d | nn.AvgPool3d):
        kernel, stride, padding = own.kernel_size, own.stride, own.padding
        plain = own.count_include_pad and own.divisor_override is None
    else:
        rest = list(node.args[1:])
        options = dict(zip(("kernel_size", "stride", "padding"), rest, strict=False)) | node.kwargs
        kernel, stride = options.pop("kernel_size", 0), options.pop("stride", None)  # type: ignore[assignment]
        padding, plain = options.pop("padding", 0), not options and len(rest) <= 3  # type: ignore[assignment]
    dims = 3 if "3d" in plain_name(node.target).lower() or isinstance(own, nn.AvgPool3d) else 2
    sides, steps, reach = (_each(value, dims) for value in (kernel, stride, padding))
    if (
        not plain
        or any(step != 1 for step in steps)
        or any(side != 1 for side in sides[1:])
        or any(reach[1:])
    ):
        return 0, 0
    return sides[0], reach[0]


def _each(value: object, dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * dims
    return tuple(value) if isinstance(value, list | tuple) and len(value) == dims else (0,) * dims


def _is_square_of(node: fx.Node, value: fx.Node) -> bool:
    first, second = _operands(node, ("mul", "mul_", "multiply", "pow", "square"))
    if plain_name(node.target) == "pow":
        return first is value and second == 2
    return first is value and second is value
