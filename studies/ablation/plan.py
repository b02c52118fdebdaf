"""The plan of the lesions: each site alone, all, random choices of k, and the first or last k in depth order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from probe.core.errors import NotApplicableError
from probe.core.seeds import generator
from probe.graph.cost.summary import count_macs
from probe.graph.edit.cut import cut, find_sites
from probe.graph.edit.structure import STRUCTURES, get_structure
from probe.models.loaded import LoadedModel
from studies.ablation.evaluate import subject_of

SIZES = 12
"""Numbers of cut sites that are tried: all of them up to this many, else this many spread evenly."""


@dataclass(frozen=True)
class LesionPlan:
    """Sets of sites, by their numbers: ``single`` each alone, then the lesions of several.

    ``random[k]`` are the draws of k sites; ``forward[k]`` the first k in depth order, ``backward[k]`` the last k.
    """

    single: tuple[int, ...]
    everything: frozenset[int]
    random: dict[int, tuple[frozenset[int], ...]]
    forward: dict[int, frozenset[int]]
    backward: dict[int, frozenset[int]]

    def sets(self) -> list[frozenset[int]]:
        """Return every set that is to be cut, each once, singles first."""
        subsets = [frozenset({site}) for site in self.single]
        subsets += [subset for draws in self.random.values() for subset in draws]
        subsets += [*self.forward.values(), *self.backward.values(), self.everything]
        return list(dict.fromkeys(subset for subset in subsets if subset))


def make_plan(count: int, most: int, draws: int, seed: int, most_sizes: int = SIZES) -> LesionPlan:
    """Plan the lesions of ``count`` sites; ``most`` of them, spread evenly, are cut alone.

    Several are cut together for up to ``most_sizes`` numbers of sites.

    The draws for k sites are ``draws`` different sets where there are as many, drawn by ``seed``.
    """
    single = evenly_spaced(count, most)
    sizes = [index + 1 for index in evenly_spaced(count, most_sizes)] if count else []
    draw = generator(seed, "random lesions")
    chosen = {k: _draws(count, k, draws, draw) for k in sizes}
    return LesionPlan(
        single=single,
        everything=frozenset(range(count)),
        random=chosen,
        forward={k: frozenset(range(k)) for k in sizes},
        backward={k: frozenset(range(count - k, count)) for k in sizes},
    )


def evenly_spaced(count: int, most: int) -> tuple[int, ...]:
    """Return up to ``most`` of the numbers below ``count``, at even distances, first and last among them."""
    if count <= most:
        return tuple(range(count))
    if most == 1:
        return (count - 1,)
    return tuple(round(i * (count - 1) / (most - 1)) for i in range(most))


def _draws(count: int, k: int, draws: int, draw: torch.Generator) -> tuple[frozenset[int], ...]:
    if k == count:
        return (frozenset(range(count)),)
    subsets: dict[frozenset[int], None] = {}
    for _ in range(20 * draws):
        subsets[frozenset(torch.randperm(count, generator=draw)[:k].tolist())] = None
        if len(subsets) == draws:
            break
    return tuple(subsets)


def names(sites: Sequence[str], most: int = 3) -> str:
    """Write a few names and how many more there are."""
    more = f" and {len(sites) - most} more" if len(sites) > most else ""
    return ", ".join(sites[:most]) + more


def structure_rows(
    model: LoadedModel, structures: Sequence[str] | None
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return (structure, site, place, form, shape, parameters, MACs) of every site, and notes on failures.

    Without ``structures`` all structures but single filters, of which there are thousands. Parameters and MACs are those
    that are removed with the site.
    """
    subject = subject_of(model)
    total_macs = count_macs(subject.network, subject.example)
    total = sum(parameter.numel() for parameter in subject.network.parameters())
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for text in structures or [name for name in STRUCTURES.names() if name != "filter"]:
        try:
            sites = find_sites(subject, get_structure(text))
        except NotApplicableError as error:
            notes.append(str(error))
            continue
        for site in sites:
            shape = "×".join(map(str, site.shape)) or "–"
            try:
                without_site = cut(subject, [site])
            except NotApplicableError as error:
                notes.append(str(error))
                costs = ("–", "–")
            else:
                parameters = sum(parameter.numel() for parameter in without_site.parameters())
                costs = (
                    f"{total - parameters:,}",
                    f"{total_macs - count_macs(without_site, subject.example):,}",
                )
            rows.append((text, site.name, str(site.place), site.form, shape, *costs))
    return rows, notes
