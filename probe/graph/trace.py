"""A module's computation as a torch.fx graph, verified to give the module's output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from probe.core.errors import NotApplicableError
from probe.graph.names import check_layer, layer_names
from probe.graph.shell import isolated, shell
from probe.graph.tracer import GraphTracer, explain

TOLERANCE = 1e-5


class TraceError(NotApplicableError):
    """The network cannot be written as a graph that gives its own output."""


def trace(module: nn.Module, example: Tensor) -> fx.GraphModule:
    """Write what ``module`` computes in eval mode as a torch.fx graph.

    ``example`` is an input (N, C, H, W). The graph uses the module's own parameters and buffers; its submodules are
    copies, so that hooks and flags set on them do not reach the module. Every node carries in its ``meta``:

    - ``shape``: the shape of its value for ``example``, None when that is not a tensor;
    - ``path``: the names of the modules it belongs to, outermost first;
    - ``outputs_of``: ``(module name, number of the call)`` for each module call whose output it is;
    - ``aliases``: numbers of the memories that its value occupies, ``mutates``: of those it changes in place;
    - ``layout``: shape, strides and offset of its value, None when that is not a tensor.

    A graph that this function made for the same kind of example is returned as it is. A network whose forward pass
    decides by the height or width gives a graph that refuses other sizes. Raises TraceError when torch.fx cannot
    follow the module (naming the source line), and when the graph does not give the module's output within 1e-5 of
    its largest value.
    """
    if isinstance(module, fx.GraphModule) and module.meta.get("traced_for") == _key(example):
        return module
    return trace_and_run(module, example)[0]


def trace_and_run(module: nn.Module, example: Tensor) -> tuple[fx.GraphModule, Any]:
    """Trace ``module``; return the graph and the module's output for ``example`` too."""
    copy = shell(module)
    with isolated(copy):
        expected = copy(example.clone())
    with isolated(copy):
        tracer = GraphTracer(example)
        try:
            graph = tracer.trace(copy)
        except Exception as error:
            raise TraceError(explain(error)) from error
        if tracer.sized:
            _fix_size(graph, example)
        traced = fx.GraphModule(copy, graph, type(module).__name__)
        traced.eval()
    verify(expected, annotate(Annotator(traced), example))
    traced.meta["traced_for"] = _key(example)
    traced.meta["layers"] = layer_names(module)
    traced.meta["names"] = {
        name: tracer.names[sub]
        for name, sub in copy.named_modules(remove_duplicate=False)
        if name and sub in tracer.names
    }
    return traced, expected


def annotate(annotator: Annotator, example: Tensor) -> Any:
    """Run a graph on a copy of ``example``, writing into each node's meta; return the output."""
    with isolated(annotator.module):
        return annotator.run(example.clone())


def verify(expected: object, actual: object) -> None:
    """Raise TraceError unless ``actual`` equals ``expected`` within 1e-5 of the largest value."""
    ours, theirs = list(tensors(expected)), list(tensors(actual))
    if not ours or len(ours) != len(theirs) or not all(map(_close, ours, theirs)):
        raise TraceError("The traced network does not give the network's own output.")


def output_node(traced: fx.GraphModule, layer: str) -> fx.Node:
    """Return the node that carries the output of the module called ``layer``, of its last call if it is reused.

    That is the last call that gives a map, if one does (an activation may serve convolutions and dense layers).
    Raises UsageError for an unknown name, TraceError when the graph does not show the layer: it is never
    called, it lies inside a module that is not looked into, or it returns several tensors.
    """
    check_layer(traced.meta["layers"], layer)
    wanted = traced.meta["names"].get(layer)
    calls = [
        (number, node)
        for node in traced.graph.nodes
        for name, number in node.meta.get("outputs_of", ())
        if name == wanted
    ]
    if not calls:
        raise TraceError(f"Layer '{layer}' has no output of its own in the traced network.")
    maps = [(number, node) for number, node in calls if len(node.meta.get("shape") or ()) == 4]
    node: fx.Node = max(maps or calls, key=lambda call: call[0])[1]
    return node


def tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors of a nested value in a fixed order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


class Annotator(fx.Interpreter):
    """Run a graph and write into each node's meta what it does; see ``trace``."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.memories = 0

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        inputs = [(node, value) for node in n.all_input_nodes for value in tensors(self.env[node])]
        before = [value._version for _, value in inputs]
        result = super().run_node(n)
        changed = [node for (node, value), old in zip(inputs, before, strict=True) if value._version != old]
        n.meta["mutates"] = frozenset().union(*(node.meta["aliases"] for node in changed))
        n.meta["aliases"] = self._memories(result, inputs)
        single = isinstance(result, Tensor)
        n.meta["shape"] = tuple(result.shape) if single else None
        n.meta["layout"] = (tuple(result.shape), result.stride(), result.storage_offset()) if single else None
        n.meta.setdefault("path", ())
        return result

    def _memories(self, result: object, inputs: list[tuple[fx.Node, Tensor]]) -> frozenset[int]:
        found: set[int] = set()
        for value in tensors(result):
            shared = [node.meta["aliases"] for node, tensor in inputs if _memory(tensor) == _memory(value)]
            if not shared:
                self.memories += 1
            found.update(*shared or [{self.memories}])
        return frozenset(found)


def require_size(pixels: Tensor, size: tuple[int, ...]) -> None:
    """Raise TraceError unless ``pixels`` has the (C, H, W) that the graph was made for."""
    if tuple(pixels.shape[1:]) != tuple(size):
        raise TraceError(
            f"This network was traced for images of {tuple(size)}, because its forward pass depends on their size; "
            f"it got {tuple(pixels.shape[1:])}."
        )


def _fix_size(graph: fx.Graph, example: Tensor) -> None:
    pixels = next(node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(pixels):
        graph.call_function(require_size, (pixels, tuple(example.shape[1:])))


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _close(expected: Tensor, actual: Tensor) -> bool:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    if torch.equal(expected, actual):
        return True
    if not expected.is_floating_point() or not expected.numel():
        return False
    scale = max(1.0, float(expected.nan_to_num(0.0, 0.0, 0.0).abs().max()))
    return torch.allclose(expected, actual, rtol=0.0, atol=TOLERANCE * scale, equal_nan=True)


def _key(example: Tensor) -> tuple[Any, ...]:
    return tuple(example.shape), example.dtype, example.device
