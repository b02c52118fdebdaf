"""Evaluation of many variants of one network in one pass: the nodes that they share are computed once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from probe.graph.trace.ops import called, operation

Lookup = Callable[[str], Any]


@dataclass(frozen=True)
class Variant:
    """An edited copy of the network: its own nodes, the shared values that these read, and the output.

    ``output`` is the name of the node whose value is the output.
    """

    graph: fx.GraphModule
    own: tuple[fx.Node, ...]
    reads: frozenset[str]
    output: str


def variant(intact: fx.GraphModule, graph: fx.GraphModule) -> Variant:
    """Compare an edited copy with its network: nodes are shared if they compute the same value."""
    known = {node.name: node for node in intact.graph.nodes}
    shared: set[str] = set()
    own = []
    output = ""
    for node in graph.graph.nodes:
        if node.op == "output":
            output = _single(node)
        elif node.name in known and _same(node, known[node.name], shared):
            shared.add(node.name)
        else:
            own.append(node)
    reads = {value.name for node in own for value in node.all_input_nodes if value.name in shared}
    if output in shared:
        reads.add(output)
    return Variant(graph, tuple(own), frozenset(reads), output)


class SharedPass:
    """Run a network and its variants on the same images, every variant from its first own node.

    Values are kept only while the network or a later variant needs them.
    """

    def __init__(self, intact: fx.GraphModule, variants: Sequence[Variant]) -> None:
        self.intact = intact
        self.variants = tuple(variants)
        self.nodes = [node for node in intact.graph.nodes if node.op != "output"]
        self.output = _single(next(node for node in intact.graph.nodes if node.op == "output"))
        place = {node.name: number for number, node in enumerate(self.nodes)}
        self.due: dict[int, list[int]] = {}
        last = dict(place)
        for number, node in enumerate(self.nodes):
            for value in node.all_input_nodes:
                last[value.name] = number
        for index, variant in enumerate(self.variants):
            when = max((place[name] for name in variant.reads), default=0)
            self.due.setdefault(when, []).append(index)
            for name in variant.reads:
                last[name] = max(last[name], when)
        self.free: dict[int, list[str]] = {}
        for name, number in last.items():
            self.free.setdefault(number, []).append(name)

    @property
    def kept_bytes(self) -> int:
        """The maximum memory, in bytes for one image, of the values needed at once in the network's own pass."""
        size = {node.name: _bytes(node) for node in self.nodes}
        alive = most = 0
        for number, node in enumerate(self.nodes):
            alive += size[node.name]
            most = max(most, alive)
            alive -= sum(size[name] for name in self.free.get(number, ()))
        return most

    def run(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield (number of the variant, its output) in order of completion, and (-1, the network's own output) last."""
        values: dict[str, Any] = {}
        result: Any = None
        for number, node in enumerate(self.nodes):
            spent = _spent(self.intact, node, self.free.get(number, ()))
            values[node.name] = _execute(self.intact, node, values.__getitem__, images, spent)
            if node.name == self.output:
                result = values[node.name]
            for index in self.due.get(number, ()):
                yield index, _finish(self.variants[index], values, images)
            for name in self.free.get(number, ()):
                del values[name]
        yield -1, result


def mutates(graph: fx.GraphModule) -> bool:
    """Return whether a node changes a value in place, so that the value cannot be shared."""
    return any(node.meta.get("mutates") for node in graph.graph.nodes)


def _finish(variant: Variant, values: Mapping[str, Any], images: Tensor) -> Tensor:
    last: dict[str, int] = {}
    for number, node in enumerate(variant.own):
        for value in node.all_input_nodes:
            last[value.name] = number
    own: dict[str, Any] = {}

    def find(name: str) -> Any:
        return own[name] if name in own else values[name]

    for number, node in enumerate(variant.own):
        dying = [
            value.name for value in node.all_input_nodes if last[value.name] == number and value.name in own
        ]
        spent = _spent(variant.graph, node, [name for name in dying if name != variant.output])
        own[node.name] = _execute(variant.graph, node, find, images, spent)
        for value in node.all_input_nodes:
            if last[value.name] == number and value.name != variant.output:
                own.pop(value.name, None)
    result: Tensor = find(variant.output)
    return result


def _spent(graph: fx.GraphModule, node: fx.Node, dying: Sequence[str]) -> str:
    """Return the name of an input whose memory the node can reuse for its output, empty if there is none.

    The input is no longer needed (it is in ``dying``) and was newly computed, so that nothing else uses its memory.
    """
    rectifies = node.op == "call_module" and type(called(graph, node)) is nn.ReLU
    if not rectifies and node.target is not operator.add:
        return ""
    for value in node.all_input_nodes:
        fresh = operation(graph, value) in ("conv", "norm") or value.target is operator.add
        if fresh and value.name in dying and value.meta.get("shape") == node.meta.get("shape"):
            return value.name
    return ""


def _execute(graph: fx.GraphModule, node: fx.Node, find: Lookup, images: Tensor, spent: str = "") -> Any:
    if node.op == "placeholder":
        return images
    if node.op == "get_attr":
        value: Any = graph
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value
    if spent and node.op == "call_module":
        return find(spent).relu_()
    values: Any = fx.node.map_arg((node.args, node.kwargs), lambda value: find(value.name))
    args, kwargs = values
    if spent and all(isinstance(value, Tensor) for value in args):
        mine, other = args if spent == getattr(node.args[0], "name", "") else reversed(args)
        return mine.add_(other)
    if node.op == "call_module":
        return called(graph, node)(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    function: Any = node.target
    return function(*args, **kwargs)


def _same(node: fx.Node, other: fx.Node, shared: set[str]) -> bool:
    if node.op != other.op or node.target != other.target:
        return False
    if any(value.name not in shared for value in node.all_input_nodes):
        return False
    mine, theirs = (
        fx.node.map_arg((current.args, current.kwargs), lambda value: value.name) for current in (node, other)
    )
    return repr(mine) == repr(theirs)


def _single(output: fx.Node) -> str:
    """Return the name of the single output value."""
    (value,) = output.args
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, fx.Node):
        raise ValueError("the network has more than one output")
    return value.name


def _bytes(node: fx.Node) -> int:
    shape = node.meta.get("shape")
    if not shape or node.op == "get_attr":
        return 0
    count = 4
    for side in shape[1:]:
        count *= int(side)
    return count
