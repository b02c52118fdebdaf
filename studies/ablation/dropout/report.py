"""Sections of the report on dropout: MC dropout and co-adaptation."""

from __future__ import annotations

from probe.core.document import Section
from probe.graph.edit.structure import get_structure
from studies.ablation.dropout.coadaptation_report import TITLE, coadaptation_section
from studies.ablation.dropout.mc_dropout_report import loaded_voting_section, trained_voting_section
from studies.ablation.lesion import EvaluationSet
from studies.ablation.retrain import RetrainResult, Variant


def loaded_dropout_sections(bench: EvaluationSet, labelled: bool, seed: int) -> list[Section]:
    """Return the sections of the loaded network: MC dropout, and why its units are not compared."""
    sections = [loaded_voting_section(bench, labelled, seed)]
    if bench.subject.reason:
        reason = f"Units are found in a graph, and {bench.model.name} cannot be written as one: {bench.subject.reason}"
        sections.append(Section("coadaptation", TITLE, reason=reason))
    return sections


def dropout_sections(retrained: RetrainResult) -> list[Section]:
    """Return the sections that compare arms with and without dropout; empty when dropout was not removed."""
    plain = next((variant for variant in retrained.variants if _is_dropout(variant)), None)
    if plain is None or not retrained.setting.dropout:
        return []
    voting = trained_voting_section(retrained, plain)
    return [*([voting] if voting is not None else []), coadaptation_section(retrained, plain)]


def _is_dropout(variant: Variant) -> bool:
    return len(variant) == 1 and get_structure(variant[0]).name == "dropout"
