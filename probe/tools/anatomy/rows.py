"""The layers as rows of text for the console, and as JSON values for programs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from probe.core.blocks import Cell
from probe.graph.cost.operations import OperationRow, Reach
from probe.report.results import jsonable
from probe.tools.anatomy.examine import Examined

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_IN_FULL = 10**7
"""Numbers of paths below this are written in full, others as powers."""

ABOUT_UNITS = (
    "A MAC is one multiply-accumulate, a FLOP one multiplication or one addition: FLOPs = 2 × MACs. Some papers use FLOPs "
    "for the number of MACs, and MAC for the number of parameters: compare their FLOPs with the MACs here, and their MAC "
    "with the parameters."
)


def along(numbers: Sequence[float], *, pair: bool = False) -> str:
    """Format one number per direction, only once if they are equal; with ``pair`` always as a product."""
    if not pair and len(set(numbers)) == 1:
        return f"{numbers[0]:g}"
    return "×".join(f"{number:g}" for number in numbers)


def bar(share: float, width: int = 10) -> str:
    """Draw a share from 0 to 1 as a text bar with a resolution of 1/8 character; never empty if above 0."""
    eighths = min(width * 8, max(round(share * width * 8), 1 if share > 0 else 0))
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)


def amount(value: float) -> str:
    """Format a large count with three digits and a unit: ``1.81 G``; below ten thousand in full."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.0f}"


def memory(count: float) -> str:
    """Format bytes in KiB, MiB or GiB."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if abs(count) >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 2**10:.3g} KiB" if count else "0"


def power(count: int, blocks: int = 0) -> str:
    """Format a number of paths: in full, as a power with exponent ``blocks``, or approximately as 2^x."""
    base = root(count, blocks) or 0
    exact = base > 1
    if count < _IN_FULL:
        return f"{base}^{blocks} = {count:,}" if exact and blocks > 1 else f"{count:,}"
    if exact:
        return f"{base}^{blocks}" if base == 2 else f"{base}^{blocks} ≈ 2^{math.log2(count):.1f}"
    if count & (count - 1) == 0:
        return f"2^{count.bit_length() - 1}"
    return f"≈ 2^{math.log2(count):.1f}"


def root(count: int, blocks: int) -> int | None:
    """Return the integer whose power with exponent ``blocks`` is ``count``, None if there is none."""
    if blocks < 1 or count < 1:
        return None
    low, high = 1, 1 << -(-count.bit_length() // blocks)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**blocks <= count else (low, middle - 1)
    return low if low**blocks == count else None


def row_name(row: OperationRow) -> str:
    """Return the name of a row: the module's name, with the number of the call from the second call on."""
    return (row.name or "(no module)") + (f" (call {row.call})" if row.call > 1 and row.name else "")


def kind(row: OperationRow) -> str:
    """Return the kind of a row; a convolution with one group per channel is a depthwise convolution."""
    if row.kind == "conv" and row.depthwise:
        return "depthwise conv"
    return row.kind if row.is_layer or row.kind == "norm" else f"{row.kind}: {row.operation.strip('_')}"


def field_text(reach: Reach | None) -> str:
    """Format the size of a receptive field, with an asterisk if global gates are ignored."""
    if reach is None:
        return "–"
    return along(reach.size, pair=True) + ("*" if reach.note else "")


@dataclass(frozen=True)
class Total:
    """A number of a network (None if it is not known) and its text: of bytes if ``stored``, of paths if ``paths``."""

    name: str
    value: int | None
    shown: str
    stored: bool = False
    paths: bool = False

    def to(self, other: Total) -> tuple[Cell, Cell]:
        """Return the difference and ratio of the other network's number to this one, None where undefined.

        Numbers of paths that are written as powers have a ratio only.
        """
        if self.value is None or other.value is None:
            return None, None
        ratio = None if not self.value else _ratio(other.value, self.value)
        difference = other.value - self.value
        if self.stored:
            return ("+" if difference > 0 else "") + memory(difference), ratio
        huge = self.paths and max(self.value, other.value) >= _IN_FULL
        return None if huge else difference, ratio


def totals(network: Examined) -> tuple[Total, ...]:
    """Return all totals of a network in a fixed order."""
    census, paths = network.operations, network.paths
    reach = census.reach
    return (
        _count("parameters", census.parameters),
        _count("MACs", census.macs),
        _count("FLOPs", 2 * census.macs),
        Total("activations, total", census.activations, memory(census.activations), True),
        Total("activations, peak", census.peak, memory(census.peak), True),
        _count("layers", len(census.layers)),
        _count("depth (layers with weights on the longest path)", None if paths is None else paths.depth),
        _count("residual blocks", None if paths is None else paths.blocks),
        _paths("paths", None if paths is None else paths.count, 0 if paths is None else paths.blocks),
        _paths(
            "paths with groups counted as parallel",
            None if paths is None else paths.with_groups,
            0 if paths is None else paths.blocks,
        ),
        Total(
            "receptive field of the last map, height",
            None if reach is None else reach.size[0],
            field_text(reach),
        ),
    )


def _count(name: str, value: int | None) -> Total:
    return Total(name, value, "–" if value is None else f"{value:,}")


def _paths(name: str, value: int | None, blocks: int) -> Total:
    return Total(name, value, power(value, blocks) if value else "–", paths=True)


def _ratio(value: int, of: int) -> Cell:
    """Return a ratio as a number, or as a power of two if one number is more than ten million times the other."""
    if _IN_FULL * min(value, of) >= max(value, of) or value <= 0:
        return value / of
    return f"2^{math.log2(value) - math.log2(of):.1f}".replace("-", "−")


def console_rows(
    network: Examined, everything: bool = False
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows; the columns groups and dilation are omitted if they are 1 everywhere."""
    rows = network.operations.rows if everything else network.operations.layers
    total = max(network.operations.macs, 1)
    largest = max((row.macs for row in rows), default=0) or 1
    columns: dict[str, list[str]] = {
        "#": [str(number) for number in range(1, len(rows) + 1)],
        "layer": [row_name(row) for row in rows],
        "kind": [kind(row) for row in rows],
        **windows(rows),
        "output": ["×".join(map(str, row.output)) for row in rows],
        "parameters": _right([f"{row.parameters:,}" if row.parameters else _shared(row) for row in rows]),
        "MACs": _right([f"{row.macs:,}" if row.macs else "–" for row in rows]),
        "share": [f"{100 * row.macs / total:5.1f}%" if row.macs else "" for row in rows],
        "of the MACs": [bar(row.macs / largest) for row in rows],
        "activations": _right([memory(row.activations) if row.activations else "–" for row in rows]),
        "field": _right([field_text(row.reach) for row in rows]),
        "jump": _right([_jump(row) for row in rows]),
        "start": _right([along(row.reach.start) if row.reach else "–" for row in rows]),
    }
    return tuple(columns), list(zip(*columns.values(), strict=True))


def windows(rows: Sequence[OperationRow]) -> dict[str, list[str]]:
    """Return the columns kernel, stride, padding, and dilation and groups if any of them is not 1."""
    columns = {
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
        for name, texts in columns.items()
        if name not in ("dilation", "groups") or set(texts) - {"", "1"}
    }


def console_totals(a: Examined, b: Examined) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and rows of the totals of two networks with differences and ratios."""
    pairs = list(zip(totals(a), totals(b), strict=True))
    changes = [first.to(second) for first, second in pairs]
    columns = (
        [first.name for first, _ in pairs],
        _right([first.shown for first, _ in pairs]),
        _right([second.shown for _, second in pairs]),
        _right([f"{d:+,}" if isinstance(d, int) else str(d or "–") for d, _ in changes]),
        _right([f"{r:.4g}" if isinstance(r, float) else str(r or "–") for _, r in changes]),
    )
    return ("total", a.name, b.name, "difference", "ratio"), list(zip(*columns, strict=True))


def unlisted(network: Examined) -> str:
    """Return a sentence on the operations that are not listed as layers, "" if there are none."""
    rest = [row for row in network.operations.rows if not row.is_layer]
    if not rest:
        return ""
    calls = Counter(row.kind for row in rest)
    words = {
        "norm": "norms",
        "elementwise": "elementwise operations",
        "join": "concatenations",
        "other": "other operations",
    }
    listed = ", ".join(f"{count} {words[name]}" for name, count in calls.most_common())
    parameters = sum(row.parameters for row in rest)
    return (
        f"Not listed: {listed}, with {parameters:,} parameters and "
        f"{memory(sum(row.activations for row in rest))} of activations."
    )


def plain(network: Examined) -> dict[str, Any]:
    """Return everything as JSON values; the number of paths stays an integer even if it is too large for a float."""
    census, paths = network.operations, network.paths
    return {
        "model": network.name,
        "source": network.model.source,
        "input_size": list(network.model.input_size),
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
        "paths_unknown_because": network.reason,
        "layers": [{**jsonable(row), "layer": row.is_layer} for row in census.rows],
    }


def _shared(row: OperationRow) -> str:
    return "shared" if row.shared else "–"


def _jump(row: OperationRow) -> str:
    return along(row.reach.jump) if row.reach is not None and row.reach.jump is not None else "–"


def _right(texts: list[str]) -> list[str]:
    width = max(map(len, texts), default=0)
    return [text.rjust(width) for text in texts]
