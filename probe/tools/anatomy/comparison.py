"""Comparison of two networks: differences and ratios, in total and at every resolution."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from probe.core.blocks import Axis, Cell, Column, Figure, Series, Table
from probe.core.document import Report, Result, Section
from probe.core.progress import SILENT, Progress
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.tools.anatomy.cost_report import Stage, by_resolution, layers_section
from probe.tools.anatomy.examine import AnatomyConfig, Examined, examine
from probe.tools.anatomy.rows import ABOUT_UNITS, Total, amount, field_text, memory, plain, power, totals
from probe.tools.anatomy.study import NO_DATA, REFERENCES, checks, methods, model_info, results

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
    """Compare the anatomies of two networks; differences and ratios are of the second relative to the first.

    ``both`` are the results of ``examine``, if available. The report's model is the first network.
    """
    if both is None:
        with progress.task("Looking at the layers", None):
            labels = ("A", "B") if first.name == second.name else ("", "")
            both = examine(first, config, labels[0]), examine(second, config, labels[1])
    a, b = both
    listed = [
        dataclasses.replace(
            layers_section(network),
            id=f"layers-{letter}",
            title=f"Layers of {_labelled(letter.upper(), network)}",
        )
        for letter, network in (("a", a), ("b", b))
    ]
    return assemble(
        study="anatomy",
        title=f"{a.name} compared with {b.name}",
        model=model_info(a),
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
            dataclasses.replace(check, name=f"{check.name}, {network.name}")
            for network in (a, b)
            for check in checks(network)
        ),
        methods=(*methods(a), f"{b.name} was counted in the same way."),
        references=REFERENCES,
        extra={"A": plain(a), "B": plain(b)},
        key=("places",),
    )


def headline(a: Examined, b: Examined) -> tuple[str, ...]:
    """Return the differences in sentences."""
    first, second = a.operations, b.operations
    lines = [
        f"{b.name} has {_times(second.parameters, first.parameters)} the parameters of {a.name} "
        f"({second.parameters:,} vs {first.parameters:,}) and {_times(second.macs, first.macs)} its MACs "
        f"({amount(second.macs)} vs {amount(first.macs)}).",
        *_field_lines(*(field_text(table.reach) for table in (first, second) if table.reach is not None)),
        f"Activations: {memory(second.activations)} vs {memory(first.activations)} in total, {memory(second.peak)} vs "
        f"{memory(first.peak)} at peak.",
    ]
    if a.paths is not None and b.paths is not None:
        lines.append(f"Depth: {b.paths.depth} layers with weights on the longest path, vs {a.paths.depth}.")
        counts = [(paths.with_groups, paths.blocks) for paths in (b.paths, a.paths)]
        if counts[0][0] != counts[1][0] and all(count for count, _ in counts):
            texts = [power(*count) for count in counts]
            lines.append(f"Paths, with groups counted as parallel: {texts[0]} vs {texts[1]}.")
    if a.model.input_size != b.model.input_size:
        sizes = ["×".join(map(str, network.model.input_size)) for network in (b, a)]
        lines.append(f"The networks take images of different sizes: {sizes[0]} vs {sizes[1]}.")
    if a.gated or b.gated:
        lines.append(
            "An asterisk marks a receptive field that ignores gates or norms of the whole map, through which units also "
            "depend on the rest of the image."
        )
    return tuple(lines)


def _times(value: int, of: int) -> str:
    if not of:
        return "–"
    return "exactly" if value == of else f"{value / of:.3g} times"


def _field_lines(*fields: str) -> Iterator[str]:
    """Yield a sentence on the receptive fields, none unless both networks have one."""
    if len(fields) == 2:
        rest = "pixels in both" if fields[0] == fields[1] else f"pixels, vs {fields[0]}"
        yield f"The receptive field of the last map is {fields[1]} {rest}."


def _labelled(letter: str, network: Examined) -> str:
    """Return the letter of a network with its name, unless the letter is all the name that it has."""
    return letter if network.name == letter else f"{letter}: {network.name}"


def _totals_section(a: Examined, b: Examined) -> Section:
    columns = (
        Column("Quantity", help="What is counted."),
        Column(_labelled("A", a), help="The first network."),
        Column(_labelled("B", b), help="The second network."),
        Column("B − A", help="The difference; none between numbers of paths that are written as powers."),
        Column("B / A", digits=4, help="The ratio; below 1 if the second network has less."),
    )
    rows = tuple(_total_row(*pair) for pair in zip(totals(a), totals(b), strict=True))
    return Section("totals", "Totals", ABOUT_UNITS, (Table("Totals", columns, rows),))


def _total_row(first: Total, second: Total) -> tuple[Cell, ...]:
    difference, ratio = first.to(second)
    return first.name, first.shown, second.shown, difference, ratio


def _places_section(a: Examined, b: Examined) -> Section:
    parts = [{stage.name: stage for stage in by_resolution(network.operations.rows)} for network in (a, b)]
    names = tuple(dict.fromkeys([*parts[0], *parts[1]]))
    names = tuple(sorted(names, key=_area, reverse=True))
    columns = (
        Column("Map", help="The size of the output maps, height × width."),
        *(
            Column(f"{quantity} of {letter}", help=what)
            for quantity, what in (
                ("Layers", "The number of layers whose output maps have this size."),
                ("Parameters", "Weights and biases, each counted once."),
                ("MACs", "Multiply-accumulates for one image; FLOPs are twice as many."),
            )
            for letter in ("A", "B")
        ),
    )
    rows = tuple((name, *_pair(parts, name)) for name in names)
    table = Table(
        "By resolution",
        columns,
        rows,
        "Layers whose output maps have the same size share a row; the head is everything after the last map.",
    )
    places = tuple(float(place) for place in range(len(names)))
    figure = Figure(
        "MACs by resolution",
        "bar",
        Axis("size of the map", categories=names),
        Axis("million MACs"),
        "The computation of the two networks at each map size.",
        tuple(
            Series(network.name, places, tuple(_of(part, name).macs / 1e6 for name in names))
            for network, part in zip((a, b), parts, strict=True)
        ),
    )
    return Section("places", "Where they differ", "", (figure, table))


def _area(name: str) -> int:
    height, _, width = name.partition("×")
    return int(height) * int(width) if width else -1


def _of(part: dict[str, Stage], name: str) -> Stage:
    return part.get(name, Stage(name, ()))


def _pair(parts: list[dict[str, Stage]], name: str) -> tuple[Cell, ...]:
    first, second = (_of(part, name) for part in parts)
    return first.layers, second.layers, first.parameters, second.parameters, first.macs, second.macs


def _field_section(a: Examined, b: Examined) -> Section:
    series = []
    for network in (a, b):
        rows = [(float(place), row.reach) for place, row in enumerate(network.operations.layers, 1)]
        known = [(place, float(reach.size[0])) for place, reach in rows if reach is not None]
        series.append(Series(network.name, tuple(p for p, _ in known), tuple(size for _, size in known)))
    figure = Figure(
        "Receptive field along the layers",
        "line",
        Axis("layer (its number in the table)"),
        Axis("height in pixels"),
        "The largest receptive field of any unit in each layer. Two 3×3 convolutions have the same field as one 5×5.",
        tuple(series),
    )
    return Section("field", "Receptive fields", "", (figure,))


def _results(a: Examined, b: Examined) -> tuple[Result, ...]:
    first, second = a.operations, b.operations
    ratios = [
        Result("parameters_ratio", second.parameters / max(first.parameters, 1)),
        Result("MACs_ratio", second.macs / max(first.macs, 1)),
        Result("activations_ratio", second.activations / max(first.activations, 1)),
    ]
    if first.reach is not None and second.reach is not None:
        ratios.append(Result("receptive_field_ratio", second.reach.size[0] / first.reach.size[0]))
    own = [
        dataclasses.replace(result, name=f"{letter}: {result.name}")
        for letter, network in (("A", a), ("B", b))
        for result in results(network)
    ]
    return (*ratios, *own)
