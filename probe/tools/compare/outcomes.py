"""The outcome for every image in a run, from its samples, for each result that is a proportion of the images."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

from probe.core.document import Json, Result
from probe.tools.compare.runs import Run

Outcomes = dict[str, bool]
"""By the image's name: whether the image counts towards a result, for example because it is correct under attack."""

PLACE = " #"
"""Separates a name that several images share from the image's index in the set."""
_PART = "part"
"""The key that distinguishes the rows of the studied images from those of held-out images."""


def outcomes(run: Run, result: Result) -> Outcomes | None:
    """Return each image's contribution to a result, according to ``per_image``; None if the samples do not have it.

    The outcomes are used only if their sum equals value × n.
    """
    if not isinstance(result.value, int | float) or not result.n or not result.per_image:
        return None
    for rows in _groups(run):
        read = {name: _read(result.per_image, dict(_leaves(row))) for name, row in rows.items()}
        known = {name: value for name, value in read.items() if value is not None}
        if len(known) == result.n and abs(sum(known.values()) - result.value * result.n) < 1e-6:
            return known
    return None


def _read(per_image: str, leaves: Mapping[str, Json]) -> bool | None:
    """Read one image's outcome; None if its row does not have it."""
    path, larger, bound = per_image.partition(" > ")
    if larger:
        return _beyond(leaves.get(path, ""), number(bound))
    path, equal, other = per_image.partition(" = ")
    if equal:
        values = leaves.get(path), leaves.get(other)
        return None if None in values else values[0] == values[1]
    value = leaves.get(path)
    return value if isinstance(value, bool) else None


def _beyond(value: Json, bound: float | None) -> bool | None:
    """Return whether a size is larger than a bound; null means that no perturbation was found."""
    if value is None:
        return True
    if bound is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return bool(value > bound * (1 + 1e-6) + 1e-9)


def labels(run: Run) -> dict[str, Json]:
    """Return the label of each image, None for images without labels."""
    return {name: row.get("label") for rows in _groups(run) for name, row in rows.items()}


def _groups(run: Run) -> list[dict[str, Mapping[str, Json]]]:
    """Return the rows by image, separately for each part of the run.

    If names occur more than once, as in a set of digits, images are identified by their index in the set.
    """
    groups: dict[str, list[tuple[str, Mapping[str, Json]]]] = defaultdict(list)
    for row in run.samples or ():
        if isinstance(name := row.get("image"), str):
            groups[str(row.get(_PART))].append((name, row))
    return [_by_image(rows) for rows in groups.values()]


def _by_image(rows: list[tuple[str, Mapping[str, Json]]]) -> dict[str, Mapping[str, Json]]:
    if len(dict(rows)) == len(rows):
        return dict(rows)
    placed = [(f"{name}{PLACE}{row.get('index')}", row) for name, row in rows]
    return dict(placed) if len(dict(placed)) == len(placed) else {}


def _leaves(value: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def number(text: str) -> float | None:
    """Return the text as a finite number, None if it is not one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
