"""The paths from the image to the output of a network: their number, lengths and groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, fx, nn

from probe.graph.edit.edits import joined_values
from probe.graph.edit.joins import gates, joins, operands, residuals
from probe.graph.trace.ablatable import ablatable
from probe.graph.trace.ops import is_weighted, operation, shape_of, tensor_inputs


def gate_operands(graph: fx.GraphModule) -> dict[fx.Node, object]:
    """Return each gate's multiplication with the operand that is the gate, which no path goes through."""
    return {gate.node: gate.node.args[gate.position] for gate in gates(graph)}


def output_of(graph: fx.GraphModule) -> fx.Node:
    """Return the node of the network's output."""
    output: fx.Node = next(node for node in graph.graph.nodes if node.op == "output")
    return output


def path_edges(node: fx.Node) -> list[fx.Node]:
    """Return the input values of a node, one per path; a value used twice, as in ``x + x``, is two paths.

    For a module, each value is one path, however often it is used (attention: as query, key and value).
    """
    read_inputs = set(tensor_inputs(node)) | {value for value in node.all_input_nodes if _several(value)}
    if node.op == "output":
        return list(node.all_input_nodes)
    if node.op == "call_module":
        return [value for value in node.all_input_nodes if value in read_inputs]
    values: list[fx.Node] = []
    fx.node.map_arg(
        (node.args, node.kwargs), lambda value: values.append(value) if value in read_inputs else None
    )
    return values


def _several(node: fx.Node) -> bool:
    """Return whether a node returns several tensors, such as the parts of a split."""
    return node.op != "get_attr" and node.meta.get("shape") is None and bool(node.meta.get("aliases"))


_SPLITS = frozenset({"chunk", "split", "split_with_sizes"})
_SIZES = ("size", "chunks", "split_size", "split_size_or_sections", "split_sizes")
_MOVES = frozenset({"view", "reshape", "transpose", "permute", "swapaxes", "roll", "flip", "unflatten"})


@dataclass
class _GroupPaths:
    """The number of paths to parts of a value's channels: (first, last + 1) → number.

    ``moved``: whether parts were merged because their channels were reordered.
    """

    parts: Counter[tuple[int, int]] = field(default_factory=Counter)
    moved: bool = False

    @property
    def count(self) -> int:
        return sum(self.parts.values())

    def add(self, other: _GroupPaths, shift: int = 0) -> None:
        for (low, high), count in other.parts.items():
            self.parts[low + shift, high + shift] += count
        self.moved = self.moved or other.moved

    def within(self, low: int, high: int) -> _GroupPaths:
        """Return the paths to parts that overlap with these channels, with channels relative to the first of them."""
        overlapping = _GroupPaths(moved=self.moved)
        for (first, last), count in self.parts.items():
            if max(first, low) < min(last, high):
                overlapping.parts[max(first, low) - low, min(last, high) - low] += count
        return overlapping


def grouped_paths(graph: fx.GraphModule) -> tuple[int, bool]:
    """Return the number of paths if a path goes through one group of each convolution, and whether it is a bound.

    A path enters a group from each group of the previous layer whose channels it reads. L residual blocks of C groups
    in a chain have (1 + C)^L such paths: depth is the exponent, cardinality the base (Xie et al. 2017). If a
    reshape reorders channels, every later group is assumed to read all of them, and the number is an upper bound.
    """
    factors, along = gate_operands(graph), {join.node for join in joins(graph)}
    known: dict[fx.Node, _GroupPaths] = {}
    bounded = False
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = _whole(node, 1)
            continue
        arrived = _GroupPaths()
        for source, shift in _arrivals(node, along):
            if source in known and factors.get(node) is not source:
                arrived.add(known[source], shift)
        if arrived.parts:
            known[node] = _through(graph, node, arrived)
            # A slice of merged parts may exclude some of them.
            cut = operation(graph, node) == "getitem" and known[node].moved
            bounded = bounded or cut or (arrived.moved and _groups(graph, node) > 1)
    return known.get(output_of(graph), _GroupPaths()).count, bounded


def _through(graph: fx.GraphModule, node: fx.Node, arrived: _GroupPaths) -> _GroupPaths:
    """Return the paths to the output of a node."""
    if is_weighted(graph, node):
        return _by_group(node, arrived, _groups(graph, node))
    name = operation(graph, node)
    channels = _slice(node) if name == "getitem" else None
    if channels is not None:
        return arrived.within(*channels)
    value = next(iter(tensor_inputs(node)), None)
    same = value is not None and shape_of(value)[:1] == shape_of(node)[:1] and name not in _MOVES
    if same or name in ("output", "cat") or name in _SPLITS:
        return arrived
    return replace(_whole(node, arrived.count), moved=arrived.moved or len(arrived.parts) > 1)


def _by_group(node: fx.Node, arrived: _GroupPaths, groups: int) -> _GroupPaths:
    if groups == 1:
        return _whole(node, arrived.count)
    value = next(iter(tensor_inputs(node)))
    wide_in, wide_out = shape_of(value)[0] // groups, shape_of(node)[0] // groups
    result = _GroupPaths()
    for group, count in enumerate(_into_groups(arrived, groups, wide_in)):
        if count:
            result.parts[group * wide_out, (group + 1) * wide_out] += count
    return result


def _into_groups(arrived: _GroupPaths, groups: int, wide: int) -> list[int]:
    """Return the number of paths that each group reads, using differences because a wide part enters many groups."""
    changes = [0] * (groups + 1)
    for (low, high), count in arrived.parts.items():
        changes[min(low // wide, groups)] += count
        changes[min(-(-high // wide), groups)] -= count
    totals, running = [], 0
    for change in changes[:-1]:
        running += change
        totals.append(running)
    return totals


def _arrivals(node: fx.Node, along: set[fx.Node]) -> list[tuple[fx.Node, int]]:
    """Return the input values of a node, with the channel at which each begins in the node's own value."""
    if node not in along:
        return [(value, 0) for value in path_edges(node)]
    arrivals, shift = [], 0
    for source in joined_values(node):
        arrivals.append((source, shift))
        shift += shape_of(source)[0]
    return arrivals


def _whole(node: fx.Node, count: int) -> _GroupPaths:
    shape = shape_of(node)
    return _GroupPaths(Counter({(0, shape[0] if shape else 1): count}))


def _groups(graph: fx.GraphModule, node: fx.Node) -> int:
    """Return the groups of a convolution (a module or a function); 1 for other nodes."""
    if operation(graph, node) != "conv":
        return 1
    if node.op == "call_module":
        return int(getattr(graph.get_submodule(str(node.target)), "groups", 1))
    value = node.kwargs.get("groups")
    if value is None:
        place = 8 if len(node.args) > 8 else 6
        value = node.args[place] if len(node.args) > place else 1
    return value if isinstance(value, int) else 1


def _slice(node: fx.Node) -> tuple[int, int] | None:
    """Return the channels of a part of a split, or of ``x[:, a:b]``; None for other nodes."""
    source, index = node.args
    if not isinstance(source, fx.Node):
        return None
    if isinstance(index, int) and _splits(source):
        low = _offset(source, index)
        return None if low is None else (low, low + shape_of(node)[0])
    if isinstance(index, tuple) and len(index) > 1 and isinstance(index[1], slice) and shape_of(source):
        low, high, step = index[1].indices(shape_of(source)[0]) if _plain(index[1]) else (0, 0, 0)
        return (low, high) if step == 1 else None
    return None


def _offset(source: fx.Node, index: int) -> int | None:
    """Return the first channel of a part of a split, None if it is not known."""
    arguments = dict(zip(("input", "size", "dim"), source.args, strict=False)) | source.kwargs
    value = arguments.get("input", arguments.get("tensor"))
    size = next((arguments[key] for key in _SIZES if key in arguments), None)
    if arguments.get("dim", 0) != 1 or index < 0 or not isinstance(value, fx.Node):
        return None
    if isinstance(size, list | tuple):
        known = [part for part in size[:index] if isinstance(part, int)]
        return sum(known) if len(known) == index else None
    if not isinstance(size, int):
        return None
    name = source.target if isinstance(source.target, str) else getattr(source.target, "__name__", "")
    return index * (-(-shape_of(value)[0] // size) if "chunk" in name else size)


def _plain(part: slice) -> bool:
    return all(bound is None or isinstance(bound, int) for bound in (part.start, part.stop, part.step))


def _splits(node: fx.Node) -> bool:
    """Return whether a node returns the parts of one tensor, in order."""
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.partition(".")[0] in _SPLITS


Lengths = dict[int, int]
Step = Callable[[fx.Node, fx.Node], int]
"""The length that a path gains when it reaches a node (the first argument) from one of its inputs."""


@dataclass(frozen=True)
class Paths:
    """The paths through a network.

    ``by_layers``: length → number of paths, in layers with weights; ``by_blocks``: the same in residual branches.
    ``blocks``: residual blocks. ``with_groups``: the number of paths if each group of a convolution is a separate path;
    an upper bound if ``bounded`` (channels were moved between groups in a way that is not traced).
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

    Raises TraceError, with the source line, when the network cannot be traced.
    """
    graph = network if isinstance(network, fx.GraphModule) else ablatable(network, example)
    branch_of = branches(graph)
    by_blocks = path_lengths(graph, lambda node, source: int(branch_of.get(node) is source))
    return Paths(path_lengths(graph), by_blocks, len(branch_of), *grouped_paths(graph))


def path_lengths(graph: fx.GraphModule, step: Step | None = None) -> Lengths:
    """Return length → number of paths from the image to the output, by layers with weights on them.

    At an addition or a concatenation, a path goes through one of the inputs; gates multiply and are not paths. A chain
    of L residual blocks has 2^L paths, with lengths in blocks distributed as Binomial(L, 1/2) (Veit, Wilber and
    Belongie 2016). ``step`` defines another measure of length.
    """
    steps = step or _layers(graph)
    factors = gate_operands(graph)
    known: dict[fx.Node, Lengths] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = {0: 1}
            continue
        lengths: Lengths = {}
        for source in path_edges(node):
            if source in known and factors.get(node) is not source:
                for length, count in known[source].items():
                    longer = length + steps(node, source)
                    lengths[longer] = lengths.get(longer, 0) + count
        if lengths:
            known[node] = lengths
    return dict(sorted(known.get(output_of(graph), {}).items()))


def branches(graph: fx.GraphModule) -> dict[fx.Node, fx.Node]:
    """Return each residual addition with the operand that is its branch.

    Besides the residual blocks of convolutions, these are additions of a value to another value computed from it.
    """
    branch_of = {residual.node: residual.operand(1 - residual.shortcut) for residual in residuals(graph)}
    for node in graph.graph.nodes:
        both = operands(node) if operation(graph, node) == "add" and node not in branch_of else []
        for shortcut, branch in (both, both[::-1]) if len(both) == 2 else ():
            if shortcut is not branch and shortcut.op != "get_attr" and shortcut in _above(branch):
                branch_of[node] = branch
    return branch_of


def _layers(graph: fx.GraphModule) -> Step:
    return lambda node, _each: int(node.op != "output" and is_weighted(graph, node))


def _above(node: fx.Node) -> set[fx.Node]:
    """Return every node with a path to ``node``."""
    above: set[fx.Node] = set()
    waiting = path_edges(node)
    while waiting:
        current = waiting.pop()
        if current not in above:
            above.add(current)
            waiting += path_edges(current)
    return above
