"""Numbers and lengths of paths against lists of them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import comb

import pytest
import torch
from helpers.graph_networks import images, seeded
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.core.errors import NotApplicableError
from probe.graph.cost.paths import path_lengths, paths
from probe.graph.trace.ablatable import ablatable


@dataclass(frozen=True)
class Step:
    """``conv`` with ``groups``, ``relu``, ``add``, ``cat``, ``swap`` (the halves) or ``half`` (the second one)."""

    kind: str
    inputs: tuple[int, ...]
    width: int
    groups: int = 1


@st.composite
def plans(draw: st.DrawFn) -> tuple[Step, ...]:
    """Draw a directed acyclic graph whose value 0 has four channels; the last value is read by the head."""
    widths, steps = [4], []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["conv", "conv", "relu", "add", "cat", "half"]))
        first = draw(st.integers(max(0, len(widths) - 3), len(widths) - 1))
        second = draw(st.integers(0, len(widths) - 1))
        if kind == "add" and widths[first] != widths[second]:
            kind = "cat"
        if widths[first] + widths[second] > 16 or (kind == "half" and widths[first] < 4):
            kind = "relu"
        width = {"conv": 4, "cat": widths[first] + widths[second], "half": widths[first] // 2}.get(
            kind, widths[first]
        )
        groups = 1
        if kind == "conv":
            groups = draw(st.sampled_from([g for g in (1, 2, 4) if widths[first] % g == 0]))
        steps.append(Step(kind, (first, second) if kind in ("add", "cat") else (first,), width, groups))
        widths.append(width)
    return tuple(steps)


class Planned(nn.Module):
    def __init__(self, steps: tuple[Step, ...]) -> None:
        super().__init__()
        self.steps = steps
        self.stem = nn.Conv2d(3, 4, 1)
        widths = [4, *(step.width for step in steps)]
        self.convs = nn.ModuleDict(
            {
                str(place): nn.Conv2d(widths[step.inputs[0]], step.width, 1, groups=step.groups)
                for place, step in enumerate(steps)
                if step.kind == "conv"
            }
        )
        self.head = nn.Conv2d(widths[-1], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        values = [self.stem(x)]
        for place, step in enumerate(self.steps):
            given = [values[each] for each in step.inputs]
            if step.kind == "conv":
                made = self.convs[str(place)](given[0])
            elif step.kind == "add":
                made = given[0] + given[1]
            elif step.kind == "cat":
                made = torch.cat(given, 1)
            elif step.kind == "half":
                pieces = [
                    given[0].chunk(2, 1),
                    given[0].split(step.width, dim=1),
                    torch.split(given[0], [step.width] * 2, 1),
                ]
                made = given[0][:, step.width :] if place % 4 == 3 else pieces[place % 4][1]
            else:
                made = torch.relu(given[0])
            values.append(made)
        return self.head(values[-1]).mean((2, 3))


Path = tuple[int, frozenset[int]]
"""Layers on a path, and the channels of the value at its end that it reaches."""


def listed(steps: tuple[Step, ...], split: bool) -> list[Path]:
    """List every path to the last value; ``split``: through one group of each convolution."""
    widths = [4, *(step.width for step in steps)]
    values: list[list[Path]] = [[(1, frozenset(range(4)))]]
    for step in steps:
        given = [values[each] for each in step.inputs]
        wide = widths[step.inputs[0]]
        if step.kind == "conv":
            groups = step.groups if split else 1
            made = [
                (length + 1, frozenset(range(g * step.width // groups, (g + 1) * step.width // groups)))
                for length, channels in given[0]
                for g in range(groups)
                if not split or channels & set(range(g * wide // groups, (g + 1) * wide // groups))
            ]
        elif step.kind == "cat":
            made = given[0] + [(length, frozenset(c + wide for c in cs)) for length, cs in given[1]]
        elif step.kind == "half":
            made = [(n, frozenset(c - step.width for c in cs if c >= step.width)) for n, cs in given[0]]
            made = [path for path in made if path[1] or not split]
        else:
            made = [path for part in given for path in part]
        values.append(made)
    return values[-1]


# A part of the channels that ends inside a group, and pieces of a split of eight.
@example((Step("half", (0,), 2), Step("cat", (1, 0), 6), Step("conv", (2,), 4, groups=2)))
@example(
    (
        *(Step("conv", (0,), 4, groups=2), Step("conv", (0,), 4, groups=4), Step("cat", (1, 2), 8)),
        *(Step("relu", (3,), 8), Step("half", (4,), 4)),
    )
)
@settings(max_examples=40)
@given(plans())
def test_counts_are_those_of_a_list_of_all_paths(steps: tuple[Step, ...]) -> None:
    graph = ablatable(seeded(lambda: Planned(steps)), images(1, 4))
    plain = listed(steps, split=False)
    found = paths(graph, images(1, 4))
    assert found.by_layers == dict(sorted(Counter(length + 1 for length, _ in plain).items()))
    assert found.depth == max(length for length, _ in plain) + 1
    assert not found.bounded
    assert found.with_groups == len(listed(steps, split=True))


class Block(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, 2 * groups, 1), nn.ReLU(),
            nn.Conv2d(2 * groups, 2 * groups, 3, padding=1, groups=groups), nn.BatchNorm2d(2 * groups), nn.ReLU(),
            nn.Conv2d(2 * groups, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + x)


def chain(blocks: int, groups: int) -> nn.Module:
    parts = [Block(3, groups) for _ in range(blocks)]
    return seeded(lambda: nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)))


@pytest.mark.parametrize(("blocks", "groups"), [(1, 1), (4, 1), (3, 4), (5, 32)])
def test_a_residual_chain_has_binomial_lengths_and_cardinality_is_the_base(blocks: int, groups: int) -> None:
    found = paths(chain(blocks, groups), images(1, 6))
    assert found.blocks == blocks
    assert found.by_blocks == {k: comb(blocks, k) for k in range(blocks + 1)}
    assert found.by_layers == {3 * k + 1: comb(blocks, k) for k in range(blocks + 1)}
    assert found.count == 2**blocks
    assert found.with_groups == (1 + groups) ** blocks


def test_a_group_is_not_entered_twice_where_channels_stay_in_place() -> None:
    def make(shuffled: bool) -> nn.Module:
        between = nn.ChannelShuffle(2) if shuffled else nn.BatchNorm2d(4)
        first, second = (nn.Conv2d(4, 4, 1, groups=2) for _ in range(2))
        return seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), first, between, second, nn.Conv2d(4, 2, 1)))

    kept = paths(make(False), images(1, 4))
    assert (kept.count, kept.with_groups, kept.bounded) == (1, 2, False)


def test_a_shuffle_written_with_reshapes_gives_a_bound_and_says_so() -> None:
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, groups=2)
            self.third, self.last = nn.Conv2d(4, 4, 1, groups=4), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.second(self.first(x))
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            return self.last(self.third(x))

    found = paths(seeded(Shuffled), images(1, 4))
    # Each of four single channels comes from one of two groups: four ways, of which a bound may see eight.
    assert found.bounded
    assert found.with_groups == 8 >= 4


def test_attention_and_pieces_of_a_split_are_ways() -> None:
    from torchvision import models

    shuffle = models.get_model("shufflenet_v2_x0_5", weights=None).eval()
    found = paths(shuffle, images(1, 32))
    assert found.count == 2**16  # 16 units of two arms each
    graph = ablatable(shuffle, images(1, 32))
    assert path_lengths(graph) == found.by_layers


def test_a_network_that_cannot_be_traced_says_why() -> None:
    from helpers.graph_networks import BatchDependent

    class Looping(BatchDependent):
        def forward(self, x: Tensor) -> Tensor:
            while x.sum() > 10**9:
                x = x / 2
            return super().forward(x).tolist()  # type: ignore[return-value]

    with pytest.raises(NotApplicableError):
        paths(Looping(), images(1, 8))
