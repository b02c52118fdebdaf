"""Answers of the intact network and of many cut copies, sharing what they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from probe.core.progress import Advance
from probe.core.seeds import generator
from probe.core.state import training_mode
from probe.graph.cut import Subject, prepare
from probe.graph.fold import folded
from probe.graph.prefix import SharedPass, mutates, variant
from probe.graph.shell import isolated, shell
from probe.models.loaded import LoadedModel
from probe.training.fit import reestimate_batch_norm
from studies.ablation.score import Answers

KEPT = 1 << 30
"""Bound in bytes for the activations that are kept at once: larger batches are split."""

_CLOSE = 1e-4
"""Two largest logits that differ by less than this part of the largest one are computed again, in the plain way."""


@dataclass(frozen=True)
class Batch:
    """Images (N, C, H, W) in [0, 1] on the model's device and the classes that count as right, (N,)."""

    images: Tensor
    labels: Tensor


def subject_of(model: LoadedModel) -> Subject:
    """Return the network, without its normalisation, prepared for cutting on two inputs of normalised noise."""
    noise = torch.rand((2, *model.input.size), generator=generator(0, "example"))
    with torch.no_grad():
        example = model.module.normalise(noise.to(model.device, memory_format=model.memory_format))
    return prepare(model.network, example)


class Evaluator:
    """A network and cut copies of it, ready to answer.

    Copies answer as if each had been run alone: what is computed with folded normalisation is computed again in the
    plain way wherever two classes are close.
    """

    def __init__(self, model: LoadedModel, subject: Subject, cuts: Sequence[nn.Module]) -> None:
        self.model = model
        self.plain = [subject.network, *cuts]
        graphs = [one for one in self.plain if isinstance(one, fx.GraphModule)]
        self.shared: SharedPass | None = None
        if len(graphs) == len(self.plain) and not subject.reason and not any(map(mutates, graphs)):
            known: dict[str, nn.Module] = {}
            fast = [_fast(graph, model.memory_format, known) for graph in graphs]
            self.shared = SharedPass(fast[0], [variant(fast[0], one) for one in fast[1:]])

    @property
    def at_once(self) -> int:
        """The number of images whose kept activations stay within ``KEPT`` bytes."""
        return 1 << 30 if self.shared is None else max(1, KEPT // max(1, self.shared.kept_bytes))

    def answer(self, batches: Iterable[Batch], advance: Advance | None = None) -> list[Answers]:
        """Return the answers of the intact network, then of each copy."""
        found: list[list[Answers]] = [[] for _ in self.plain]
        with torch.inference_mode():
            for batch in batches:
                for images, labels in _parts(batch, self.at_once):
                    x = self.model.module.normalise(images)
                    for index, logits in self._logits(x):
                        found[index].append(Answers.of(logits, labels))
                if advance is not None:
                    advance(len(batch.labels))
        return [Answers.joined(parts) for parts in found]

    def _logits(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        if self.shared is None:
            for index, network in enumerate(self.plain):
                with isolated(network):
                    yield index, network(x.clone())
            return
        for index, logits in self.shared.run(x):
            yield index + 1, self._exact(index + 1, x, logits)

    def _exact(self, index: int, x: Tensor, logits: Tensor) -> Tensor:
        two = logits.topk(min(2, logits.shape[1]), dim=1).values
        close = ~((two[:, 0] - two[:, -1]) > _CLOSE * logits.abs().amax(1))
        if not bool(close.any()):
            return logits
        exact = logits.clone()
        exact[close] = self.plain[index](x[close])
        return exact


def _fast(graph: fx.GraphModule, layout: torch.memory_format, known: dict[str, nn.Module]) -> fx.GraphModule:
    fast = folded(graph, known)
    fast.to(memory_format=layout)
    return fast if isinstance(fast, fx.GraphModule) else graph


def recalibrated(network: nn.Module, batches: Sequence[Tensor]) -> nn.Module:
    """Return a copy whose batch normalisation has the statistics of the given (normalised) images as it is now."""
    copy = shell(network)
    for sub in copy.modules():
        for name, buffer in sub._buffers.items():
            sub._buffers[name] = None if buffer is None else buffer.detach().clone()
    reestimate_batch_norm(copy, batches)
    return copy


def has_batch_norm(network: nn.Module) -> bool:
    """Say whether a network has running statistics that can be estimated again."""
    kinds = nn.modules.batchnorm._BatchNorm
    return any(isinstance(sub, kinds) and sub.track_running_stats for sub in network.modules())


def answer_plain(model: LoadedModel, network: nn.Module, batches: Iterable[Batch]) -> Answers:
    """Return the answers of one network that takes normalised images."""
    parts = []
    with training_mode(network, False), torch.inference_mode():
        for batch in batches:
            parts.append(Answers.of(network(model.module.normalise(batch.images)), batch.labels))
    return Answers.joined(parts)


def true_classes(batches: Sequence[Batch]) -> NDArray[np.int64]:
    """Return the classes that count as right, (n,)."""
    return np.concatenate([batch.labels.cpu().numpy() for batch in batches])


def _parts(batch: Batch, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(torch.split(batch.images, most), torch.split(batch.labels, most), strict=True)
