"""The layers as rows of text for the console, and as plain values for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from probe.anatomy.examine import Examined
from probe.anatomy.totals import totals
from probe.anatomy.wording import along, bar, kind, memory, named, seen
from probe.graph.census_rows import Row
from probe.report.results import jsonable


def console_rows(one: Examined, everything: bool = False) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows; columns in which nothing happens (groups, dilation) are left out."""
    rows = one.census.rows if everything else one.census.layers
    total = max(one.census.macs, 1)
    largest = max((row.macs for row in rows), default=0) or 1
    columns: dict[str, list[str]] = {
        "#": [str(number) for number in range(1, len(rows) + 1)],
        "layer": [named(row) for row in rows],
        "kind": [kind(row) for row in rows],
        **windows(rows),
        "output": ["×".join(map(str, row.output)) for row in rows],
        "parameters": _right([f"{row.parameters:,}" if row.parameters else _shared(row) for row in rows]),
        "MACs": _right([f"{row.macs:,}" if row.macs else "–" for row in rows]),
        "share": [f"{100 * row.macs / total:5.1f}%" if row.macs else "" for row in rows],
        "of the MACs": [bar(row.macs / largest) for row in rows],
        "activations": _right([memory(row.activations) if row.activations else "–" for row in rows]),
        "field": _right([seen(row.reach) for row in rows]),
        "jump": _right([_jump(row) for row in rows]),
        "start": _right([along(row.reach.start) if row.reach else "–" for row in rows]),
    }
    return tuple(columns), list(zip(*columns.values(), strict=True))


def windows(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the columns kernel, stride, padding, and dilation and groups where any is not 1."""
    found = {
        "kernel": [along(row.window.kernel, pair=True) if row.window else "" for row in rows],
        "stride": [along(row.window.stride) if row.window else "" for row in rows],
        "padding": [along(row.window.padding) if row.window else "" for row in rows],
        "dilation": [along(row.window.dilation) if row.window else "" for row in rows],
        "groups": [
            str(row.window.groups) if row.window and row.kind.endswith("conv") else "" for row in rows
        ],
    }
    return {
        name: texts
        for name, texts in found.items()
        if name not in ("dilation", "groups") or set(texts) - {"", "1"}
    }


def console_totals(a: Examined, b: Examined) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows of the totals of two networks with differences and ratios."""
    pairs = list(zip(totals(a), totals(b), strict=True))
    changes = [one.to(other) for one, other in pairs]
    columns = {
        "in all": [one.name for one, _ in pairs],
        a.name: _right([one.shown for one, _ in pairs]),
        f"{b.name} " if a.name == b.name else b.name: _right([other.shown for _, other in pairs]),
        "difference": _right([f"{d:+,}" if isinstance(d, int) else str(d or "–") for d, _ in changes]),
        "ratio": _right([f"{r:.4g}" if isinstance(r, float) else str(r or "–") for _, r in changes]),
    }
    return tuple(columns), list(zip(*columns.values(), strict=True))


def unlisted(one: Examined) -> str:
    """Say in a sentence what is not among the layers, "" where there is nothing."""
    rest = [row for row in one.census.rows if not row.is_layer]
    if not rest:
        return ""
    calls = Counter(row.kind for row in rest)
    words = {"norm": "norms", "elementwise": "elementwise", "join": "joining", "other": "other operations"}
    listed = ", ".join(f"{count} {words[name]}" for name, count in calls.most_common())
    parameters = sum(row.parameters for row in rest)
    return (
        f"Not listed: {listed}, with {parameters:,} parameters and "
        f"{memory(sum(row.activations for row in rest))} of activations."
    )


def plain(one: Examined) -> dict[str, Any]:
    """Return everything as values that JSON knows; paths that are too many for a float stay whole numbers."""
    census, paths = one.census, one.paths
    return {
        "model": one.name,
        "source": one.model.source,
        "input_size": list(one.model.input_size),
        "totals": {
            "parameters": census.parameters,
            "unused_parameters": census.unused,
            "macs": census.macs,
            "flops": 2 * census.macs,
            "activations_bytes": census.activations,
            "peak_bytes": census.peak,
            "receptive_field": jsonable(census.reach),
        },
        "paths": None
        if paths is None
        else {
            "count": paths.count,
            "with_groups": paths.with_groups,
            "with_groups_is_a_bound": paths.bounded,
            "depth": paths.depth,
            "residual_blocks": paths.blocks,
            "by_layers": {str(length): count for length, count in paths.by_layers.items()},
            "by_blocks": {str(length): count for length, count in paths.by_blocks.items()},
        },
        "paths_unknown_because": one.reason,
        "layers": [{**jsonable(row), "layer": row.is_layer} for row in census.rows],
    }


def _shared(row: Row) -> str:
    return "shared" if row.shared else "–"


def _jump(row: Row) -> str:
    return along(row.reach.jump) if row.reach is not None and row.reach.jump is not None else "–"


def _right(texts: list[str]) -> list[str]:
    width = max(map(len, texts), default=0)
    return [text.rjust(width) for text in texts]
