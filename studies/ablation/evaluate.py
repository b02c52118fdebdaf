"""Predictions of the intact network and of many cut copies, which share common computations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F

from probe.core import stats
from probe.core.errors import check_answers
from probe.core.precision import exact_float32
from probe.core.progress import Advance
from probe.core.state import training_mode
from probe.graph.edit.cut import CutSubject, prepare
from probe.graph.edit.fold import folded
from probe.graph.edit.prefix import SharedPass, mutates, variant
from probe.graph.trace.trace import no_side_effects, shared_copy
from probe.models.loaded import LoadedModel
from probe.train.loop.evaluation import reestimate_batch_norm


@dataclass(frozen=True)
class Answers:
    """The answers to n images: ``predictions`` (n,), -1 where the logits were not finite, and ``losses`` (n,)."""

    predictions: NDArray[np.int64]
    losses: NDArray[np.float64]

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Answers:
        """Return the answers of (n, classes) logits; losses are cross-entropies in nats, computed in float64."""
        check_answers(len(logits), len(labels))
        finite = logits.isfinite().all(1)
        predictions = logits.argmax(1).masked_fill(~finite, -1)
        losses = F.cross_entropy(logits.double(), labels, reduction="none")
        return cls(predictions.cpu().numpy(), losses.cpu().numpy())

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Answers:
        """Return the answers to all images of several batches."""
        return cls(
            np.concatenate([part.predictions for part in parts]),
            np.concatenate([part.losses for part in parts]),
        )

    @property
    def broken(self) -> int:
        """The number of images whose logits were not finite."""
        return int((self.predictions < 0).sum())


@dataclass(frozen=True)
class Comparison:
    """A cut network against the intact one, on the same n images.

    ``n_correct`` of n with its Wilson interval; ``lost`` and ``won``: images correct only with the structure, and only
    without; ``changed``: other predictions, whether correct or not; ``p``: exact McNemar test of lost against won;
    ``loss`` and ``loss_change`` (mean over images whose loss is finite in both, with its 95% t-interval).
    """

    n: int
    n_correct: int
    ci: tuple[float, float]
    lost: int
    won: int
    changed: int
    p: float
    loss: float
    loss_change: float
    loss_ci: tuple[float, float] | None

    @property
    def accuracy(self) -> float:
        """The part of the images that are right."""
        return self.n_correct / self.n

    @property
    def difference(self) -> float:
        """The change of accuracy against the intact network."""
        return (self.won - self.lost) / self.n


def compare(intact: Answers, cut: Answers, labels: NDArray[np.int64]) -> Comparison:
    """Compare two networks' answers; ``labels`` (n,) are the classes that count as right."""
    before, after = intact.predictions == labels, cut.predictions == labels
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    changes = cut.losses - intact.losses
    changes = changes[np.isfinite(changes)]
    finite = cut.losses[np.isfinite(cut.losses)]
    return Comparison(
        n=len(labels),
        n_correct=int(after.sum()),
        ci=stats.wilson(int(after.sum()), len(labels)),
        lost=lost,
        won=won,
        changed=int((intact.predictions != cut.predictions).sum()),
        p=stats.mcnemar_exact(lost, won),
        loss=float(finite.mean()) if len(finite) else float("nan"),
        loss_change=float(changes.mean()) if len(changes) else float("nan"),
        loss_ci=stats.t_interval(changes.tolist()) if len(changes) > 1 else None,
    )


KEPT = 1 << 30
"""Bound in bytes on the activations that are kept at once: larger batches are split."""

_CLOSE = 1e-4
"""Two largest logits that differ by less than this part of the largest one are computed again without folding."""


@dataclass(frozen=True)
class EvaluationBatch:
    """Images (N, C, H, W) in [0, 1] on the model's device and the classes that count as right, (N,)."""

    images: Tensor
    labels: Tensor


def subject_of(model: LoadedModel) -> CutSubject:
    """Return the network, without its normalisation, prepared for cutting on two inputs of normalised noise."""
    with torch.no_grad():
        example = model.module.normalise(model.example(2))
    return prepare(model.network, example)


class Evaluator:
    """A network and cut copies of it, ready to answer.

    Copies answer as if each had been run alone: logits computed with folded normalisation are computed again without
    folding wherever two classes are close.
    """

    def __init__(self, model: LoadedModel, subject: CutSubject, cuts: Sequence[nn.Module]) -> None:
        self.model = model
        self.plain = [subject.network, *cuts]
        graphs = [network for network in self.plain if isinstance(network, fx.GraphModule)]
        self.shared: SharedPass | None = None
        if len(graphs) == len(self.plain) and not subject.reason and not any(map(mutates, graphs)):
            known: dict[str, nn.Module] = {}
            fast = [_fast(graph, model.memory_format, known) for graph in graphs]
            self.shared = SharedPass(fast[0], [variant(fast[0], network) for network in fast[1:]])

    @property
    def at_once(self) -> int:
        """The number of images whose kept activations stay within ``KEPT`` bytes."""
        return 1 << 30 if self.shared is None else max(1, KEPT // max(1, self.shared.kept_bytes))

    def answer(self, batches: Iterable[EvaluationBatch], advance: Advance | None = None) -> list[Answers]:
        """Return the answers of the intact network, then of each copy."""
        answers: list[list[Answers]] = [[] for _ in self.plain]
        with torch.inference_mode(), exact_float32():
            for batch in batches:
                for images, labels in _parts(batch, self.at_once):
                    x = self.model.module.normalise(images)
                    for index, logits in self._logits(x):
                        answers[index].append(Answers.of(logits, labels))
                if advance is not None:
                    advance(len(batch.labels))
        return [Answers.join(parts) for parts in answers]

    def _logits(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        if self.shared is None:
            for index, network in enumerate(self.plain):
                with no_side_effects(network):
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


def recalibrate(network: nn.Module, batches: Sequence[Tensor]) -> nn.Module:
    """Return a copy whose batch normalisation has the statistics of the given (normalised) images as it is now."""
    copy = shared_copy(network)
    for sub in copy.modules():
        for name, buffer in sub._buffers.items():
            sub._buffers[name] = None if buffer is None else buffer.detach().clone()
    reestimate_batch_norm(copy, batches)
    return copy


def has_batch_norm(network: nn.Module) -> bool:
    """Tell whether a network has running statistics that can be estimated again."""
    kinds = nn.modules.batchnorm._BatchNorm
    return any(isinstance(sub, kinds) and sub.track_running_stats for sub in network.modules())


def answer_plain(model: LoadedModel, network: nn.Module, batches: Iterable[EvaluationBatch]) -> Answers:
    """Return the answers of one network that takes normalised images."""
    parts = []
    with training_mode(network, False), torch.inference_mode(), exact_float32():
        for batch in batches:
            parts.append(Answers.of(network(model.module.normalise(batch.images)), batch.labels))
    return Answers.join(parts)


def true_classes(batches: Sequence[EvaluationBatch]) -> NDArray[np.int64]:
    """Return the classes that count as right, (n,)."""
    return np.concatenate([batch.labels.cpu().numpy() for batch in batches])


def _parts(batch: EvaluationBatch, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(torch.split(batch.images, most), torch.split(batch.labels, most), strict=True)


Values = NDArray[np.float64]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% t-interval of the finite values' mean, None for fewer than two."""
    known = [value for value in values if np.isfinite(value)]
    return stats.t_interval(known) if len(known) > 1 else None


def proportion_interval(values: Sequence[float], n: int) -> tuple[float, float] | None:
    """Return the 95% interval of the mean of proportions over seeds, each of ``n`` images; None for fewer than two."""
    known = [value for value in values if np.isfinite(value)]
    return stats.mean_proportion(known, n) if len(known) > 1 else None


def bounded_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% t-interval of the mean of values in [0, 1], cut to that range; None for fewer than two."""
    bounds = interval(values)
    return None if bounds is None else (max(0.0, bounds[0]), min(1.0, bounds[1]))


def mean(values: Sequence[float]) -> float | None:
    """Return the mean of the finite values, None when there is none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def paired_points(
    first: Values, second: Values
) -> tuple[float | None, tuple[float, float] | None, float | None]:
    """Return ``paired_difference`` of proportions: its interval is cut to [-1, 1], beyond which there is no difference."""
    difference, ci, p = paired_difference(first, second)
    return difference, None if ci is None else (max(-1.0, ci[0]), min(1.0, ci[1])), p


def paired_difference(
    first: Values, second: Values
) -> tuple[float | None, tuple[float, float] | None, float | None]:
    """Return mean difference (first − second) over seeds, its t-interval, and the paired test's p."""
    both = np.isfinite(first) & np.isfinite(second)
    differences = (first - second)[both]
    if len(differences) < 2:
        return mean(differences.tolist()), None, None
    return (
        float(differences.mean()),
        stats.t_interval(differences.tolist()),
        stats.paired_t(first[both].tolist(), second[both].tolist()),
    )
