"""Gates: a map multiplied by factors that were computed from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import fx

from probe.graph.edits import ancestors
from probe.graph.ops import operation, shape_of


@dataclass(frozen=True)
class Gate:
    """A multiplication whose operand number ``position`` is the gate of the other one."""

    node: fx.Node
    position: int
    form: str


def gates(graph: fx.GraphModule) -> list[Gate]:
    """Return the gates of a graph in execution order."""
    found = []
    for node in graph.graph.nodes:
        if operation(graph, node) != "mul" or len(node.args) != 2:
            continue
        both = node.args
        if not all(isinstance(each, fx.Node) and each.meta.get("shape") for each in both):
            continue
        shapes = [shape_of(each) for each in both if isinstance(each, fx.Node)]
        small = 0 if math.prod(shapes[0]) < math.prod(shapes[1]) else 1
        gate, gated = both[small], both[1 - small]
        if not (isinstance(gate, fx.Node) and isinstance(gated, fx.Node)) or gate is gated:
            continue
        if shapes[1 - small] == shape_of(node) and shapes[small] != shape_of(node):
            above = ancestors(gate)
            if gated in above or (set(_inputs(gated)) & above and _inputs(gated)):
                found.append(Gate(node, small, f"gate of {'×'.join(map(str, shapes[small]))} factors"))
    return found


def only_for_gates(graph: fx.GraphModule) -> frozenset[fx.Node]:
    """Return the nodes whose values reach the output through gates alone: squeeze, excitation, their activations."""
    factors = {gate.node: gate.node.args[gate.position] for gate in gates(graph)}
    reached: set[fx.Node] = set()
    waiting = [node for node in graph.graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += [each for each in node.all_input_nodes if factors.get(node) is not each]
    return frozenset(node for node in graph.graph.nodes if node not in reached)


def _inputs(node: fx.Node) -> list[fx.Node]:
    return [each for each in node.all_input_nodes if each.op != "get_attr"]
