"""Report sections on parameters, computation and memory, on receptive fields, and the table of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from probe.core.blocks import Axis, Cell, Column, Figure, Note, Series, Table
from probe.core.document import Section
from probe.graph.cost.operations import OperationRow
from probe.tools.anatomy.examine import Examined
from probe.tools.anatomy.rows import ABOUT_UNITS, along, kind, memory, row_name, unlisted, windows

_FEWEST, _MOST = 3, 16
_LARGE = 0.5
"""A part with a larger share of the layers than this is split into its own parts."""


@dataclass(frozen=True)
class Stage:
    """A named group of rows."""

    name: str
    rows: tuple[OperationRow, ...]

    @property
    def layers(self) -> int:
        """The number of layers."""
        return sum(row.is_layer for row in self.rows)

    @property
    def parameters(self) -> int:
        """The number of parameters, without those that an earlier row has counted."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def activations(self) -> int:
        """The size of the outputs in bytes."""
        return sum(row.activations for row in self.rows)


def stages(rows: Sequence[OperationRow]) -> tuple[Stage, ...]:
    """Return the parts of the network by the names of its modules, or by resolution if these are too few or many."""
    opened: set[str] = set()
    while True:
        groups = _by_name(rows, opened)
        total = sum(stage.layers for stage in groups)
        large = [
            stage.name
            for stage in groups
            if stage.layers > _LARGE * total and stage.name not in opened and _has_parts(stage)
        ]
        if not large:
            break
        opened.update(large)
    return groups if _FEWEST <= len(groups) <= _MOST else by_resolution(rows)


def by_resolution(rows: Sequence[OperationRow]) -> tuple[Stage, ...]:
    """Group the rows by the resolution of their output maps; everything after the last map is the head.

    Rows without a map of their own, such as those of a gate, belong to the map before them.
    """
    maps = [_resolution(row) for row in rows]
    last = max((place for place, name in enumerate(maps) if name), default=-1)
    current = next((name for name in maps if name), "head")
    groups: dict[str, list[OperationRow]] = {}
    for place, row in enumerate(rows):
        current = maps[place] or ("head" if place > last else current)
        groups.setdefault(current, []).append(row)
    return tuple(Stage(name, tuple(group)) for name, group in groups.items())


def _resolution(row: OperationRow) -> str:
    is_map = len(row.output) == 3 and max(row.output[1:]) > 1
    return f"{row.output[1]}×{row.output[2]}" if is_map else ""


def _by_name(rows: Sequence[OperationRow], opened: set[str]) -> tuple[Stage, ...]:
    groups: list[tuple[str, list[OperationRow]]] = []
    for row in rows:
        name = _part(row.name, opened)
        if groups and (name == groups[-1][0] or not row.name):
            groups[-1][1].append(row)
        else:
            groups.append((name or "(no module)", [row]))
    # A group without layers, such as a norm or an activation with its own name, joins the group before it.
    merged: list[tuple[str, list[OperationRow]]] = []
    for name, group in groups:
        if merged and not any(row.is_layer for row in group):
            merged[-1][1].extend(group)
        else:
            merged.append((name, group))
    return tuple(Stage(name, tuple(group)) for name, group in merged)


def _part(name: str, opened: set[str]) -> str:
    parts = name.split(".")
    for count in range(1, len(parts)):
        if ".".join(parts[:count]) not in opened:
            return ".".join(parts[:count])
    return name


def _has_parts(stage: Stage) -> bool:
    return any(row.name.startswith(stage.name + ".") for row in stage.rows)


_KINDS = {
    "elementwise": "activations, additions, products",
    "join": "concatenations",
    "other": "all other operations",
}


def cost_section(network: Examined) -> Section:
    """Return the cost of each kind of layer, each stage and each layer."""
    blocks = (
        _kinds_table(network),
        _stage_figure(network),
        _layer_figure(network),
        _cumulative_figure(network),
    )
    return Section("cost", "Distribution of the cost", ABOUT_UNITS, blocks)


def field_section(network: Examined) -> Section:
    """Return the growth of the receptive field along the layers."""
    rows = [(place, row) for place, row in enumerate(network.operations.layers, 1) if row.reach is not None]
    if not rows:
        return Section(
            "field", "Receptive field", reason="No layer has an output map with a known receptive field."
        )
    places = tuple(float(place) for place, _ in rows)
    height, width = (tuple(float(row.reach.size[i]) for _, row in rows if row.reach) for i in (0, 1))
    series = [Series("receptive field" if height == width else "height", places, height)]
    if height != width:
        series.append(Series("width", places, width))
    # A line for the image height: a larger field includes padding.
    series.append(Series("image height", (places[0], places[-1]), (float(network.operations.image[0]),) * 2))
    figure = Figure(
        "Receptive field along the layers",
        "line",
        Axis("layer (its number in the table)"),
        Axis("pixels"),
        "The side of the largest receptive field in each layer, including padding. Above the line of the image height, the "
        "field of a unit in the middle covers the whole height. A dip is a layer on a shorter path, such as a projection.",
        tuple(series),
    )
    summary = (
        "Size, jump and start are computed from the windows of all operations, across branches: size is the extent of the "
        "receptive field, jump the distance between neighbouring units, start the centre of the first field."
    )
    notes = dict.fromkeys(row.reach.note for _, row in rows[-1:] if row.reach and row.reach.note)
    return Section("field", "Receptive field", summary, (figure, *(Note(text) for text in notes)))


def layers_section(network: Examined) -> Section:
    """Return the table of layers, with notes on what it does not contain."""
    notes = [unlisted(network)]
    if any(row.shared for row in network.operations.rows):
        notes.append(
            "A layer that is called several times has one row per call; its parameters are counted in the first."
        )
    if network.operations.unused:
        notes.append(
            f"{network.operations.unused:,} parameters belong to layers that this forward pass in eval mode does not use."
        )
    how_to_read = (
        "In execution order. Output is C × H × W, with H = floor((H_in − k' + 2p) / s) + 1 and k' = d (k − 1) + 1. A "
        "convolution has k·k·C_in·C_out / groups parameters without the bias, and as many MACs at each output position. "
        + _constants(network)
    )
    table = Table("All layers", *_table(network, network.operations.layers), how_to_read.strip())
    return Section("layers", "Layers", "", (table, *(Note(text) for text in notes if text)))


def _constants(network: Examined) -> str:
    shown = windows(network.operations.layers)
    gone = [name for name in ("dilation", "groups") if name not in shown]
    verb = "is" if gone == ["dilation"] else "are"
    return f"{' and '.join(gone).capitalize()} {verb} 1 everywhere." if gone else ""


def _table(
    network: Examined, rows: tuple[OperationRow, ...]
) -> tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]:
    total = max(network.operations.macs, 1)
    columns: list[tuple[Column, Callable[[int, OperationRow], Cell]]] = [
        (Column("Layer", help="The layer's name in the network."), lambda _, row: row_name(row)),
        (Column("Number", help="The position in execution order."), lambda place, _: place + 1),
        (Column("Kind", help="The kind of operation."), lambda _, row: kind(row)),
    ]
    for name, texts in windows(rows).items():
        columns.append(
            (
                Column(name.capitalize(), help="Of the sliding window, height × width."),
                partial(_text_at, texts),
            )
        )
    columns += [
        (
            Column("Output", help="Channels × height × width of the result."),
            lambda _, row: "×".join(map(str, row.output)),
        ),
        (
            Column("Parameters", help="Weights and biases, each counted once."),
            lambda _, row: row.parameters or (None if not row.shared else "shared"),
        ),
        (
            Column("MACs", help="Multiply-accumulates for one image; FLOPs are twice as many."),
            lambda _, row: row.macs or None,
        ),
        (
            Column("share", help="Share of the network's MACs.", proportion=True),
            lambda _, row: row.macs / total or None,
        ),
        (
            Column("Activations", "KiB", "Memory of the output in float32; for LRN, of all its steps."),
            lambda _, row: row.activations / 1024,
        ),
        (
            Column("Field", "px", "Receptive field."),
            lambda _, row: along(row.reach.size) if row.reach else None,
        ),
        (Column("Jump", "px", "Between neighbouring units."), _jump),
        (Column("Start", "px", "Centre of the first field."), _start),
    ]
    cells = tuple(tuple(value(place, row) for _, value in columns) for place, row in enumerate(rows))
    return tuple(column for column, _ in columns), cells


def _text_at(texts: Sequence[str], place: int, _: OperationRow) -> Cell:
    return texts[place] or None


def _jump(_: int, row: OperationRow) -> Cell:
    return along(row.reach.jump) if row.reach is not None and row.reach.jump is not None else None


def _start(_: int, row: OperationRow) -> Cell:
    return along(row.reach.start) if row.reach is not None else None


def _kinds_table(network: Examined) -> Table:
    census = network.operations
    kinds = sorted({row.kind for row in census.rows}, key=lambda name: -_sum(census.rows, name, "macs"))
    columns = (
        Column("Kind", help="The kind of operation."),
        Column("Calls", help="Number of calls for one image."),
        Column("Parameters", help="Weights and biases, each counted once."),
        Column("share", proportion=True, help="Share of the whole network."),
        Column("MACs", help="Multiply-accumulates for one image; FLOPs are twice as many."),
        Column("share", proportion=True, help="Share of the whole network."),
        Column("Activations", "MiB", "In float32, for one image."),
        Column("share", proportion=True, help="Share of the whole network."),
    )
    rows: list[tuple[Cell, ...]] = []
    for name in kinds:
        parameters, macs, stored = (
            _sum(census.rows, name, quantity) for quantity in ("parameters", "macs", "activations")
        )
        calls = sum(row.kind == name for row in census.rows)
        rows.append(
            (
                *(
                    _KINDS.get(name, name),
                    calls,
                    parameters or None,
                    parameters / max(census.parameters, 1) or None,
                ),
                *(macs or None, macs / max(census.macs, 1) or None),
                *(stored / 2**20 or None, stored / max(census.activations, 1) or None),
            )
        )
    return Table(
        "By kind",
        columns,
        tuple(rows),
        "MACs are those of convolutions and matrix products; norms, activations and poolings are not counted, as is "
        "usual. Activations are all computed values, which training keeps; a pass without gradients needs at "
        f"most {memory(census.peak)} at once, including the image.",
    )


def _sum(rows: Iterable[OperationRow], kind_: str, quantity: str) -> int:
    return sum(getattr(row, quantity) for row in rows if row.kind == kind_)


def _stage_figure(network: Examined) -> Figure:
    census, parts = network.operations, stages(network.operations.rows)
    totals = {"MACs": census.macs, "parameters": census.parameters, "activations": census.activations}
    places = tuple(float(place) for place in range(len(parts)))
    return Figure(
        "By stage",
        "bar",
        Axis("stage", categories=tuple(stage.name for stage in parts)),
        Axis("percent of the network"),
        "The parts of the network in execution order.",
        tuple(
            Series(name, places, tuple(100 * _of(stage, name) / max(total, 1) for stage in parts))
            for name, total in totals.items()
        ),
    )


def _of(stage: Stage, quantity: str) -> int:
    return {"MACs": stage.macs, "parameters": stage.parameters, "activations": stage.activations}[quantity]


def _layer_figure(network: Examined) -> Figure:
    rows = network.operations.layers
    return Figure(
        "By layer",
        "bar",
        Axis("layer (its number in the table)"),
        Axis("percent of the MACs"),
        "The share of each layer in the multiply-accumulates.",
        (
            Series(
                "MACs",
                tuple(float(place) for place in range(1, len(rows) + 1)),
                tuple(100 * row.macs / max(network.operations.macs, 1) for row in rows),
            ),
        ),
    )


def _cumulative_figure(network: Examined) -> Figure:
    rows, census = network.operations.rows, network.operations
    ends = [place for place, row in enumerate(rows) if row.is_layer]
    places = tuple(float(number) for number in range(1, len(ends) + 1))
    series = []
    for name, total in (
        ("macs", census.macs),
        ("parameters", census.parameters),
        ("activations", census.activations),
    ):
        sums = list(accumulate(getattr(row, name) for row in rows))
        # A norm is counted with the layer before it.
        upto = [sums[end - 1] for end in ends[1:]] + sums[-1:]
        series.append(
            Series(
                "MACs" if name == "macs" else name,
                places,
                tuple(100 * value / max(total, 1) for value in upto),
            )
        )
    return Figure(
        "Up to each layer",
        "line",
        Axis("layer (its number in the table)"),
        Axis("percent of the network"),
        "The cumulative cost up to and including each layer and the operations between it and the next. Early layers "
        "usually have large maps and few channels, late ones small maps and many channels.",
        tuple(series),
    )
