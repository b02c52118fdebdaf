"""Tracing of a module to a torch.fx graph, verified against the module's output."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from probe.core import seeds
from probe.core.errors import NotApplicableError, unknown
from probe.core.state import refuse_torchscript
from probe.graph.trace.tracer import GraphTracer, explain


def shared_copy(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` in eval mode: its own submodules, hooks and flags, the same tensors.

    Parameters, buffers and tensor attributes are shared, so a weight changed in place changes in both. So are
    attributes that cannot be copied, such as locks and open files.
    """
    shared: dict[int, Any] = {}
    for sub in module.modules():
        for value in (*sub._parameters.values(), *sub._buffers.values(), *vars(sub).values()):
            if isinstance(value, Tensor):
                shared[id(value)] = value
    try:
        result = copy.deepcopy(module, dict(shared))
    except Exception:
        result = copy.deepcopy(module, shared | _uncopyable(module, shared))
    return result.eval()


@contextmanager
def no_side_effects(module: nn.Module) -> Iterator[None]:
    """Run forward passes inside the block without gradients, reproducibly, and without lasting changes to tensors.

    Buffers that a pass changes are restored; the global random generators are seeded inside and restored afterwards.
    """
    buffers = [(buffer, _version(buffer), buffer.detach().clone()) for buffer in module.buffers()]
    try:
        with seeds.scoped(0, "graph"), torch.no_grad():
            yield
    finally:
        for buffer, version, value in buffers:
            if version is None or _version(buffer) != version:
                with torch.no_grad():
                    buffer.copy_(value)


def _uncopyable(module: nn.Module, shared: dict[int, Any]) -> dict[int, Any]:
    """Return the plain attributes of all submodules that ``copy.deepcopy`` cannot copy, by identity."""
    result: dict[int, Any] = {}
    for sub in module.modules():
        for name, value in vars(sub).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            try:
                copy.deepcopy(value, dict(shared))
            except Exception:
                result[id(value)] = value
    return result


def _version(tensor: Tensor) -> int | None:
    """Return the counter that every in-place change increments; inference tensors have none."""
    return None if tensor.is_inference() else tensor._version


def layer_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of all submodules; a module with two names has both.

    Those of a traced network include the names in the network that was traced: its graph keeps no empty modules.
    """
    own = tuple(name for name, _ in module.named_modules(remove_duplicate=False) if name)
    traced = module.meta.get("layers", ()) if isinstance(module, fx.GraphModule) else ()
    return tuple(dict.fromkeys((*own, *traced)))


def check_layer(names: Sequence[str], layer: str) -> None:
    """Raise UsageError, with similar names, unless ``layer`` is among ``names``."""
    if layer in names:
        return
    raise unknown("layer", layer, names)


TOLERANCE = 1e-5


class TraceError(NotApplicableError):
    """The network cannot be traced to an equivalent graph."""


def trace(module: nn.Module, example: Tensor) -> fx.GraphModule:
    """Trace ``module`` in eval mode to a torch.fx graph.

    ``example`` is an input (N, C, H, W). The graph uses the module's own parameters and buffers; its submodules are
    copies, so that hooks and flags set on them do not affect the module. The ``meta`` of every node has:

    - ``shape``: the shape of its value for ``example``, None when that is not a tensor;
    - ``path``: the names of the modules it belongs to, outermost first;
    - ``outputs_of``: ``(module name, number of the call)`` for each module call whose output it is;
    - ``aliases``: numbers of the memories that its value occupies, ``mutates``: of those it changes in place;
    - ``layout``: shape, strides and offset of its value, None when that is not a tensor;
    - ``unread``: whether no node reads its value, so that only what it changes in place can matter;
    - ``sizes``: its value where that is a whole number or several, as those of a shape, else None.

    A graph from this function for the same kind of example is returned unchanged. If the forward pass
    depends on the height or width, the graph raises for other sizes. Raises TraceError if torch.fx cannot
    trace the module (with the source line), and if the output of the graph differs from the module's by more than 1e-5
    of its largest value.
    """
    if isinstance(module, fx.GraphModule) and module.meta.get("traced_for") == _key(example):
        return module
    return trace_and_run(module, example)[0]


def trace_and_run(module: nn.Module, example: Tensor) -> tuple[fx.GraphModule, Any]:
    """Trace ``module``; return the graph and the module's output for ``example`` too."""
    try:
        refuse_torchscript(module)
    except NotApplicableError as error:
        raise TraceError(str(error)) from error
    copy = shared_copy(module)
    with no_side_effects(copy):
        expected = copy(example.clone())
    with no_side_effects(copy):
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
    """Run a graph on a copy of ``example``, fill each node's meta, and return the output."""
    with no_side_effects(annotator.module):
        return annotator.run(example.clone())


def verify(expected: object, actual: object) -> None:
    """Raise TraceError unless ``actual`` equals ``expected`` within 1e-5 of the largest value."""
    ours, theirs = list(tensors(expected)), list(tensors(actual))
    if not ours or len(ours) != len(theirs) or not all(map(_close, ours, theirs)):
        raise TraceError("The output of the traced network differs from that of the network.")


def output_node(traced: fx.GraphModule, layer: str) -> fx.Node:
    """Return the node with the output of the module called ``layer``, that of its last call if it is reused.

    This is the last call that returns a map, if any (an activation may follow convolutions and dense layers).
    Raises UsageError for an unknown name, TraceError if the graph does not contain the layer: because it is never
    called, is inside a leaf module, or returns several tensors.
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
    """Run a graph and fill each node's meta; see ``trace``."""

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
        n.meta["unread"] = not n.users
        n.meta["sizes"] = _sizes(result)
        n.meta.setdefault("path", ())
        return result

    def _memories(self, result: object, inputs: list[tuple[fx.Node, Tensor]]) -> frozenset[int]:
        numbers: set[int] = set()
        for value in tensors(result):
            shared = [node.meta["aliases"] for node, tensor in inputs if _memory(tensor) == _memory(value)]
            if not shared:
                self.memories += 1
            numbers.update(*shared or [{self.memories}])
        return frozenset(numbers)


def require_size(pixels: Tensor, size: tuple[int, ...]) -> None:
    """Raise TraceError unless ``pixels`` has the (C, H, W) for which the graph was traced."""
    if tuple(pixels.shape[1:]) != tuple(size):
        raise TraceError(
            f"This network was traced for images of {tuple(size)}, because its forward pass depends on their size; "
            f"it got {tuple(pixels.shape[1:])}."
        )


def _fix_size(graph: fx.Graph, example: Tensor) -> None:
    pixels = next(node for node in graph.nodes if node.op == "placeholder")
    with graph.inserting_after(pixels):
        graph.call_function(require_size, (pixels, tuple(example.shape[1:])))


def _sizes(value: object) -> int | tuple[int, ...] | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(one, int) for one in value):
        return tuple(value)
    return None


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
