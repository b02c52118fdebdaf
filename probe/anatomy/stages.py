"""Layers in groups: the parts that a network names, or the resolutions of its maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probe.graph.census_rows import Row

_FEWEST, _MOST = 3, 16
_LARGE = 0.5
"""A part with more of the layers than this is opened."""


@dataclass(frozen=True)
class Stage:
    """Rows that belong together."""

    name: str
    rows: tuple[Row, ...]

    @property
    def layers(self) -> int:
        """The number of layers."""
        return sum(row.is_layer for row in self.rows)

    @property
    def parameters(self) -> int:
        """The parameters that no earlier row has used."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def activations(self) -> int:
        """Bytes of the outputs."""
        return sum(row.activations for row in self.rows)


def stages(rows: Sequence[Row]) -> tuple[Stage, ...]:
    """Return the parts of the network by the names of its modules, by resolution where these give too few or many."""
    opened: set[str] = set()
    while True:
        groups = _named(rows, opened)
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


def by_resolution(rows: Sequence[Row]) -> tuple[Stage, ...]:
    """Group by the resolution of the map that a row gives; what comes after the last map is the head.

    Rows without a map of their own, such as those of a gate, count with the map before them.
    """
    maps = [_resolution(row) for row in rows]
    last = max((place for place, name in enumerate(maps) if name), default=-1)
    current = next((name for name in maps if name), "head")
    groups: dict[str, list[Row]] = {}
    for place, row in enumerate(rows):
        current = maps[place] or ("head" if place > last else current)
        groups.setdefault(current, []).append(row)
    return tuple(Stage(name, tuple(group)) for name, group in groups.items())


def _resolution(row: Row) -> str:
    is_map = len(row.output) == 3 and max(row.output[1:]) > 1
    return f"{row.output[1]}×{row.output[2]}" if is_map else ""


def _named(rows: Sequence[Row], opened: set[str]) -> tuple[Stage, ...]:
    groups: list[tuple[str, list[Row]]] = []
    for row in rows:
        name = _part(row.name, opened)
        if groups and (name == groups[-1][0] or not row.name):
            groups[-1][1].append(row)
        else:
            groups.append((name or "(no module)", [row]))
    # What has no layer, such as a norm or an activation with a name of its own, goes with what comes before.
    merged: list[tuple[str, list[Row]]] = []
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
