"""The sites of a network as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from probe.core.errors import NotApplicableError
from probe.graph.anatomy import count_macs
from probe.graph.cut import cut, find_sites
from probe.graph.structure import STRUCTURES, structure_named
from probe.models.loaded import LoadedModel
from studies.ablation.evaluate import subject_of


def structure_rows(
    model: LoadedModel, wanted: Sequence[str] | None
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return (structure, site, place, what, shape, parameters, MACs) of every site, and what could not be found.

    Without ``wanted`` all structures but single filters, of which there are thousands. Parameters and MACs are
    those that go when the site is cut.
    """
    subject = subject_of(model)
    whole = count_macs(subject.network, subject.example)
    total = sum(parameter.numel() for parameter in subject.network.parameters())
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for text in wanted or [name for name in STRUCTURES.names() if name != "filter"]:
        try:
            sites = find_sites(subject, structure_named(text))
        except NotApplicableError as error:
            notes.append(str(error))
            continue
        for site in sites:
            shape = "×".join(map(str, site.shape)) or "–"
            try:
                left = cut(subject, [site])
            except NotApplicableError as error:
                notes.append(str(error))
                costs = ("–", "–")
            else:
                parameters = sum(parameter.numel() for parameter in left.parameters())
                costs = (f"{total - parameters:,}", f"{whole - count_macs(left, subject.example):,}")
            rows.append((text, site.name, str(site.place), site.form, shape, *costs))
    return rows, notes
