"""Residual blocks, version 1 or 2: He, Zhang, Ren and Sun, "Identity Mappings in Deep Residual Networks", 2016."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import fx, nn

from probe.graph.edit.edits import block_name, get_node, site_at, value_of
from probe.graph.edit.joins import Residual, residuals
from probe.graph.edit.site import Site
from probe.graph.edit.structure import SWAPS
from probe.graph.edit.swap import Swap
from probe.graph.trace.ops import operation, shape_of


@SWAPS.register("residual")
@dataclass(frozen=True)
class ResidualVersion(Swap):
    """Residual blocks with the activation after the addition (v1) → before the convolutions (``to=v2``), or back.

    The norm at the end of the branch moves after the addition and before the activation; shortcuts then
    pass the sums on unchanged. The first block keeps the stem's norm and activation in front of it, and the last
    block's activation stays after the sum, as in the paper.
    """

    to: Literal["v1", "v2"] = "v2"
    name: ClassVar[str] = "swap:residual"

    @property
    def arm(self) -> str:
        """Return the label of the edited network."""
        return "with pre-activation (v2)" if self.to == "v2" else "with post-activation (v1)"

    def find(self, graph: fx.GraphModule) -> tuple[Site, ...]:
        """Return the additions of the blocks of the other version."""
        sites, taken = [], set[str]()
        for residual in residuals(graph):
            name = block_name(graph, residual.node, taken)
            if (_after_v1 if self.to == "v2" else _after_v2)(graph, residual) is not None:
                form = "v1 → v2" if self.to == "v2" else "v2 → v1"
                sites.append(site_at(graph, residual.node, self.text, name, form))
        return tuple(sites)

    def cut(self, graph: fx.GraphModule, site: Site) -> None:
        """Move the norm and the activation."""
        node = get_node(graph, site)
        residual = next((other for other in residuals(graph) if other.node is node), None)
        if residual is not None:
            (_to_v2 if self.to == "v2" else _to_v1)(graph, residual)


def _after_v1(graph: fx.GraphModule, residual: Residual) -> fx.Node | None:
    """Return the activation after the addition of a version 1 block."""
    users = list(residual.node.users)
    ends_in_norm = _is_batch_norm(graph, residual.operand(1 - residual.shortcut))
    acts = len(users) == 1 and operation(graph, users[0]) == "activation"
    return users[0] if ends_in_norm and acts else None


def _after_v2(graph: fx.GraphModule, residual: Residual) -> tuple[fx.Node, fx.Node] | None:
    """Return the norm and the activation after the addition of a version 2 block."""
    if operation(graph, residual.operand(1 - residual.shortcut)) != "conv":
        return None
    norms = [user for user in residual.node.users if _is_batch_norm(graph, user)]
    if len(norms) != 1 or len(norms[0].users) != 1:
        return None
    (after,) = norms[0].users
    return (norms[0], after) if operation(graph, after) == "activation" else None


def _to_v2(graph: fx.GraphModule, residual: Residual) -> None:
    activation = _after_v1(graph, residual)
    if activation is None:
        return
    norms = [residual.operand(1 - residual.shortcut)]
    if residual.projection and _is_batch_norm(graph, residual.operand(residual.shortcut)):
        norms.append(residual.operand(residual.shortcut))
    for norm in norms:
        value = value_of(norm)
        if value is not None:
            norm.replace_all_uses_with(value)
    normed = _put_norm(graph, residual.node)
    activation.replace_input_with(residual.node, normed)
    for user in _shortcuts(graph, activation):
        user.replace_input_with(activation, residual.node)


def _to_v1(graph: fx.GraphModule, residual: Residual) -> None:
    after = _after_v2(graph, residual)
    if after is None:
        return
    norm, activation = after
    ends = [residual.operand(1 - residual.shortcut)]
    if residual.projection and operation(graph, residual.operand(residual.shortcut)) == "conv":
        ends.append(residual.operand(residual.shortcut))
    elif operation(graph, _behind(graph, residual.operand(residual.shortcut))) != "add":
        _start_behind_activation(graph, residual)
    for end in ends:
        residual.node.replace_input_with(end, _put_norm(graph, end))
    norm.replace_all_uses_with(residual.node)
    for user in _shortcuts(graph, residual.node):
        user.replace_input_with(residual.node, activation)


def _start_behind_activation(graph: fx.GraphModule, residual: Residual) -> None:
    """Make the first block's shortcut start after the norm and the activation at the start of its branch."""
    start = _behind(graph, residual.operand(residual.shortcut))
    for norm in start.users:
        if _is_batch_norm(graph, norm) and len(norm.users) == 1:
            (after,) = norm.users
            if operation(graph, after) == "activation":
                residual.node.replace_input_with(residual.operand(residual.shortcut), after)
                return


def _shortcuts(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """Return the uses of a value as an identity shortcut: additions, and identities in front of them."""
    return [
        user
        for user in node.users
        if operation(graph, user) == "add"
        or (_is_identity(graph, user) and all(operation(graph, other) == "add" for other in user.users))
    ]


def _behind(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return the value before a chain of identities."""
    value = value_of(node) if _is_identity(graph, node) else None
    return node if value is None else _behind(graph, value)


def _is_identity(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), nn.Identity)


def _put_norm(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Add batch normalisation after a node, without users yet."""
    name = f"norm_behind_{node.name}"
    graph.add_submodule(name, nn.BatchNorm2d(shape_of(node)[0]).train(graph.training))
    with graph.graph.inserting_after(node):
        call = graph.graph.call_module(name, (node,))
    call.meta = dict(node.meta)
    return call


def _is_batch_norm(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), nn.BatchNorm2d)
