"""How many ways lead from the image to the output of a network, how long they are, and how wide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, fx, nn

from probe.graph.ablatable import ablatable
from probe.graph.cardinality import grouped_paths
from probe.graph.ops import is_weighted, operation
from probe.graph.residual import operands, residuals
from probe.graph.ways import factors_of, output_of, ways

Lengths = dict[int, int]
Step = Callable[[fx.Node, fx.Node], int]
"""What it adds to the length of a path to reach a node (the first one) from one of its inputs."""


@dataclass(frozen=True)
class Paths:
    """The ways through a network.

    ``by_layers``: length → number of paths, in layers with weights; ``by_blocks``: in residual branches taken.
    ``blocks``: residual blocks. ``with_groups``: the number of paths when each group of a convolution is a path of
    its own; it is a bound from above where ``bounded`` (channels were moved between groups in a way that is not
    followed).
    """

    by_layers: Mapping[int, int]
    by_blocks: Mapping[int, int]
    blocks: int
    with_groups: int
    bounded: bool = False

    @property
    def count(self) -> int:
        """The number of paths."""
        return sum(self.by_layers.values())

    @property
    def depth(self) -> int:
        """Layers with weights on the longest path."""
        return max(self.by_layers, default=0)


def paths(network: nn.Module, example: Tensor) -> Paths:
    """Count the paths of a network, a graph of ``ablatable`` or any other, on an input (N, C, H, W).

    Raises TraceError, naming the line of source, when its graph cannot be had.
    """
    graph = network if isinstance(network, fx.GraphModule) else ablatable(network, example)
    branch_of = branches(graph)
    by_blocks = path_lengths(graph, lambda node, each: int(branch_of.get(node) is each))
    return Paths(path_lengths(graph), by_blocks, len(branch_of), *grouped_paths(graph))


def path_lengths(graph: fx.GraphModule, step: Step | None = None) -> Lengths:
    """Return length → number of paths from the image to the output, by layers with weights on them.

    A path may take either value of an addition or a concatenation; gates multiply and are no paths. A residual chain
    of L blocks has 2^L paths, and their lengths in blocks are Binomial(L, 1/2) (Veit, Wilber and Belongie 2016).
    ``step`` measures length in another way.
    """
    steps = step or _layers(graph)
    factors = factors_of(graph)
    known: dict[fx.Node, Lengths] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = {0: 1}
            continue
        lengths: Lengths = {}
        for each in ways(node):
            if each in known and factors.get(node) is not each:
                for length, count in known[each].items():
                    longer = length + steps(node, each)
                    lengths[longer] = lengths.get(longer, 0) + count
        if lengths:
            known[node] = lengths
    return dict(sorted(known.get(output_of(graph), {}).items()))


def branches(graph: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """Return each residual addition with the value added that is its branch.

    Besides the residual blocks of convolutions these are additions of a value to what was computed from it.
    """
    found = {one.node: one.operand(1 - one.shortcut) for one in residuals(graph)}
    for node in graph.graph.nodes:
        both = operands(node) if operation(graph, node) == "add" and node not in found else []
        for shortcut, branch in (both, both[::-1]) if len(both) == 2 else ():
            if shortcut is not branch and shortcut.op != "get_attr" and shortcut in _above(branch):
                found[node] = branch
    return found


def _layers(graph: fx.GraphModule) -> Step:
    return lambda node, _each: int(node.op != "output" and is_weighted(graph, node))


def _above(node: fx.Node) -> set[fx.Node]:
    """Return every node from which a way leads to ``node``."""
    found: set[fx.Node] = set()
    waiting = ways(node)
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += ways(each)
    return found
