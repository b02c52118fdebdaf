"""The torch.fx tracer: which modules are traced, and explanations of why tracing failed."""

from __future__ import annotations

import operator
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from probe.graph.trace.leaves import library_leaves

_CALL, _GETATTR = nn.Module.__call__, nn.Module.__getattr__

_SIZES = frozenset({"shape", "size", "numel", "nelement", "stride", "is_contiguous"})
_KINDS = frozenset(
    {
        "ndim",
        "dim",
        "ndimension",
        "dtype",
        "device",
        "is_floating_point",
        "is_complex",
        "is_cuda",
        "requires_grad",
        "layout",
    }
)


class Concrete:
    """Concrete values of sizes, and of values computed only from sizes, for the example.

    The graph so far is run with two batch sizes. A value that differs between them depends on the batch and is
    rejected, as is one that depends on the values of tensors.
    """

    def __init__(self, tracer: fx.Tracer, example: Tensor) -> None:
        self.tracer = tracer
        self.examples = [example[:1].expand(count, *example.shape[1:]) for count in (2, 3)]
        self.runs: list[dict[fx.Node, Any]] = [{}, {}]
        self.sized = False

    def of(self, node: fx.Node) -> Any:
        """Return the value of ``node``; raises TypeError if it does not follow from the example's size."""
        values = self._values(node)
        if isinstance(values[0], Tensor) or not self._from_sizes(node):
            raise TypeError("the forward pass depends on the values of a tensor")
        if values[0] != values[1]:
            raise TypeError("the forward pass depends on the number of images")
        return values[0]

    def length(self, node: fx.Node) -> int:
        """Return the length of a tensor or a tuple; raises TypeError if it is the batch size."""
        lengths = [len(value) for value in self._values(node)]
        if lengths[0] != lengths[1]:
            raise TypeError("the forward pass depends on the number of images")
        if not isinstance(self.runs[0][node], torch.Size):
            self.sized = True
        return lengths[0]

    def _values(self, node: fx.Node) -> list[Any]:
        waiting = [unrun for unrun in self.tracer.graph.nodes if unrun not in self.runs[0]]
        with _untraced():
            for example, known in zip(self.examples, self.runs, strict=True):
                runner = fx.Interpreter(self.tracer.root, graph=self.tracer.graph)
                runner.env = known
                runner.args_iter = iter([example.clone()])
                for pending in waiting:
                    known[pending] = runner.run_node(pending)
        return [known[node] for known in self.runs]

    def _from_sizes(self, node: fx.Node) -> bool:
        """Return whether ``node`` is computed from sizes; record whether it depends on more than the number of dimensions."""
        waiting, seen = [node], set()
        while waiting:
            current = waiting.pop()
            if current in seen:
                continue
            seen.add(current)
            tensors = [n for n in current.all_input_nodes if isinstance(self.runs[0][n], Tensor)]
            query = _query(current)
            if tensors and query in _SIZES:
                self.sized = True
            elif tensors and query not in _KINDS:
                return False
            waiting += [n for n in current.all_input_nodes if n not in tensors]
        return True


@contextmanager
def _untraced() -> Iterator[None]:
    """Make modules run normally inside the block, although torch.fx is tracing and has replaced their calls."""
    patched = nn.Module.__call__, nn.Module.__getattr__
    try:
        nn.Module.__call__, nn.Module.__getattr__ = _CALL, _GETATTR  # type: ignore[method-assign]
        yield
    finally:
        nn.Module.__call__, nn.Module.__getattr__ = patched  # type: ignore[method-assign]


def _query(node: fx.Node) -> str:
    """Return the attribute of a tensor that ``node`` reads, such as ``shape``, or an empty string."""
    if node.op == "call_method":
        return str(node.target)
    if node.op == "call_function" and node.target in (getattr, operator.attrgetter):
        return str(node.args[1])
    return ""


_QUIET = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<")


class GraphTracer(fx.Tracer):
    """Trace a module's forward pass and record the module whose output each node is.

    Conditions that depend only on the sizes of ``example`` are evaluated for ``example``; ``sized`` says afterwards
    whether there were any.
    """

    def __init__(self, example: Tensor) -> None:
        self.leaves = library_leaves()
        super().__init__(self.leaves.namespaces, self.leaves.functions)
        self.names: dict[nn.Module, str] = {}
        self.concrete = Concrete(self, example)

    @property
    def sized(self) -> bool:
        """Whether the graph is valid only for the example's height and width."""
        return self.concrete.sized

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Treat torch.nn's modules as leaves, and the libraries' own convolutions, poolings and activations."""
        return super().is_leaf_module(m, module_qualified_name) or self.leaves.whole(m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record the call; a library's module that cannot be traced becomes one node."""
        path = self.path_of_module(m)
        self.names[m] = path
        if isinstance(m, self.leaves.doubtful) and not self.is_leaf_module(m, path):
            result = self._attempt(m, forward, args, kwargs)
        else:
            result = super().call_module(m, forward, args, kwargs)
        if isinstance(result, fx.Proxy):
            calls = result.node.meta.get("outputs_of", ())
            result.node.meta["outputs_of"] = (*calls, (path, self.num_calls[path]))
        return result

    def _attempt(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        last = next(iter(reversed(self.graph.nodes)))
        stack, calls = self.module_stack.copy(), dict(self.num_calls)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            for node in reversed(list(self.graph.nodes)):
                if node is last:
                    break
                self.graph.erase_node(node)
            self.module_stack, self.num_calls = stack, calls
        path = self.names[m]
        return super().call_module(
            m, lambda *a, **k: self.create_proxy("call_module", path, a, k), args, kwargs
        )

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """Create a separate node for every use of a parameter, so that a failed trace of a module can be undone."""
        return super().getattr(attr, attr_val, {})

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Record the owning modules in the node."""
        node = super().create_node(*args, **kwargs)
        node.meta["path"] = tuple(name for name, _ in self.module_stack.values())
        return node

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> Any:
        """Create a value; a method for which a network has a submodule (see ``spelled``) is a call of that."""
        if kind == "call_method":
            for mode in torch.overrides._get_current_function_mode_stack():  # type: ignore[no-untyped-call]
                find = getattr(mode, "submodule", None)
                sub = find and find(getattr(Tensor, target, None), args, kwargs)
                if sub is not None:
                    return sub(args[0])
        return super().create_proxy(kind, target, args, kwargs, *rest, **more)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy of a value; in-place changes are recorded."""
        return _Value(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Evaluate a condition on sizes; raises TypeError for other conditions."""
        return bool(self.concrete.of(obj.node))

    def iter(self, obj: Any) -> Iterator[Any]:
        """Iterate over a value whose length is known from the example."""
        try:
            parts: Iterator[Any] = super().iter(obj)
        except fx.proxy.TraceError:
            parts = iter([obj[index] for index in range(self.concrete.length(obj.node))])
        return parts


class _Value(fx.Proxy):
    """A value that is being traced."""

    tracer: GraphTracer

    def __len__(self) -> int:
        return self.tracer.concrete.length(self.node)

    def __index__(self) -> int:
        return operator.index(self.tracer.concrete.of(self.node))

    def __int__(self) -> int:
        return int(self.tracer.concrete.of(self.node))

    def __float__(self) -> float:
        return float(self.tracer.concrete.of(self.node))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def method(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name in (
    "iadd",
    "isub",
    "imul",
    "itruediv",
    "ifloordiv",
    "imod",
    "ipow",
    "iand",
    "ior",
    "ixor",
    "imatmul",
):
    setattr(_Value, f"__{_name}__", _in_place(getattr(operator, _name)))


def explain(error: BaseException) -> str:
    """Return in one sentence why tracing failed, with the line of the network's source."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_QUIET)]
    own = [f for f in frames if "site-packages" not in f.filename] or frames
    where = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    code = f" ({own[-1].line})" if own and own[-1].line else ""
    return f"The network cannot be traced{where}{code}: {text.rstrip('.')}."
