"""What dropout does inside: as voting, and against co-adaptation; sections of the report."""

from __future__ import annotations

from probe.core.document import Section
from probe.graph.edit.structure import structure_named
from studies.ablation.dropout.coadaptation_report import TITLE, coadaptation_section
from studies.ablation.dropout.mc_dropout_report import loaded_voting_section, trained_voting_section
from studies.ablation.lesion import EvaluationSet
from studies.ablation.retrain import Retrained, Variant


def loaded_dropout_sections(bench: EvaluationSet, labelled: bool, seed: int) -> list[Section]:
    """Return what can be said of the network as it is: its votes, and why its units are not compared."""
    sections = [loaded_voting_section(bench, labelled, seed)]
    if bench.subject.reason:
        reason = f"Units are found in a graph, and {bench.model.name} cannot be written as one: {bench.subject.reason}"
        sections.append(Section("coadaptation", TITLE, reason=reason))
    return sections


def dropout_sections(made: Retrained) -> list[Section]:
    """Return what arms with and without dropout say; empty when dropout is not among what was removed."""
    plain = next((variant for variant in made.variants if _is_dropout(variant)), None)
    if plain is None or not made.setting.dropout:
        return []
    voting = trained_voting_section(made, plain)
    return [*([voting] if voting is not None else []), coadaptation_section(made, plain)]


def _is_dropout(variant: Variant) -> bool:
    return len(variant) == 1 and structure_named(variant[0]).name == "dropout"
