"""A network as a graph from which structures can be removed, and which can be trained."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, fx, nn

from probe.core import seeds
from probe.core.state import kept_buffers
from probe.graph.edit.canonical import one_spelling
from probe.graph.edit.edits import drop_unused
from probe.graph.edit.global_pools import pools_to_modules
from probe.graph.edit.rewrite import functionalise, functions_to_modules, modular
from probe.graph.edit.spelling import layers_to_modules
from probe.graph.trace.leaves import is_dropout_like
from probe.graph.trace.trace import (
    Annotator,
    TraceError,
    annotate,
    no_side_effects,
    shared_copy,
    tensors,
    verify,
)

_MOST_IMAGES = 2**16


def exported(module: nn.Module, example: Tensor, cause: TraceError) -> fx.GraphModule:
    """Return the network's graph in eval mode, for any number of images of the example's size.

    A module of torch.nn that is one operation (a convolution, a norm, a dropout …) is one node that calls it, so that
    it still depends on the training mode. Raises ``cause``, the error of torch.fx, if torch.export
    cannot export the network either, or its graph returns other values.
    """
    copy = shared_copy(module)
    images = torch.cat([example, example])[:2].clone()
    batch = torch.export.Dim("batch", min=1, max=_MOST_IMAGES)
    with no_side_effects(copy):
        expected = copy(example.clone())
    try:
        with no_side_effects(copy):
            program = torch.export.export(copy, (images,), dynamic_shapes=({0: batch},), strict=False)
        graph = _plain(copy, program.module(check_guards=False))
        annotate(Annotator(graph), example)
        functionalise(graph)
        functions_to_modules(graph, split_bounded=False)
        layers_to_modules(graph)
        one_spelling(graph)
        pools_to_modules(graph)
        graph.delete_all_unused_submodules()
        graph.graph.lint()
        graph.recompile()
        verify(expected, annotate(Annotator(graph), example))
    except Exception as error:
        # torch.export raises many kinds of errors; the error to report is that of tracing.
        raise cause from error
    return graph.eval()


def _plain(network: nn.Module, program: nn.Module) -> fx.GraphModule:
    """Return the program as a graph over the network's own modules."""
    if not isinstance(program, fx.GraphModule):
        raise TypeError("torch.export did not return a graph")
    nodes = fx.Graph()
    nodes.output(_single(nodes.graph_copy(program.graph, {})))
    graph = fx.GraphModule(program, nodes, type(network).__name__)
    for node in nodes.nodes:
        stack = node.meta.get("nn_module_stack") or {}
        node.meta = {"path": tuple(str(name) for name, _ in stack.values() if name)}
    _modules_back(network, graph)
    return graph


def _single(value: object) -> fx.node.Argument:
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return value  # type: ignore[return-value]


def _modules_back(network: nn.Module, graph: fx.GraphModule) -> None:
    """Replace operations by calls of the leaf modules that consist of just this operation."""
    calls = [node for node in graph.graph.nodes if node.op == "call_function" and node.meta["path"]]
    times = Counter(node.meta["path"][-1] for node in calls)
    kinds: dict[str, set[object]] = {}
    for node in calls:
        kinds.setdefault(node.meta["path"][-1], set()).add(node.target)
    number = Counter[str]()
    for node in calls:
        name = node.meta["path"][-1]
        number[name] += 1
        if times[name] > 1 and len(kinds[name]) == 1:
            node.meta["calls"] = (number[name], times[name])
        values = [value for value in node.all_input_nodes if value.op != "get_attr"]
        leaf = dict(network.named_modules()).get(name.partition("@")[0])
        if leaf is None or times[name] != 1 or len(values) != 1 or next(leaf.children(), None) is not None:
            continue
        if not type(leaf).__module__.startswith("torch.nn."):
            continue
        place = name.replace("@", "_call_")
        graph.add_submodule(place, leaf if place == name else shared_copy(leaf))
        node.op, node.target, node.args, node.kwargs = "call_module", place, (values[0],), {}


def ablatable(module: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return a copy of ``module`` as a graph: every activation, pooling, norm and dropout a module called once.

    ``example`` is an input (N, C, H, W). The copy is in eval mode and shares the module's parameters and buffers; the
    module is not changed. Its output equals the module's within 1e-5 of the largest value. In ``meta``: ``trains`` is
    empty if the copy is equivalent to the module in train mode too, else the reason why it cannot be trained;
    ``exported`` is True if torch.export was used because torch.fx could not trace the code.

    Raises TraceError, with the source line, if neither can trace the network.
    """
    try:
        graph = modular(module, example, split_bounded=False)
    except TraceError as error:
        graph = exported(module, example, error)
        graph.meta["trains"] = _trains(module, graph, example)
        graph.meta["exported"] = True
        return graph
    layers_to_modules(graph)
    one_spelling(graph)
    pools_to_modules(graph)
    _drop_assertions(graph)
    graph.graph.lint()
    graph.recompile()
    with no_side_effects(module):
        expected = shared_copy(module)(example.clone())
    verify(expected, annotate(Annotator(graph), example))
    graph.meta["trains"] = _trains(module, graph, example)
    graph.meta["exported"] = False
    return graph


def copied(graph: fx.GraphModule) -> fx.GraphModule:
    """Return a copy with its own nodes, with the same names and meta, that calls the same modules.

    Parameters that no node uses are not copied.
    """
    nodes = fx.Graph()
    nodes.output(nodes.graph_copy(graph.graph, {}))
    copy = fx.GraphModule(graph, nodes, type(graph).__name__)
    copy.meta = dict(graph.meta)
    return copy.eval()


def _drop_assertions(graph: fx.GraphModule) -> None:
    """Remove assertions about shapes, because they would keep nodes that an edit has made unused."""
    for node in reversed(list(graph.graph.nodes)):
        if node.op == "call_function" and node.target is torch._assert and not node.users:
            graph.graph.erase_node(node)
    drop_unused(graph)


def _trains(module: nn.Module, graph: fx.GraphModule, example: Tensor) -> str:
    """Return why the graph is not equivalent to the module in training mode, or an empty string."""
    images = torch.cat([example, example.flip(-1)])[:2]
    # A head used only in training draws its own dropout masks, so the other masks may differ.
    for drawing in (True, False):
        try:
            verify(*(_in_training(network, images, drawing) for network in (shared_copy(module), graph)))
            return ""
        except TraceError:
            continue
        except (RuntimeError, ValueError, TypeError, StopIteration) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            return f"It cannot be run in train mode: {reason}"
    return (
        "Its forward pass in train mode does something else than in eval mode, which the graph does not show."
    )


def _in_training(module: nn.Module, images: Tensor, drawing: bool) -> Tensor:
    """Return the first output in train mode, from the same draws every time, or without any dropout."""
    try:
        with kept_buffers(module), seeds.scoped(0, "train mode"), torch.no_grad():
            module.train()
            for sub in module.modules():
                if not drawing and is_dropout_like(sub):
                    sub.eval()
            return next(tensors(module(images.clone())))
    finally:
        module.eval()
