"""Votes of sampled passes, and of networks: the mean of their probabilities, for every number of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from probe.core import seeds

COUNTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
"""Numbers of masks whose votes are averaged."""

PASSES = 2 * COUNTS[-1]
"""Sampled passes of every image: twice the largest number, so that there are two independent draws of it."""

_ORDERS = 8
"""Random orders in which the passes are grouped."""

_SUBSETS = 100
"""Choices of k networks that an ensemble's curve is the mean of, at most."""


@dataclass(frozen=True)
class Votes:
    """What votes of sampled masks come to on n images.

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
        """Return all of it by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Votes:
        """Return what ``arrays`` wrote; other names are left out."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


class Tally:
    """Count votes batch by batch.

    The same ``passes`` serve every number of masks. All passes are independent draws from one distribution, so that
    any T of them, chosen without a look at their answers, are a fair draw of T masks. An order of the passes is cut
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
        self.right = {count: torch.zeros(shape, dtype=torch.float64) for count, shape in shapes.items()}
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
                right, loss = _vote(p, own, blocks, labels)
                self.right[count][index] += right.sum(-1)
                self.loss[count][index] += loss.sum(-1)
        logits = scaled.cpu().double()
        hit = (logits.argmax(1) == labels) & logits.isfinite().all(1)
        right, loss = _vote(p, own, torch.arange(max(self.counts)).view(1, -1), labels)
        self.images.append((hit, F.cross_entropy(logits, labels, reduction="none"), right[0], loss[0]))

    def votes(self) -> Votes:
        """Return what has been counted so far."""
        hit, loss, right, voted = (torch.cat(parts).numpy() for parts in zip(*self.images, strict=True))
        n = len(hit)
        found = {
            name: np.array([[_middle(of[count]) / n, _spread(of[count]) / n] for count in self.counts])
            for name, of in (("right", self.right), ("loss", self.loss))
        }
        return Votes(
            np.array(self.counts),
            *(found["right"][:, 0], found["right"][:, 1], found["loss"][:, 0], found["loss"][:, 1]),
            *(hit, loss, right, voted),
        )


def ensemble(
    probabilities: Sequence[NDArray[np.float64]], labels: NDArray[np.int64]
) -> list[list[tuple[NDArray[np.bool_], NDArray[np.float64]]]]:
    """Return who is right (n,) and the losses (n,) of the mean over k networks: for each k, by choice of networks.

    ``probabilities`` are (n, classes) of each network. All choices are tried where they are at most 100, else
    the runs of k along the circle of networks, in which each has the same part.
    """
    count, found = len(probabilities), []
    for k in range(1, count + 1):
        chosen: list[tuple[int, ...]] = [tuple((i + j) % count for j in range(k)) for i in range(count)]
        if math.comb(count, k) <= _SUBSETS:
            chosen = list(combinations(range(count), k))
        found.append([_joint([probabilities[i] for i in one], labels) for one in chosen])
    return found


def _joint(
    parts: Sequence[NDArray[np.float64]], labels: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    mean = np.mean(parts, axis=0)
    with np.errstate(divide="ignore"):
        loss = -np.log(mean[np.arange(len(labels)), labels])
    return mean.argmax(1) == labels, loss


def _vote(p: Tensor, own: Tensor, blocks: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (blocks, N) who is right and the losses of the mean over each block of passes.

    ``own`` (passes, N) are log-probabilities of the true class: their mean is taken without leaving the logarithm.
    """
    mean = p[blocks.flatten()].view(*blocks.shape, *p.shape[1:]).mean(1)
    right = (mean.argmax(-1) == labels) & mean.isfinite().all(-1)
    return right, math.log(blocks.shape[1]) - own[blocks].logsumexp(1)


def _middle(of: Tensor) -> float:
    return float(of.mean())


def _spread(of: Tensor) -> float:
    return float(of.var(1).mean().sqrt())
