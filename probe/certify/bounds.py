"""Sound lower bounds of a small network's margins over a ball of perturbations, by linear relaxation (CROWN, Zhang 2018)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from probe.attacks.norms import Norm
from probe.certify.operations import (
    OUT_OF_PLACE,
    affine_function,
    affine_method,
    affine_module,
    function_of,
    is_tensor,
    is_torchs_own,
    limits,
    pooling,
)
from probe.certify.relaxations import Sink, max_pool2d, relu
from probe.core.errors import NotApplicableError
from probe.graph.trace.trace import trace

ROWS = 64
"""Coefficient vectors that go backwards together."""

KEPT = 8_000_000
"""How many coefficients of the first layers are kept for the next image: 64 MB."""

SLACK = 1e-4
"""A margin counts as positive above this part of the largest logit: the network itself rounds to float32."""

_DUAL = {"L1": torch.inf, "L2": 2.0}


@dataclass(frozen=True)
class Ball:
    """All images within ``epsilon`` of ``centre`` (N, C, H, W) in a norm, and within [0, 1]."""

    centre: Tensor
    epsilon: float
    norm: str

    def least(self, a: Tensor, rows: int) -> Tensor:
        """Return the least value of a·x over the ball, (N · rows,), for coefficients (N · rows, C, H, W)."""
        low = (self.centre - self.epsilon).clamp_min(0).minimum(self.centre)
        high = (self.centre + self.epsilon).clamp_max(1).maximum(self.centre)
        a = a.view(len(self.centre), rows, *a.shape[1:])
        box = (a.clamp_min(0) * low[:, None] + a.clamp_max(0) * high[:, None]).flatten(2).sum(2)
        if self.norm == "Linf":
            return box.flatten()
        reach = self.epsilon * a.flatten(2).norm(_DUAL[self.norm], dim=2)
        return box.maximum((a * self.centre[:, None]).flatten(2).sum(2) - reach).flatten()


class BoundedNetwork:
    """A network prepared for bounds: a graph in float64 of which every operation is affine or has a relaxation.

    Raises NotApplicableError for other networks, naming the operation. ``neurons`` are the inputs of relaxed operations.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module
        self.graph = copy.deepcopy(trace(module, example)).double()
        self._first: list[_Affine] = []
        with torch.no_grad():
            probed = _Bounder(self.graph, Ball(example[:1].double(), 0.0, "Linf"), measure=True)
            probed.run(example[:1].double())
            self.neurons = probed.neurons

    def margins(self, images: Tensor, labels: Tensor, epsilon: float, norm: Norm) -> Tensor:
        """Return a lower bound of (own logit − largest other logit) over the ball of each image, (N,), float64.

        ``images`` (N, C, H, W) in [0, 1]; ``labels`` (N,). ``norm`` is Linf, L2 or L1; perturbed images stay in [0, 1]. The bound
        holds for exact arithmetic; it is computed in float64. Raises NotApplicableError for other norms, and for a network whose
        graph gives other logits than the network.
        """
        if norm.name not in ("Linf", *_DUAL):
            raise NotApplicableError(f"There are no bounds for {norm.name}: only for Linf, L2 and L1.")
        found = [
            self._margins(image[None].double(), label[None], epsilon, norm.name)
            for image, label in zip(images, labels, strict=True)
        ]
        return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)

    def certified(self, images: Tensor, labels: Tensor, epsilon: float, norm: Norm) -> Tensor:
        """Return which images no perturbation within ``epsilon`` moves to another class, (N,)."""
        return self.margins(images, labels, epsilon, norm) > 0

    def _margins(self, image: Tensor, label: Tensor, epsilon: float, norm: str) -> Tensor:
        ball = Ball(image, epsilon, norm)
        bounder = _Bounder(self.graph, ball, first=self._first)
        rows = min(ROWS, max(1, self.neurons))
        pixels = image.expand(rows, *image.shape[1:]).clone().requires_grad_()
        bounder.pixels = pixels
        with torch.enable_grad():
            logits = bounder.run(pixels)
        with torch.no_grad():
            plain = self.module(image.to(next(iter(self.module.parameters()), image).dtype))
        size = float(plain.abs().max().clamp_min(1.0))
        if not torch.allclose(plain.double(), logits[:1].detach(), rtol=0, atol=SLACK / 2 * size):
            raise NotApplicableError("The network's graph does not give the network's logits.")
        classes = logits.shape[1]
        others = [index for index in range(classes) if index != int(label)]
        a = torch.zeros(len(others), classes, dtype=logits.dtype, device=logits.device)
        a[:, int(label)] = 1
        a[range(len(others)), others] = -1
        return bounder.lower(logits, a).min()[None] - SLACK * size


class _Affine(NamedTuple):
    """Affine functions of the pixels: coefficients (K, C, H, W) and constants (K,)."""

    coefficients: Tensor
    constants: Tensor


class _Bounder(fx.Interpreter):
    """Run the graph on copies of one image; bound the input of each relaxed operation before it is applied.

    ``first`` has the input of the first relaxed operation, empty until it is known: the same affine functions of the pixels
    for every image and ball.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        ball: Ball,
        measure: bool = False,
        first: list[_Affine] | None = None,
    ) -> None:
        super().__init__(graph)
        self.ball, self.measure = ball, measure
        self._first = [] if first is None else first
        self._relaxed = False
        self.sink = Sink()
        self.pixels: Tensor | None = None
        self.neurons = 0
        self._dependent: set[fx.Node] = set()
        self._known: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def lower(self, z: Tensor, a: Tensor) -> Tensor:
        """Return lower bounds of the linear functions ``a`` (K, values) of ``z``'s values for one image, (K,)."""
        found = [self._at_least(part) for part in self._backwards(z, torch.split(a, len(z)))]
        return torch.cat(found)

    def _at_least(self, part: _Affine) -> Tensor:
        return part.constants + self.ball.least(part.coefficients, len(part.constants))

    def _backwards(self, z: Tensor, parts: Iterable[Tensor]) -> Iterator[_Affine]:
        """Yield affine functions of the pixels that lie below linear functions (K, values) of ``z``'s values, K ≤ len(z)."""
        assert self.pixels is not None
        flat = z.flatten(1)
        for part in parts:
            grads = F.pad(part, (0, 0, 0, len(z) - len(part)))
            self.sink.total = 0.0
            (down,) = torch.autograd.grad(flat, self.pixels, grads, retain_graph=True)
            constant = (grads * flat.detach()).sum(1) + self.sink.total
            constant = constant - (down * self.pixels.detach()).flatten(1).sum(1)
            yield _Affine(down[: len(part)].detach(), constant[: len(part)].detach())

    def _of_pixels(self, z: Tensor) -> Iterable[_Affine]:
        """Return the values of ``z`` as affine functions of the pixels, where nothing is relaxed before them."""
        assert self.pixels is not None
        if self._first:
            return self._first
        count = z[0].numel()
        found = self._backwards(z, _units(count, len(z), z))
        if count * self.pixels[0].numel() > KEPT:
            return found
        self._first.extend(found)
        return self._first

    def _bounds(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of the values of ``z``, of its shape."""
        count = z[0].numel()
        self.neurons += count
        if self.measure:
            return z, z
        low, high = [], []
        if self._relaxed:
            for a in _units(count, len(z), z):
                low.append(self.lower(z, a))
                high.append(-self.lower(z, -a))
        else:
            for part in self._of_pixels(z):
                low.append(self._at_least(part))
                high.append(-self._at_least(_Affine(-part.coefficients, -part.constants)))
        self._relaxed = True
        bounds = torch.stack([torch.cat(low), torch.cat(high)])
        least, most = (side.view(1, *z.shape[1:]).expand_as(z) for side in bounds)
        return least, most

    def run_node(self, n: fx.Node) -> Any:
        """Run an operation, relaxed where it is not affine; raises NotApplicableError where it cannot be."""
        if n.op == "placeholder":
            self._dependent.add(n)
            return super().run_node(n)
        if n.op == "output" or not any(source in self._dependent for source in n.all_input_nodes):
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        value = self._call(n, args, kwargs)
        if is_tensor(value) or (isinstance(value, tuple | list) and any(map(is_tensor, value))):
            self._dependent.add(n)
        return value

    def _call(self, n: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if n.op == "call_module":
            return self._layer(n, self.fetch_attr(str(n.target)), args, kwargs)
        target = n.target if n.op == "call_function" else function_of(str(n.target))
        if n.op == "call_method" and target is None:
            if not affine_method(str(n.target)):
                raise _unknown(n, str(n.target))
            return getattr(args[0], str(n.target))(*args[1:], **kwargs)
        function: Any = target
        return self._function(n, OUT_OF_PLACE.get(function, function), args, kwargs)

    def _layer(self, n: fx.Node, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(layer, nn.MaxPool2d) and is_torchs_own(layer):
            names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
            return self._pool(n, args[0], (), {name: getattr(layer, name) for name in names})
        ends = limits(layer) if is_torchs_own(layer) else None
        if ends is not None:
            return self._cut_off(args[0], *ends)
        if not affine_module(layer):
            raise _unknown(n, type(layer).__name__)
        return layer(*args, **kwargs)

    def _function(self, n: fx.Node, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function in (F.relu, torch.relu):
            return self._relu(args[0] if args else kwargs["input"])
        if function is F.relu6:
            return self._cut_off(args[0], 0.0, 0.0, 6.0)
        if function is F.leaky_relu:
            return self._cut_off(args[0], kwargs.get("negative_slope", args[1] if len(args) > 1 else 0.01))
        if function is torch.clamp:
            low, high = (
                kwargs.get(name, args[i] if len(args) > i else None) for i, name in ((1, "min"), (2, "max"))
            )
            return self._clamp(n, args[0], low, high)
        if function in (F.max_pool2d, torch.max_pool2d):
            return self._pool(n, args[0], args[1:], kwargs)
        nodes = dict(zip((id(arg) for arg in args), n.args, strict=False)) | {
            id(value): n.kwargs[name] for name, value in kwargs.items()
        }

        def depends(value: Any) -> bool:
            values = value if isinstance(value, tuple | list) else (value,)
            return any(nodes.get(id(each)) in self._dependent for each in values if is_tensor(each))

        if not affine_function(function, args, kwargs, depends):
            raise _unknown(n, getattr(function, "__name__", str(function)))
        return function(*args, **kwargs)

    def _relu(self, z: Tensor) -> Tensor:
        low, high = self._bounds(z)
        result = relu(z, low, high, self.sink)
        # The object is kept with its bounds, so that its identity stays its own.
        self._known[id(result)] = (result, low.clamp_min(0), high.clamp_min(0))
        return result

    def _cut_off(self, z: Tensor, slope: float, left: float = 0.0, right: float = torch.inf) -> Tensor:
        """Return slope · z + (1 − slope) · relu(z − left) + left, cut off at ``right``, out of ReLUs."""
        # Without a shift, what comes out is the ReLU's own tensor, whose bounds are known to a pooling that follows.
        result = self._relu(z - left) + left if left else self._relu(z)
        if slope:
            return slope * z + (1 - slope) * result
        return result if right == torch.inf else right - self._relu(right - result)

    def _clamp(self, n: fx.Node, z: Tensor, low: Any, high: Any) -> Tensor:
        if any(isinstance(end, Tensor) for end in (low, high)):
            raise _unknown(n, "clamp by tensors")
        result = z if low is None else self._relu(z - low) + low
        return result if high is None else high - self._relu(high - result)

    def _pool(self, n: fx.Node, z: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        pool = pooling(args, kwargs)
        if pool is None:
            raise _unknown(n, "max pooling that returns places")
        low, high = self._known[id(z)][1:] if id(z) in self._known else self._bounds(z)
        return max_pool2d(z, low, high, pool, self.sink)


def _units(count: int, rows: int, like: Tensor) -> Iterator[Tensor]:
    """Yield the rows of the identity matrix of ``count`` rows, ``rows`` at a time."""
    for start in range(0, count, rows):
        size = min(rows, count - start)
        a = torch.zeros(size, count, dtype=like.dtype, device=like.device)
        a[range(size), range(start, start + size)] = 1
        yield a


def _unknown(n: fx.Node, what: str) -> NotApplicableError:
    path = n.meta.get("path") or ()
    where = f" in {path[-1]}" if path else ""
    return NotApplicableError(
        f"There are no linear bounds for {what}{where}: only for networks of affine layers, "
        "ReLU, LeakyReLU, ReLU6, Hardtanh and max pooling."
    )
