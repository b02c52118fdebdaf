"""In what two runs differ before any number was measured: model, data, options, versions, seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from probe.comparison.run import Run
from probe.core.report import Json

_PARTS = ("model", "data", "config", "environment")
_LEFT_OUT = ("model.notes", "data.skipped")
_LONGEST = 120
NOTHING = "–"


@dataclass(frozen=True)
class Fact:
    """One thing in which the runs are not all alike, as text for each run."""

    part: str
    name: str
    values: tuple[str, ...]


def differing(runs: Sequence[Run]) -> tuple[Fact, ...]:
    """Return every fact in which the runs are not all alike, in the order model, data, options, environment, seed."""
    found = []
    for part in (*_PARTS, "run"):
        columns = [dict(_facts(run, part)) for run in runs]
        for name in dict.fromkeys(name for column in columns for name in column):
            values = tuple(_text(column[name]) if name in column else NOTHING for column in columns)
            if len(set(values)) > 1 and f"{part}.{name}" not in _LEFT_OUT:
                found.append(Fact(part, name, tuple(map(_short, values))))
    return tuple(found)


def _facts(run: Run, part: str) -> Iterator[tuple[str, Json]]:
    if part == "run":
        yield from ((key, run.document.get(key)) for key in ("seed", "status"))
        return
    yield from _leaves(run.part(part))


def _leaves(value: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, f"{prefix}{key}.")
        elif prefix or key != "seed":  # the run's own, a line below
            yield f"{prefix}{key}", item


def _text(value: Json) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
