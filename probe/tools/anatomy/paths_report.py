"""Report section on the paths through the network: their number, their lengths, and the effect of groups."""

from __future__ import annotations

from fractions import Fraction
from math import comb

from probe.core.blocks import Axis, Block, Cell, Column, Figure, Note, Series, Table
from probe.core.document import Section
from probe.graph.cost.paths import Paths
from probe.tools.anatomy.examine import Examined
from probe.tools.anatomy.rows import power, root

_SHORTEST_SHOWN = 1e-4
"""Lengths with a smaller share of the paths than this are cut off at both ends of the figure."""


def paths_section(network: Examined) -> Section:
    """Return the section on the number of paths, their lengths, and how they depend on depth and width."""
    if network.paths is None:
        return Section("paths", "Paths", reason=f"The paths could not be counted. {network.reason}")
    paths = network.paths
    summary = (
        "At an addition or a concatenation, a path goes through one of the inputs. Gates multiply and are not paths. If "
        "groups are counted as parallel paths, a path goes through one group of every convolution."
    )
    blocks: list[Block] = [_table(paths)]
    if binomial(paths):
        blocks.append(_blocks_figure(paths))
    if len(paths.by_layers) > 1:
        blocks.append(_layers_figure(paths))
    blocks += [Note(text) for text in explanations(paths)]
    return Section("paths", "Paths", summary, tuple(blocks))


def binomial(paths: Paths) -> bool:
    """Return whether the blocks are a chain: as many paths of k blocks as there are choices of k out of L."""
    count = paths.blocks
    return count > 1 and all(paths.by_blocks.get(k, 0) == comb(count, k) for k in range(count + 1))


def base_of(paths: Paths) -> int | None:
    """Return b if the paths with groups are b^L for the L residual blocks; b = 1 + C for C groups in each."""
    base = root(paths.with_groups, paths.blocks)
    return base if base is not None and base > 1 else None


def explanations(paths: Paths) -> list[str]:
    """Return sentences that explain the number of paths and their lengths."""
    lines = []
    base = base_of(paths)
    if binomial(paths) and base is not None and base > 2:
        alone = (paths.with_groups - 1).bit_length()
        lines.append(
            f"Depth is the exponent and cardinality the base: {paths.blocks} blocks with {base - 1} parallel groups have "
            f"(1 + {base - 1})^{paths.blocks} paths; it would take {alone} blocks without groups to have as many "
            "(Xie et al. 2017)."
        )
    if binomial(paths):
        lines.append(
            f"The {paths.blocks} residual blocks are a chain: a path goes through each block or around it, so there are "
            f"2^{paths.blocks} paths, and the number of blocks on a random path is Binomial({paths.blocks}, ½), with mean "
            f"{paths.blocks / 2:g} and standard deviation {(paths.blocks / 4) ** 0.5:.3g} "
            "(Veit, Wilber and Belongie 2016)."
        )
    if paths.bounded:
        lines.append(
            "Channels are moved between groups by reshaping (a channel shuffle), which is not traced: every later group "
            "is assumed to read all channels, so the number with groups is an upper bound."
        )
    return lines


def _table(paths: Paths) -> Table:
    lengths, total = paths.by_layers, paths.count
    mean = float(sum(Fraction(length * count, total) for length, count in lengths.items())) if total else None
    rows: tuple[tuple[Cell, ...], ...] = (
        ("paths from the image to the output", power(total, paths.blocks) if total else "0"),
        (
            "paths with groups counted as parallel",
            ("at most " if paths.bounded else "") + power(paths.with_groups, paths.blocks),
        ),
        ("residual blocks", str(paths.blocks)),
        ("layers with weights on the shortest path", str(min(lengths, default=0))),
        ("layers with weights on a path, mean", "–" if mean is None else f"{mean:.4g}"),
        ("layers with weights on the longest path (depth)", str(paths.depth)),
    )
    return Table(
        "Number and length",
        (Column("Quantity", help="What is counted."), Column("Value", help="The number.")),
        rows,
    )


def _shares(lengths: dict[int, int], total: int) -> Series:
    shares = {k: float(100 * Fraction(count, total)) for k, count in sorted(lengths.items())}
    large = [k for k, share in shares.items() if share >= 100 * _SHORTEST_SHOWN]
    shown = {k: share for k, share in shares.items() if large[0] <= k <= large[-1]}
    return Series("this network", tuple(map(float, shown)), tuple(shown.values()))


def _blocks_figure(paths: Paths) -> Figure:
    own = _shares(dict(paths.by_blocks), paths.count)
    count = paths.blocks
    expected = tuple(100 * comb(count, int(k)) / 2**count for k in own.x)
    return Figure(
        "Length of the paths in blocks",
        "bar",
        Axis("residual blocks on the path"),
        Axis("percent of the paths"),
        f"Counted in the graph, compared with Binomial({count}, ½): one path in 2^{count} goes through every block.",
        (own, Series(f"Binomial({count}, ½)", own.x, expected)),
    )


def _layers_figure(paths: Paths) -> Figure:
    own = _shares(dict(paths.by_layers), paths.count)
    return Figure(
        "Length of the paths in layers",
        "bar",
        Axis("layers with weights on the path"),
        Axis("percent of the paths"),
        "A projection on a shortcut counts as a layer. Lengths at the ends with less than "
        f"{100 * _SHORTEST_SHOWN:g}% of the paths are not shown.",
        (own,),
    )
