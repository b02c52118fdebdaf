"""Small edits of a traced network, and descriptions of its sites."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from probe.graph.edit.site import Site
from probe.graph.trace.ops import is_weighted, operation, owner, shape_of, tensor_inputs

Weight = tuple[int, int]
"""(layers with weights, the largest kernel among them): the weight of a path."""


def site_at(
    graph: fx.GraphModule,
    node: fx.Node,
    structure: str,
    name: str,
    form: str,
    operands: tuple[int, ...] = (),
    resizes: bool | None = None,
    each_call: bool = True,
) -> Site:
    """Return the site at ``node``; whether it resizes is determined from its first input unless given.

    The form says which call of a module that is called several times it is, unless ``each_call`` is False.
    """
    number, times = node.meta.get("calls", (1, 1))
    if each_call and times > 1:
        form += f", call {number} of {times}"
    if resizes is None:
        value = value_of(node)
        moves = operation(graph, node) in ("conv", "pool")
        resizes = moves and value is not None and _resolution(value) != _resolution(node)
    place = next(number for number, other in enumerate(graph.graph.nodes) if other is node)
    return Site(structure, name, node.name, form, shape_of(node), place, operands, resizes)


def get_node(graph: fx.GraphModule, site: Site) -> fx.Node:
    """Return the node of a site; raises ValueError if the graph has no node of this name."""
    for node in graph.graph.nodes:
        if node.name == site.node:
            match: fx.Node = node
            return match
    raise ValueError(f"the graph has no node {site.node}: the site {site.name} belongs to another network")


def value_of(node: fx.Node) -> fx.Node | None:
    """Return the value that a call operates on: its first argument, None if that is not a node."""
    value = node.args[0] if node.args else next(iter(node.kwargs.values()), None)
    return value if isinstance(value, fx.Node) and value.meta.get("shape") is not None else None


def put_module(graph: fx.GraphModule, node: fx.Node, new: nn.Module, word: str) -> None:
    """Make a node call another module with its first argument."""
    name = f"{word}_of_{node.name}"
    graph.add_submodule(name, new.train(graph.training))
    value = value_of(node)
    node.op, node.target, node.args, node.kwargs = "call_module", name, (value,), {}


def nothing_like(pixels: Tensor, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return zeros (N, *shape) with the dtype of ``like`` and the batch size of ``pixels``."""
    return like.new_zeros((pixels.shape[0], *shape))


def joined_values(node: fx.Node) -> list[fx.Node]:
    """Return the values that a concatenation joins."""
    values = node.args[0]
    return (
        [value for value in values if isinstance(value, fx.Node)] if isinstance(values, list | tuple) else []
    )


def kernel_text(module: Any) -> str:
    """Format the size of a convolution's kernel: ``3×3``."""
    return "×".join(map(str, module.kernel_size))


def put_zeros(graph: fx.GraphModule, node: fx.Node, position: int, remaining: fx.Node) -> None:
    """Replace one of the values that a node joins by zeros of the same shape.

    The zeros have the dtype and device of ``remaining``. The nodes that computed the old value become unused.
    """
    joined = joined_values(node)
    old = joined[position]
    pixels = next(other for other in graph.graph.nodes if other.op == "placeholder")
    with graph.graph.inserting_before(node):
        zeros = graph.graph.call_function(nothing_like, (pixels, remaining, shape_of(old)))
    zeros.meta = {**old.meta, "path": node.meta.get("path", ())}
    joined[position] = zeros
    node.args = (joined, *node.args[1:])


def ancestors(node: fx.Node) -> set[fx.Node]:
    """Return every node whose value reaches ``node`` as a tensor, without ``node`` itself."""
    reached: set[fx.Node] = set()
    waiting = list(tensor_inputs(node))
    while waiting:
        current = waiting.pop()
        if current not in reached:
            reached.add(current)
            waiting += list(tensor_inputs(current))
    return reached


def from_image(node: fx.Node) -> bool:
    """Return whether a value depends on the image."""
    return node.op == "placeholder" or any(ancestor.op == "placeholder" for ancestor in ancestors(node))


def last_common(graph: fx.GraphModule, first: fx.Node, second: fx.Node) -> fx.Node | None:
    """Return the latest value that both depend on (or are), None if there is none."""
    shared = ({first} | ancestors(first)) & ({second} | ancestors(second))
    return next((node for node in reversed(list(graph.graph.nodes)) if node in shared), None)


def weight_between(graph: fx.GraphModule, start: fx.Node, end: fx.Node) -> Weight:
    """Return the maximum number of layers with weights on a path from ``start`` to ``end``, and their largest kernel.

    (-1, 0) if ``end`` does not depend on ``start``.
    """
    known: dict[fx.Node, Weight] = {start: (0, 0)}
    inside = ancestors(end) | {end}
    for node in graph.graph.nodes:
        if node is start or node not in inside:
            continue
        before = [known[value] for value in tensor_inputs(node) if value in known]
        if before:
            own = (1, _kernel(graph, node)) if is_weighted(graph, node) else (0, 0)
            known[node] = (max(b[0] for b in before) + own[0], max([own[1], *(b[1] for b in before)]))
    return known.get(end, (-1, 0))


def block_name(graph: fx.GraphModule, node: fx.Node, taken: set[str]) -> str:
    """Return a name for a site inside a module: the module's name, numbered from the second site on."""
    base = owner(node) or node.name
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}#{number}"
    taken.add(name)
    return name


def _kernel(graph: fx.GraphModule, node: fx.Node) -> int:
    if node.op != "call_module":
        return 1
    weight = getattr(graph.get_submodule(str(node.target)), "weight", None)
    shape = tuple(weight.shape[2:]) if isinstance(weight, Tensor) and weight.dim() > 2 else ()
    area = 1
    for side in shape:
        area *= int(side)
    return area


def _resolution(node: fx.Node) -> tuple[int, ...]:
    shape = shape_of(node)
    return shape[1:] if len(shape) == 3 else ()


def replace(copy: fx.GraphModule, node: fx.Node, module: nn.Module, name: str, value: Any) -> None:
    """Replace ``node`` by ``module``, part by part if it is a sequence."""
    parts = list(module) if isinstance(module, nn.Sequential) else [module]
    for number, part in enumerate(parts):
        target = name if number == 0 else free_name(copy, f"{name}_bound")
        copy.add_submodule(target, part.eval())
        with copy.graph.inserting_before(node):
            value = copy.graph.call_module(target, (value,))
        value.meta = dict(node.meta)
    node.replace_all_uses_with(value)
    copy.graph.erase_node(node)


def free_name(copy: fx.GraphModule, name: str) -> str:
    """Return ``name``, or ``name_1``, ``name_2`` … if there already is such a module."""
    taken = {path for path, _ in copy.named_modules()}
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def drop_unused(graph: fx.GraphModule) -> None:
    """Erase the nodes whose values nothing reads, but not those that are there to change a value in place."""
    memories: set[int] = set()
    for node in reversed(list(graph.graph.nodes)):
        changes = node.meta.get("unread") and node.meta.get("mutates", frozenset()) & memories
        if not (node.users or changes or node.is_impure()):
            graph.graph.erase_node(node)
            continue
        for value in node.all_input_nodes:
            memories.update(value.meta.get("aliases", ()))
