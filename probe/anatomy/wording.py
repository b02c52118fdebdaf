"""How sizes, costs and numbers of paths are written."""

from __future__ import annotations

import math
from collections.abc import Sequence

from probe.graph.census_rows import Reach, Row

_EIGHTHS = " ▏▎▍▌▋▊▉█"

ABOUT_UNITS = (
    "A MAC is one multiply-accumulate, and a FLOP one multiplication or addition: FLOPs = 2 × MACs. Some texts call "
    "the number of MACs FLOPs, and the number of parameters MAC: with them in hand, compare their FLOPs with the "
    "MACs here, and their MAC with the parameters."
)


def along(numbers: Sequence[float], *, pair: bool = False) -> str:
    """Write one number for each direction, once where they agree; always as a product with ``pair``."""
    if not pair and len(set(numbers)) == 1:
        return f"{numbers[0]:g}"
    return "×".join(f"{number:g}" for number in numbers)


def bar(share: float, width: int = 10) -> str:
    """Draw a share from 0 to 1 as a bar of text, to an eighth of a sign; what is not nothing shows."""
    eighths = min(width * 8, max(round(share * width * 8), 1 if share > 0 else 0))
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)


def amount(value: float) -> str:
    """Write a large count with three digits and a unit: ``1.81 G``; below ten thousand in full."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.0f}"


def memory(count: float) -> str:
    """Write bytes in KiB, MiB or GiB."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if abs(count) >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 2**10:.3g} KiB" if count else "0"


def power(count: int, blocks: int = 0) -> str:
    """Write a number of paths: in full, as a power of a whole base with ``blocks`` in the exponent, or about 2^x."""
    base = root(count, blocks) or 0
    exact = base > 1
    if count < 10**7:
        return f"{base}^{blocks} = {count:,}" if exact and blocks > 1 else f"{count:,}"
    if exact:
        return f"{base}^{blocks}" if base == 2 else f"{base}^{blocks} ≈ 2^{math.log2(count):.1f}"
    if count & (count - 1) == 0:
        return f"2^{count.bit_length() - 1}"
    return f"≈ 2^{math.log2(count):.1f}"


def root(count: int, blocks: int) -> int | None:
    """Return the whole number whose power with ``blocks`` in the exponent is ``count``, None where there is none."""
    if blocks < 1 or count < 1:
        return None
    low, high = 1, 1 << -(-count.bit_length() // blocks)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**blocks <= count else (low, middle - 1)
    return low if low**blocks == count else None


def named(row: Row) -> str:
    """Return what a row is called: the module's name, with the number of the call from the second one on."""
    return (row.name or "(no module)") + (f" (call {row.call})" if row.call > 1 and row.name else "")


def kind(row: Row) -> str:
    """Return what a row is; a convolution with a group a channel is called by its name."""
    if row.kind == "conv" and row.depthwise:
        return "depthwise conv"
    return row.kind if row.is_layer or row.kind == "norm" else f"{row.kind}: {row.operation.strip('_')}"


def seen(reach: Reach | None) -> str:
    """Write the size of a receptive field, with an asterisk where global gates are left out of it."""
    if reach is None:
        return "–"
    return along(reach.size, pair=True) + ("*" if reach.note else "")
