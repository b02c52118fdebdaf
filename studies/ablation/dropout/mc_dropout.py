"""MC dropout: one pass with scaled weights against the mean over sampled masks.

Hinton et al. 2012 and Srivastava et al. 2014 read a network trained with dropout as very many networks that share
weights, and its pass in eval mode (weight scaling) as an approximation of their mean; Gal and Ghahramani 2016 compute
the mean itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F

from probe.core import seeds
from probe.graph.cost.summary import count_macs
from probe.graph.edit.edits import get_node, put_module
from probe.graph.structures.dropout import Dropout
from probe.graph.trace.ablatable import copied
from probe.graph.trace.trace import no_side_effects, shared_copy
from studies.ablation.dropout.tail import Tail

COUNTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
"""Numbers of masks whose probabilities are averaged."""

PASSES = 2 * COUNTS[-1]
"""Sampled passes of every image: twice the largest number, so that there are two independent draws of it."""

_ORDERS = 8
"""Random orders in which the passes are grouped."""

_SUBSETS = 100
"""Choices of k networks that an ensemble's curve is the mean of, at most."""


@dataclass(frozen=True)
class McDropoutVotes:
    """Accuracy and loss of the mean over sampled masks on n images.

    For each of ``counts`` (k,): ``accuracy`` and ``loss`` (mean negative log-likelihood, nats) of the mean over so
    many masks, averaged over draws, and ``accuracy_sd``, ``loss_sd``: the standard deviation from one independent
    draw to another. By image (n,): ``scaled_*`` of weight scaling, ``voted_*`` of one draw of the most masks.
    """

    counts: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    accuracy_sd: NDArray[np.float64]
    loss: NDArray[np.float64]
    loss_sd: NDArray[np.float64]
    scaled_right: NDArray[np.bool_]
    scaled_loss: NDArray[np.float64]
    voted_right: NDArray[np.bool_]
    voted_loss: NDArray[np.float64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> McDropoutVotes:
        """Return the object that ``arrays`` wrote; other names are ignored."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


class Tally:
    """Count votes batch by batch.

    The same ``passes`` serve every number of masks. All passes are independent draws from one distribution, so that
    any T of them, chosen without regard to their outputs, are a fair draw of T masks. An order of the passes is cut
    into as many blocks of T as there are; blocks of one order share no pass and are independent of one another, which
    makes the variance between them an unbiased estimate of that between draws. Several orders only steady both.
    """

    def __init__(
        self, seed: int, passes: int = PASSES, counts: Sequence[int] = COUNTS, orders: int = _ORDERS
    ) -> None:
        if not counts or 2 * max(counts) > passes:
            raise ValueError(f"{passes} passes give no two draws of {max(counts, default=0)}")
        draw = seeds.generator(seed, "orders of passes")
        self.counts = tuple(counts)
        self.orders = [torch.randperm(passes, generator=draw) for _ in range(orders)]
        shapes = {count: (orders, passes // count) for count in counts}
        self.n_correct = {count: torch.zeros(shape, dtype=torch.float64) for count, shape in shapes.items()}
        self.loss = {count: torch.zeros(shape, dtype=torch.float64) for count, shape in shapes.items()}
        self.images: list[tuple[Tensor, ...]] = []

    def add(self, labels: Tensor, scaled: Tensor, sampled: Tensor) -> None:
        """Count (N,) labels, (N, classes) logits of weight scaling and (passes, N, classes) of the sampled passes."""
        labels, log_p = labels.cpu(), sampled.cpu().double().log_softmax(-1)
        own = log_p.gather(-1, labels.expand(len(log_p), -1).unsqueeze(-1)).squeeze(-1)
        p = log_p.exp()
        for count in self.counts:
            for index, order in enumerate(self.orders):
                blocks = order[: len(order) // count * count].view(-1, count)
                correct, loss = _vote(p, own, blocks, labels)
                self.n_correct[count][index] += correct.sum(-1)
                self.loss[count][index] += loss.sum(-1)
        logits = scaled.cpu().double()
        hit = (logits.argmax(1) == labels) & logits.isfinite().all(1)
        correct, loss = _vote(p, own, torch.arange(max(self.counts)).view(1, -1), labels)
        self.images.append((hit, F.cross_entropy(logits, labels, reduction="none"), correct[0], loss[0]))

    def votes(self) -> McDropoutVotes:
        """Return the votes counted so far."""
        hit, loss, correct, voted = (torch.cat(parts).numpy() for parts in zip(*self.images, strict=True))
        n = len(hit)
        means = {
            name: np.array([[_middle(of[count]) / n, _spread(of[count]) / n] for count in self.counts])
            for name, of in (("n_correct", self.n_correct), ("loss", self.loss))
        }
        return McDropoutVotes(
            np.array(self.counts),
            *(means["n_correct"][:, 0], means["n_correct"][:, 1], means["loss"][:, 0], means["loss"][:, 1]),
            *(hit, loss, correct, voted),
        )


def ensemble(
    probabilities: Sequence[NDArray[np.float64]], labels: NDArray[np.int64]
) -> list[list[tuple[NDArray[np.bool_], NDArray[np.float64]]]]:
    """Return which predictions of the mean over k networks are correct (n,), and its losses (n,), by k and choice.

    ``probabilities`` are (n, classes) of each network. All choices are tried where they are at most 100, else
    the runs of k along the circle of networks, in which each has the same part.
    """
    count, by_size = len(probabilities), []
    for k in range(1, count + 1):
        chosen: list[tuple[int, ...]] = [tuple((i + j) % count for j in range(k)) for i in range(count)]
        if math.comb(count, k) <= _SUBSETS:
            chosen = list(combinations(range(count), k))
        by_size.append([_joint([probabilities[i] for i in choice], labels) for choice in chosen])
    return by_size


def _joint(
    parts: Sequence[NDArray[np.float64]], labels: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    mean = np.mean(parts, axis=0)
    with np.errstate(divide="ignore"):
        loss = -np.log(mean[np.arange(len(labels)), labels])
    return mean.argmax(1) == labels, loss


def _vote(p: Tensor, own: Tensor, blocks: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (blocks, N) which predictions of the mean over each block of passes are correct, and its losses.

    ``own`` (passes, N) are log-probabilities of the true class: their mean is taken without leaving the logarithm.
    """
    mean = p[blocks.flatten()].view(*blocks.shape, *p.shape[1:]).mean(1)
    correct = (mean.argmax(-1) == labels) & mean.isfinite().all(-1)
    return correct, math.log(blocks.shape[1]) - own[blocks].logsumexp(1)


def _middle(of: Tensor) -> float:
    return float(of.mean())


def _spread(of: Tensor) -> float:
    return float(of.var(1).mean().sqrt())


_BYTES = 1 << 25
"""Bound on the probabilities of all passes that are in memory at once: larger batches are split."""

_AFFORDABLE = 1e12
"""Multiply-accumulates that sampled passes may cost; more images are thinned out evenly."""

_LEAST = 50
"""Images that are evaluated at any cost."""


class Sampler:
    """A copy of a network in eval mode whose dropout, and nothing else, draws masks as in training.

    ``network`` takes normalised images; it is not changed. In a graph what comes before the first dropout is
    computed once for all passes; ``shared=False`` computes everything every time, to the same numbers.
    """

    def __init__(self, network: nn.Module, shared: bool = True) -> None:
        self.tail: Tail | None = None
        if not isinstance(network, fx.GraphModule):
            self.network = shared_copy(network)
            drawing = [sub for sub in self.network.modules() if Dropout().replacement(sub) is not None]
            self.sites = len(drawing)
            for sub in drawing:
                sub.train()
            return
        self.network = graph = copied(network)
        nodes = [get_node(graph, site) for site in Dropout().find(graph)]
        self.sites = len(nodes)
        for node in nodes:
            # A module of its own, so that the network's stays in eval mode; in place it would change what the next
            # pass reads.
            module = copy.deepcopy(graph.get_submodule(str(node.target)))
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]
            put_module(graph, node, module, "sampled")
            module.train()
        graph.graph.lint()
        graph.recompile()
        self.tail = Tail(graph, nodes) if shared else None

    def passes(self, images: Tensor, count: int, seed: int, *keys: str | int) -> Tensor:
        """Return logits (count, N, classes) of ``count`` passes; every image has masks of its own in each.

        The draws are those of ``seed`` and ``keys``; the global generators are left alone.
        """
        with no_side_effects(self.network), seeds.scoped(seed, *keys):
            if self.tail is None:
                return torch.stack([self.network(images.clone()) for _ in range(count)])
            values = self.tail.head(images)
            return torch.stack([self.tail.finish(values) for _ in range(count)])

    def affordable(self, image: Tensor) -> int:
        """Return how many images can be passed ``PASSES`` times within bounds; ``image`` is one of them."""
        cost = count_macs(self.network, image) if self.tail is None else self.tail.macs(image)
        return max(_LEAST, int(_AFFORDABLE / (PASSES * max(1, cost))))


def mc_dropout(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], seed: int, shared: bool = True
) -> McDropoutVotes | None:
    """Return the votes of a network on batches of normalised images and labels, None when it has no dropout.

    Where ``PASSES`` passes of all images would cost too much, fewer are evaluated, evenly spread. The same seed gives
    the same result.
    """
    sampler = Sampler(network, shared)
    all_batches = list(batches)
    if not sampler.sites or not all_batches:
        return None
    tally = Tally(seed)
    with torch.no_grad(), no_side_effects(network):
        for number, (images, labels) in enumerate(
            thin_out(all_batches, sampler.affordable(all_batches[0][0][:1]))
        ):
            scaled = network(images.clone())
            most = max(1, _BYTES // (8 * PASSES * scaled.shape[1]))
            for part, some in enumerate(torch.split(torch.arange(len(images)), most)):
                logits = sampler.passes(images[some], PASSES, seed, "masks", number, part)
                tally.add(labels[some], scaled[some], logits)
    return tally.votes()


def thin_out(batches: Sequence[tuple[Tensor, Tensor]], most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield at most ``most`` of the images and labels, evenly spread."""
    total = sum(len(labels) for _, labels in batches)
    positions = torch.linspace(0, total - 1, min(most, total), dtype=torch.float64).round().long()
    start = 0
    for images, labels in batches:
        inside = positions[(positions >= start) & (positions < start + len(labels))] - start
        start += len(labels)
        if len(inside):
            yield images[inside], labels[inside]
