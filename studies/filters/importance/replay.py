"""A network from one layer on: what lies before the layer is computed once for a batch and kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from probe.core.precision import exact_float32
from probe.graph.trace.trace import TOLERANCE, no_side_effects, shared_copy, tensors

_TRIALS = 2
"""A kept value that one pass spoils shows in the pass after it."""


@dataclass(frozen=True)
class _FinishedCall:
    """A call of a module: its number in the order of the calls, the output, and its tensors' versions at the end of the call."""

    number: int
    module: nn.Module
    output: Any
    versions: tuple[int, ...]

    @property
    def spoiled(self) -> bool:
        """Whether the output was changed in place after the call."""
        return _versions(self.output) != self.versions


class Replay:
    """A network that can be run from the output of ``layer`` on, with another value in its place.

    Modules that end before the layer are called once for a batch (``start``) and give what they gave then in all later
    passes on that batch (``finish``). For a reused layer, the last call that returns a map counts. The copy that is run
    shares the network's tensors; the network itself is not changed. ``example`` is an input (N, C, H, W).

    ``keeps`` is False where a network answers otherwise with kept values; then every pass runs in full. ``macs``:
    multiply-accumulates from the layer on, ``kept_bytes``: of the kept values, both for one image.
    """

    def __init__(self, network: nn.Module, layer: str, example: Tensor) -> None:
        self.network = shared_copy(network)
        self.keeps = True
        self._images = example
        self._calls = self._place = 0
        self._finished: list[_FinishedCall] = []
        self._kept: dict[int, Any] = {}
        self._value: Tensor | None = None
        self._mode: Callable[..., Any] = self._watch
        for sub in self.network.modules():
            if sub is not self.network:
                vars(sub)["forward"] = partial(self._called, sub, sub.forward)
        with no_side_effects(self.network), exact_float32():
            self.network(example.clone())
            planned = self._planned(self.network.get_submodule(layer))
            self._plan = {call.number: call.module for call in planned}
            self._order = [*self._plan]
            self._spoiled = {call.number for call in planned if call.spoiled}
            self._finished.clear()
            self.keeps = self._faithful(example)
            if not self.keeps:
                self._order = self._order[-1:]
                self._plan = {self._order[0]: self._plan[self._order[0]]}
            self.start(example)
            counter = FlopCounterMode(display=False)
            with counter:
                self.finish(self.value.clone())
        self.macs = counter.get_total_flops() // 2 // len(example)
        memories = {
            part.untyped_storage().data_ptr(): part.nbytes for part in tensors([*self._kept.values()])
        }
        self.kept_bytes = sum(memories.values()) // len(example)
        self.release()

    def start(self, images: Tensor) -> Tensor:
        """Run the network on (N, C, H, W) images, keep what later passes need, and return the output."""
        self._images, self._kept = images, {}
        return self._run(self._keep)

    @property
    def value(self) -> Tensor:
        """The layer's output (N, C, H, W) for the images of ``start``; not to be changed."""
        value: Tensor = self._kept[self._order[-1]]
        return value

    def finish(self, value: Tensor) -> Tensor:
        """Return the network's output with ``value`` as the layer's output; the network may change ``value`` in place."""
        self._value = value
        try:
            return self._run(self._repeat if self.keeps else self._replace)
        finally:
            self._value = None

    def release(self) -> None:
        """Let go of the kept values."""
        self._kept, self._images = {}, self._images[:0]

    def _run(self, mode: Callable[..., Any]) -> Tensor:
        self._calls = self._place = 0
        self._mode = mode
        output: Tensor = self.network(self._images.clone())
        return output

    def _called(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        number = self._calls
        self._calls += 1
        return self._mode(number, module, partial(forward, *args, **kwargs))

    def _watch(self, number: int, module: nn.Module, call: Callable[[], Any]) -> Any:
        output = call()
        self._finished.append(_FinishedCall(number, module, output, _versions(output)))
        return output

    def _keep(self, number: int, _module: nn.Module, call: Callable[[], Any]) -> Any:
        output = call()
        if number in self._plan:
            self._kept[number] = self._safe(number, output)
        return output

    def _repeat(self, _number: int, module: nn.Module, call: Callable[[], Any]) -> Any:
        # The modules inside those that are not called have no number now, so the plan is followed in its order.
        if self._place == len(self._order) or self._plan[self._order[self._place]] is not module:
            return call()
        planned = self._order[self._place]
        self._place += 1
        return self._value if self._place == len(self._order) else self._safe(planned, self._kept[planned])

    def _replace(self, number: int, _module: nn.Module, call: Callable[[], Any]) -> Any:
        output = call()
        return self._value if number == self._order[-1] else output

    def _safe(self, number: int, output: Any) -> Any:
        return copy.deepcopy(output) if number in self._spoiled else output

    def _planned(self, target: nn.Module) -> list[_FinishedCall]:
        """Return the outermost calls that end before the layer's, in order, and that one last."""
        own = [place for place, call in enumerate(self._finished) if call.module is target]
        maps = [place for place in own if getattr(self._finished[place].output, "ndim", 0) == 4]
        plan: list[_FinishedCall] = []
        for call in reversed(self._finished[: max(maps or own) + 1]):
            # A call inside one that is in the plan has a larger number, because it began later.
            if not plan or call.number < plan[0].number:
                plan.insert(0, call)
        return plan

    def _faithful(self, example: Tensor) -> bool:
        """Return whether passes on kept values give what the network gives."""
        try:
            expected = self.start(example)
            found = [self.finish(self.value.clone()) for _ in range(_TRIALS)]
        except Exception:
            return False
        scale = max(1.0, float(expected.nan_to_num(0.0, 0.0, 0.0).abs().max()))
        return all(
            torch.allclose(expected, one, rtol=0.0, atol=TOLERANCE * scale, equal_nan=True) for one in found
        )


def _versions(output: Any) -> tuple[int, ...]:
    """Return the counters that every change in place increments; inference tensors have none."""
    return tuple(0 if part.is_inference() else part._version for part in tensors(output))
