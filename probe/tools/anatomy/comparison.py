"""Two networks side by side: what one has more of, in all and at every resolution."""

from __future__ import annotations

import dataclasses

from probe.core.document import Axis, Cell, Column, Figure, Report, Result, Section, Series, Table
from probe.core.progress import SILENT, Progress
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.tools.anatomy.cost_report import Stage, by_resolution, layers_section
from probe.tools.anatomy.examine import AnatomyConfig, Examined, examine
from probe.tools.anatomy.rows import ABOUT_UNITS, Total, amount, memory, plain, power, seen, totals
from probe.tools.anatomy.study import NO_DATA, REFERENCES, checks, described, methods, results

DEFAULTS = AnatomyConfig()


def compare(
    first: LoadedModel,
    second: LoadedModel,
    config: AnatomyConfig = DEFAULTS,
    *,
    both: tuple[Examined, Examined] | None = None,
    progress: Progress = SILENT,
    command: str = "",
) -> Report:
    """Put the anatomies of two networks side by side; differences and ratios are of the second to the first.

    ``both`` is what ``examine`` found, where that is known already. The report's model is the first network.
    """
    if both is None:
        with progress.task("Looking at the layers", None):
            labels = ("A", "B") if first.name == second.name else ("", "")
            both = examine(first, config, labels[0]), examine(second, config, labels[1])
    a, b = both
    listed = [
        dataclasses.replace(
            layers_section(one), id=f"layers-{letter}", title=f"Layers of {letter.upper()}, {one.name}"
        )
        for letter, one in (("a", a), ("b", b))
    ]
    return assemble(
        study="anatomy",
        title=f"{a.name} beside {b.name}",
        model=described(a),
        data=NO_DATA,
        config=config,
        choices={"compared with": b.model.source},
        device=str(first.device),
        seed=config.seed,
        command=command,
        seconds=a.seconds + b.seconds,
        headline=headline(a, b),
        sections=(_totals_section(a, b), _places_section(a, b), _field_section(a, b), *listed),
        results=_results(a, b),
        checks=tuple(
            dataclasses.replace(check, name=f"{check.name}, {one.name}")
            for one in (a, b)
            for check in checks(one)
        ),
        methods=(*methods(a), f"{b.name} was counted in the same way."),
        references=REFERENCES,
        extra={"A": plain(a), "B": plain(b)},
        key=("places",),
    )


def headline(a: Examined, b: Examined) -> tuple[str, ...]:
    """Return the differences in sentences."""
    one, other = a.operations, b.operations
    lines = [
        f"{b.name} has {_times(other.parameters, one.parameters)} the parameters of {a.name} ({other.parameters:,} "
        f"against {one.parameters:,}) and {_times(other.macs, one.macs)} its MACs ({amount(other.macs)} against "
        f"{amount(one.macs)}).",
        f"A unit of the last map sees {seen(other.reach)} pixels in both."
        if seen(other.reach) == seen(one.reach)
        else f"A unit of the last map sees {seen(other.reach)} pixels, against {seen(one.reach)}.",
        f"Activations: {memory(other.activations)} against {memory(one.activations)}; at once {memory(other.peak)} "
        f"against {memory(one.peak)}.",
    ]
    if a.paths is not None and b.paths is not None:
        lines.append(
            f"Depth: {b.paths.depth} layers with weights on the longest path, against {a.paths.depth}."
        )
        counts = [(each.with_groups, each.blocks) for each in (b.paths, a.paths)]
        if counts[0][0] != counts[1][0] and all(count for count, _ in counts):
            written = [power(*count) for count in counts]
            lines.append(f"Paths, groups counted as parallel: {written[0]} against {written[1]}.")
    if a.model.input_size != b.model.input_size:
        sizes = ["×".join(map(str, each.model.input_size)) for each in (b, a)]
        lines.append(f"They take images of different sizes: {sizes[0]} against {sizes[1]}.")
    if a.gated or b.gated:
        lines.append(
            "An asterisk marks a receptive field that leaves out gates or norms of the whole map, through which units "
            "also depend on the rest of the image."
        )
    return tuple(lines)


def _times(value: int, of: int) -> str:
    return f"{value / of:.3g} times" if of else "–"


def _totals_section(a: Examined, b: Examined) -> Section:
    columns = (
        Column("What", help="What is counted."),
        Column(f"A: {a.name}", help="The first network."),
        Column(f"B: {b.name}", help="The second network."),
        Column("B − A", help="The difference."),
        Column("B / A", digits=4, help="The ratio: below 1 the second has less."),
    )
    rows = tuple(_total_row(*pair) for pair in zip(totals(a), totals(b), strict=True))
    return Section("totals", "In all", ABOUT_UNITS, (Table("Totals", columns, rows),))


def _total_row(one: Total, other: Total) -> tuple[Cell, ...]:
    difference, ratio = one.to(other)
    return one.name, one.shown, other.shown, difference, ratio


def _places_section(a: Examined, b: Examined) -> Section:
    parts = [{stage.name: stage for stage in by_resolution(each.operations.rows)} for each in (a, b)]
    names = tuple(dict.fromkeys([*parts[0], *parts[1]]))
    names = tuple(sorted(names, key=_area, reverse=True))
    columns = tuple(
        Column(title, help="The resolution of the maps, or the kind of layer.")
        for title in (
            *("Map", "Layers of A", "Layers of B", "Parameters of A", "Parameters of B"),
            *("MACs of A", "MACs of B"),
        )
    )
    rows = tuple((name, *_pair(parts, name)) for name in names)
    table = Table(
        "By resolution",
        columns,
        rows,
        "Layers that give maps of the same size stand in one row; the head is what comes after the last map.",
    )
    places = tuple(float(place) for place in range(len(names)))
    figure = Figure(
        "MACs by resolution",
        "bar",
        Axis("size of the map", categories=names),
        Axis("million MACs"),
        "Where the two networks spend their computation.",
        tuple(
            Series(one.name, places, tuple(_of(part, name).macs / 1e6 for name in names))
            for one, part in zip((a, b), parts, strict=True)
        ),
    )
    return Section("places", "Where they differ", "", (figure, table))


def _area(name: str) -> int:
    height, _, width = name.partition("×")
    return int(height) * int(width) if width else -1


def _of(part: dict[str, Stage], name: str) -> Stage:
    return part.get(name, Stage(name, ()))


def _pair(parts: list[dict[str, Stage]], name: str) -> tuple[Cell, ...]:
    one, other = (_of(part, name) for part in parts)
    return one.layers, other.layers, one.parameters, other.parameters, one.macs, other.macs


def _field_section(a: Examined, b: Examined) -> Section:
    series = []
    for one in (a, b):
        rows = [(float(place), row.reach) for place, row in enumerate(one.operations.layers, 1)]
        known = [(place, float(reach.size[0])) for place, reach in rows if reach is not None]
        series.append(Series(one.name, tuple(p for p, _ in known), tuple(size for _, size in known)))
    figure = Figure(
        "Receptive field along the layers",
        "line",
        Axis("layer (its number in the table)"),
        Axis("height in pixels"),
        "What the unit with the largest field of each layer sees. Two convolutions of 3×3 see as much as one of 5×5.",
        tuple(series),
    )
    return Section("field", "What they see", "", (figure,))


def _results(a: Examined, b: Examined) -> tuple[Result, ...]:
    one, other = a.operations, b.operations
    found = [
        Result("parameters_ratio", other.parameters / max(one.parameters, 1)),
        Result("MACs_ratio", other.macs / max(one.macs, 1)),
        Result("activations_ratio", other.activations / max(one.activations, 1)),
    ]
    if one.reach is not None and other.reach is not None:
        found.append(Result("receptive_field_ratio", other.reach.size[0] / one.reach.size[0]))
    for letter, each in (("A", a), ("B", b)):
        found += [dataclasses.replace(result, name=f"{letter}: {result.name}") for result in results(each)]
    return tuple(found)
