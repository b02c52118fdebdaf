"""What a value would be for the example, asked while the network is being traced."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

_CALL, _GETATTR = nn.Module.__call__, nn.Module.__getattr__

_SIZES = frozenset({"shape", "size", "numel", "nelement", "stride", "is_contiguous"})
_KINDS = frozenset(
    {
        "ndim",
        "dim",
        "ndimension",
        "dtype",
        "device",
        "is_floating_point",
        "is_complex",
        "is_cuda",
        "requires_grad",
        "layout",
    }
)


class Concrete:
    """Sizes, and whatever is computed from sizes alone, as they are for the example.

    The graph so far is run for two batch sizes. A value that differs between them depends on the batch and is
    refused, as is one that depends on what the tensors hold.
    """

    def __init__(self, tracer: fx.Tracer, example: Tensor) -> None:
        self.tracer = tracer
        self.examples = [example[:1].expand(count, *example.shape[1:]) for count in (2, 3)]
        self.runs: list[dict[fx.Node, Any]] = [{}, {}]
        self.sized = False

    def of(self, node: fx.Node) -> Any:
        """Return the value of ``node``; raises TypeError when it is not known from the example's size."""
        values = self._values(node)
        if isinstance(values[0], Tensor) or not self._from_sizes(node):
            raise TypeError("the forward pass depends on the values of a tensor")
        if values[0] != values[1]:
            raise TypeError("the forward pass depends on the number of images")
        return values[0]

    def length(self, node: fx.Node) -> int:
        """Return the length of a tensor or a tuple; raises TypeError when it is that of the batch."""
        lengths = [len(value) for value in self._values(node)]
        if lengths[0] != lengths[1]:
            raise TypeError("the forward pass depends on the number of images")
        if not isinstance(self.runs[0][node], torch.Size):
            self.sized = True
        return lengths[0]

    def _values(self, node: fx.Node) -> list[Any]:
        waiting = [each for each in self.tracer.graph.nodes if each not in self.runs[0]]
        with _untraced():
            for example, known in zip(self.examples, self.runs, strict=True):
                runner = fx.Interpreter(self.tracer.root, graph=self.tracer.graph)
                runner.env = known
                runner.args_iter = iter([example.clone()])
                for each in waiting:
                    known[each] = runner.run_node(each)
        return [known[node] for known in self.runs]

    def _from_sizes(self, node: fx.Node) -> bool:
        """Say whether ``node`` is computed from sizes; note whether more than the number of dimensions counts."""
        waiting, seen = [node], set()
        while waiting:
            each = waiting.pop()
            if each in seen:
                continue
            seen.add(each)
            tensors = [n for n in each.all_input_nodes if isinstance(self.runs[0][n], Tensor)]
            asked = _asked(each)
            if tensors and asked in _SIZES:
                self.sized = True
            elif tensors and asked not in _KINDS:
                return False
            waiting += [n for n in each.all_input_nodes if n not in tensors]
        return True


@contextmanager
def _untraced() -> Iterator[None]:
    """Let modules compute inside the block although torch.fx, which is tracing, has taken over their calls."""
    patched = nn.Module.__call__, nn.Module.__getattr__
    try:
        nn.Module.__call__, nn.Module.__getattr__ = _CALL, _GETATTR  # type: ignore[method-assign]
        yield
    finally:
        nn.Module.__call__, nn.Module.__getattr__ = patched  # type: ignore[method-assign]


def _asked(node: fx.Node) -> str:
    """Return what ``node`` asks of a tensor, such as ``shape``, or an empty string."""
    if node.op == "call_method":
        return str(node.target)
    if node.op == "call_function" and node.target in (getattr, operator.attrgetter):
        return str(node.args[1])
    return ""
