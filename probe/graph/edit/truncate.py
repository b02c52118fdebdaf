"""Truncation of a network after a layer."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

from torch import Tensor, fx, nn

from probe.core.errors import NotApplicableError
from probe.core.state import last_map
from probe.graph.edit.activations import is_idle, module_activation, node_activation
from probe.graph.trace.trace import (
    TraceError,
    check_layer,
    layer_names,
    no_side_effects,
    output_node,
    shared_copy,
    trace,
)


def truncate(module: nn.Module, layer: str, example: Tensor, *, before_activation: bool = False) -> nn.Module:
    """Return a network that computes the output of ``layer`` (of its last call) and nothing else.

    ``example`` is an input (N, C, H, W). With ``before_activation``, the result is the value before the activation that
    the layer ends with, if any. The truncated network is in eval mode, shares the module's parameters, and passes
    gradients to its input. A network that cannot be traced runs unchanged and is stopped when the layer is reached.

    Raises UsageError for an unknown layer, NotApplicableError if it is not called or does not return a single tensor.
    """
    check_layer(layer_names(module), layer)
    try:
        traced = trace(module, example)
        target = output_node(traced, layer)
    except TraceError:
        return _LeftEarly(shared_copy(module), layer, example, before_activation)
    if target.meta["shape"] is None:
        raise NotApplicableError(f"Layer '{layer}' does not return a single tensor.")
    activation = _activation(traced, target)
    if before_activation and activation is not None:
        target = activation.all_input_nodes[0]
    return _cut(traced, target)


def ends_in_activation(module: nn.Module, layer: str, example: Tensor) -> str | None:
    """Return the name of the activation that ``layer`` ends with, such as ``ReLU``, or None.

    Raises the same errors as ``truncate``.
    """
    check_layer(layer_names(module), layer)
    try:
        traced = trace(module, example)
        target = output_node(traced, layer)
    except TraceError:
        return _LeftEarly(shared_copy(module), layer, example, True).activation
    node = _activation(traced, target)
    return None if node is None else node_activation(traced, node)


def _activation(traced: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return the activation that computes the value of ``node``, ignoring dropout."""
    while is_idle(traced, node) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node if node_activation(traced, node) and node.all_input_nodes else None


def _cut(traced: fx.GraphModule, target: fx.Node) -> fx.GraphModule:
    needed = _needed(traced.graph, target)
    graph = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        if node in needed:
            new[node] = graph.node_copy(node, lambda old: new[old])
    graph.output(new[target])
    _spare_input(graph)
    return fx.GraphModule(traced, graph, type(traced).__name__).eval()


def _needed(graph: fx.Graph, target: fx.Node) -> set[fx.Node]:
    """Return the ancestors of ``target``, with operations that change their values in place before they are read."""
    nodes = list(graph.nodes)
    needed = {target, *(node for node in nodes if node.op == "placeholder" or _checks(node))}
    live = set(target.meta["aliases"])
    for node in reversed(nodes[: nodes.index(target) + 1]):
        if node in needed or node.meta["mutates"] & live:
            needed |= {node, *node.all_input_nodes}
            live.update(*(value.meta["aliases"] for value in node.all_input_nodes))
    return needed


def _checks(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "require_size"


def _spare_input(graph: fx.Graph) -> None:
    """Make operations that would change the input in place change a copy of it."""
    for pixels in [node for node in graph.nodes if node.op == "placeholder"]:
        if not any(node.meta.get("mutates", frozenset()) & pixels.meta["aliases"] for node in graph.nodes):
            continue
        with graph.inserting_after(pixels):
            own = graph.call_method("clone", (pixels,))
        for user in list(pixels.users):
            if user is not own:
                user.replace_input_with(pixels, own)


class _Reached(BaseException):
    """Raised when the layer has returned its output, because nothing after it needs to run."""


class _LeftEarly(nn.Module):
    """Run a network until a layer returns its output; if the layer is called several times, run the whole network."""

    def __init__(self, network: nn.Module, layer: str, example: Tensor, before_activation: bool) -> None:
        super().__init__()
        self.network = network
        self.layer = layer
        self.before_activation = before_activation
        self.activation: str | None = None
        self.once = False
        with no_side_effects(network):
            outputs = self._run(example.clone())
        if not outputs:
            raise NotApplicableError(
                f"Layer '{layer}' is not called in eval mode, or does not return a single tensor."
            )
        self.once = len(outputs) == 1
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the layer's output."""
        return last_map(self._run(pixels))

    def _run(self, pixels: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        last: dict[str, Any] = {}

        def before(_module: nn.Module, args: tuple[Any, ...]) -> None:
            last["input"] = args[0].clone() if args and isinstance(args[0], Tensor) else None

        def after(module: nn.Module, _args: Any, output: Any) -> None:
            last.update(output=output, name=module_activation(module))

        def reached(_module: nn.Module, _args: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            is_activation = output is last.get("output") and last["input"] is not None
            self.activation = last["name"] if is_activation else None
            outputs.append(last["input"] if is_activation and self.before_activation else output.clone())
            if self.once:
                raise _Reached

        layer = self.network.get_submodule(self.layer)
        with ExitStack() as hooks:
            for sub in layer.modules():
                if module_activation(sub):
                    hooks.callback(sub.register_forward_pre_hook(before).remove)
                    hooks.callback(sub.register_forward_hook(after).remove)
            hooks.callback(layer.register_forward_hook(reached).remove)
            with suppress(_Reached):
                self.network(pixels.clone())
        return outputs
