"""Dropout as voting: one pass with scaled weights against the mean over sampled masks.

Hinton et al. 2012 and Srivastava et al. 2014 read a network trained with dropout as very many networks that share
weights, and its pass in eval mode (weight scaling) as an approximation of their mean; Gal and Ghahramani 2016 take the
mean itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, fx, nn

from probe.core import seeds
from probe.graph.ablatable import copied
from probe.graph.anatomy import count_macs
from probe.graph.edits import node_named, put_module
from probe.graph.shell import isolated, shell
from probe.graph.structures.dropout import Dropout
from studies.ablation.tail import Tail
from studies.ablation.votes import PASSES, Tally, Votes

_BYTES = 1 << 25
"""Bound on the probabilities of all passes that are in memory at once: larger batches are split."""

_AFFORDABLE = 1e12
"""Multiply-accumulates that sampled passes may cost; more images are thinned out evenly."""

_LEAST = 50
"""Images that are looked at whatever it costs."""


class Sampler:
    """A copy of a network in eval mode whose dropout, and nothing else, draws masks as in training.

    ``network`` takes normalised images; it is not changed. In a graph what comes before the first dropout is
    computed once for all passes; ``shared=False`` computes everything every time, to the same numbers.
    """

    def __init__(self, network: nn.Module, shared: bool = True) -> None:
        self.tail: Tail | None = None
        if not isinstance(network, fx.GraphModule):
            self.network = shell(network)
            drawing = [sub for sub in self.network.modules() if Dropout().replacement(sub) is not None]
            self.sites = len(drawing)
            for sub in drawing:
                sub.train()
            return
        self.network = graph = copied(network)
        nodes = [node_named(graph, site) for site in Dropout().find(graph)]
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
        with isolated(self.network), seeds.scoped(seed, *keys):
            if self.tail is None:
                return torch.stack([self.network(images.clone()) for _ in range(count)])
            values = self.tail.head(images)
            return torch.stack([self.tail.finish(values) for _ in range(count)])

    def affordable(self, image: Tensor) -> int:
        """Return how many images can be passed ``PASSES`` times within bounds; ``image`` is one of them."""
        each = count_macs(self.network, image) if self.tail is None else self.tail.macs(image)
        return max(_LEAST, int(_AFFORDABLE / (PASSES * max(1, each))))


def vote(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], seed: int, shared: bool = True
) -> Votes | None:
    """Return the votes of a network on batches of normalised images and labels, None when it has no dropout.

    Where ``PASSES`` passes of all images would cost too much, fewer are looked at, evenly spread. One seed gives one
    result.
    """
    sampler = Sampler(network, shared)
    kept = list(batches)
    if not sampler.sites or not kept:
        return None
    tally = Tally(seed)
    with torch.no_grad(), isolated(network):
        for number, (images, labels) in enumerate(thinned(kept, sampler.affordable(kept[0][0][:1]))):
            scaled = network(images.clone())
            most = max(1, _BYTES // (8 * PASSES * scaled.shape[1]))
            for part, some in enumerate(torch.split(torch.arange(len(images)), most)):
                logits = sampler.passes(images[some], PASSES, seed, "masks", number, part)
                tally.add(labels[some], scaled[some], logits)
    return tally.votes()


def thinned(batches: Sequence[tuple[Tensor, Tensor]], most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield at most ``most`` of the images and labels, evenly spread."""
    total = sum(len(labels) for _, labels in batches)
    wanted = torch.linspace(0, total - 1, min(most, total), dtype=torch.float64).round().long()
    start = 0
    for images, labels in batches:
        inside = wanted[(wanted >= start) & (wanted < start + len(labels))] - start
        start += len(labels)
        if len(inside):
            yield images[inside], labels[inside]
