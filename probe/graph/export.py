"""torch.export's graph of a network that torch.fx cannot follow, with its modules put back."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, fx, nn

from probe.graph.rewrite import functions_to_modules
from probe.graph.shell import isolated, shell
from probe.graph.trace import Annotator, TraceError, annotate, verify

_MOST_IMAGES = 2**16


def exported(module: nn.Module, example: Tensor, cause: TraceError) -> fx.GraphModule:
    """Return the network's graph in eval mode, for any number of images of the example's size.

    A module of torch.nn that is one operation (a convolution, a norm, a dropout …) is one node that calls it, so that
    it still knows whether the network is being trained. Raises ``cause``, the error of torch.fx, when torch.export
    cannot follow the network either, or its graph gives other values.
    """
    copy = shell(module)
    images = torch.cat([example, example])[:2].clone()
    batch = torch.export.Dim("batch", min=1, max=_MOST_IMAGES)
    with isolated(copy):
        expected = copy(example.clone())
    try:
        with isolated(copy):
            program = torch.export.export(copy, (images,), dynamic_shapes=({0: batch},), strict=False)
        graph = _plain(copy, program.module(check_guards=False))
        annotate(Annotator(graph), example)
        functions_to_modules(graph)
        graph.graph.eliminate_dead_code()
        graph.delete_all_unused_submodules()
        graph.graph.lint()
        graph.recompile()
        verify(expected, annotate(Annotator(graph), example))
    except Exception as error:
        # torch.export raises errors of many kinds; whichever it was, the reason to tell is why tracing failed.
        raise cause from error
    return graph.eval()


def _plain(network: nn.Module, program: nn.Module) -> fx.GraphModule:
    """Return the program as a graph over the network's own modules."""
    if not isinstance(program, fx.GraphModule):
        raise TypeError("torch.export gave no graph")
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
    """Let leaf modules that are one operation on one value be called instead of their operation."""
    calls = [node for node in graph.graph.nodes if node.op == "call_function" and node.meta["path"]]
    times = Counter(node.meta["path"][-1] for node in calls)
    for node in calls:
        name = node.meta["path"][-1]
        values = [each for each in node.all_input_nodes if each.op != "get_attr"]
        leaf = dict(network.named_modules()).get(name.partition("@")[0])
        if leaf is None or times[name] != 1 or len(values) != 1 or next(leaf.children(), None) is not None:
            continue
        if not type(leaf).__module__.startswith("torch.nn."):
            continue
        place = name.replace("@", "_call_")
        graph.add_submodule(place, leaf if place == name else shell(leaf))
        node.op, node.target, node.args, node.kwargs = "call_module", place, (values[0],), {}
