"""What else a cut changes: the confounds beside every difference."""

from __future__ import annotations

from probe.core.report import Cell, Column, Section, Table
from probe.graph.anatomy import Anatomy
from studies.ablation.lesion import Lesioned
from studies.ablation.retrain import Retrained, named

_COLUMNS = (
    Column("Network", help="The network as it is, or what was done to it."),
    Column("Sites cut", help="Places where something was taken away or exchanged."),
    Column("Parameters", help="Weights and biases, each counted once."),
    Column("of intact", proportion=True, help="Parameters as a part of the intact network's."),
    Column("MACs", help="Multiply-accumulates for one image."),
    Column("of intact", proportion=True, help="MACs as a part of the intact network's."),
    Column("Paths", help="Ways from the image to the logits; 2^L for L residual blocks in a chain."),
    Column("Depth", help="Layers with weights on the longest path."),
    Column("Receptive field", unit="pixels", help="Height × width that a unit of the last map sees."),
    Column("Widened", help="Factor on the channels by --match-parameters."),
)


def ledger_section(lesions: tuple[Lesioned, ...], made: Retrained | None) -> Section:
    """Return the confound ledger of all cuts and arms."""
    rows: list[tuple[Cell, ...]] = []
    if made is None:
        for one in lesions:
            rows += _lesion_rows(one)
        rows = list(dict.fromkeys(rows))
    else:
        for depth in made.depths:
            whole = made.anatomy((), depth)
            for variant in made.variants:
                arm = made.of(variant, depth)[0]
                name = named(variant, depth, len(made.depths) > 1)
                rows.append(_row(name, arm.removed, arm.anatomy, whole, arm.widening))
    table = Table(
        "Confounds",
        _COLUMNS,
        tuple(rows),
        "A difference in accuracy is that of the structure alone only where the other columns stay the same. A "
        "cut that "
        "also removes parameters or computation confounds structure with capacity; --match-parameters retrains the cut "
        "arm at the intact one's number of parameters.",
    )
    return Section("ledger", "What else changes", "", (table,))


def _lesion_rows(one: Lesioned) -> list[tuple[Cell, ...]]:
    if one.whole is None:
        return []
    rows = [_row("intact", 0, one.whole, one.whole, 1.0)]
    if one.without is not None:
        rows.append(_row(f"without {one.structure.word}", len(one.sites), one.without, one.whole, 1.0))
    return rows


def _row(name: str, sites: int, own: Anatomy, whole: Anatomy, widening: float) -> tuple[Cell, ...]:
    return (
        name,
        sites,
        own.parameters,
        own.parameters / whole.parameters if whole.parameters else None,
        own.macs,
        own.macs / whole.macs if whole.macs else None,
        _paths(own.paths),
        own.depth,
        None if own.field is None else "×".join(map(str, own.field)),
        widening if widening != 1.0 else None,
    )


def _paths(count: int | None) -> Cell:
    """Write a number of paths; those beyond what a table can hold as a power of two."""
    if count is None or count < 10**12:
        return count
    return f"about 2^{count.bit_length() - 1}"
