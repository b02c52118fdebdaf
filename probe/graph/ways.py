"""Along which edges of a graph a path may lead."""

from __future__ import annotations

from torch import fx

from probe.graph.gates import gates
from probe.graph.ops import tensor_inputs


def factors_of(graph: fx.GraphModule) -> dict[fx.Node, object]:
    """Return each gate's multiplication with the operand that is the gate, along which no path leads."""
    return {gate.node: gate.node.args[gate.position] for gate in gates(graph)}


def output_of(graph: fx.GraphModule) -> fx.Node:
    """Return the node that gives the network's output."""
    found: fx.Node = next(node for node in graph.graph.nodes if node.op == "output")
    return found


def ways(node: fx.Node) -> list[fx.Node]:
    """Return the values that feed a node; one that is used twice, as in ``x + x``, is two ways.

    A module is one way from each value, however often it takes it (attention: as query, key and value).
    """
    wanted = set(tensor_inputs(node)) | {each for each in node.all_input_nodes if _several(each)}
    if node.op == "output":
        return list(node.all_input_nodes)
    if node.op == "call_module":
        return [each for each in node.all_input_nodes if each in wanted]
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda each: found.append(each) if each in wanted else None)
    return found


def _several(node: fx.Node) -> bool:
    """Say whether a node gives several tensors, such as the pieces of a split."""
    return node.op != "get_attr" and node.meta.get("shape") is None and bool(node.meta.get("aliases"))
