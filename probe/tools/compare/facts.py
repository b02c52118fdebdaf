"""Recorded properties that differ between runs, and those of them that can change a number that is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from probe.core.document import Json
from probe.tools.compare.differences import Difference
from probe.tools.compare.pairs import UNATTACKED
from probe.tools.compare.runs import Run

_NEVER = frozenset(
    {"images", "views", "checks", "save_images", "images at once", "jobs", "cluster", "pictured", "layers"}
)
"""Options that decide only what is shown, saved, checked or computed at once."""
_MATCHED = frozenset({"norm", "target", "attacks", "attack options", "restarts", "steps"})
"""Options of an attack that are equal wherever attacked accuracies are compared."""
_OF_LAYERS = frozenset({"channels", "measured channels"})
"""Options by layer, which only the numbers of that layer depend on."""
_OF_ATTACKS = frozenset({"epsilons", "bf16"})

_PARTS = ("model", "data", "config", "environment")
_LEFT_OUT = ("model.notes", "data.skipped")
_LONGEST = 120
NOTHING = "–"


@dataclass(frozen=True)
class Fact:
    """A recorded property that is not the same in all runs, as text for each run."""

    part: str
    name: str
    values: tuple[str, ...]


def differing_facts(runs: Sequence[Run]) -> tuple[Fact, ...]:
    """Return every property that is not the same in all runs: model, data, options, environment, seed."""
    facts = []
    for part in (*_PARTS, "run"):
        columns = [dict(_facts(run, part)) for run in runs]
        for name in dict.fromkeys(name for column in columns for name in column):
            values = tuple(_text(column[name]) if name in column else NOTHING for column in columns)
            if len(set(values)) > 1 and f"{part}.{name}" not in _LEFT_OUT:
                facts.append(Fact(part, name, tuple(map(_short, values))))
    return tuple(facts)


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


def confounds(facts: Sequence[Fact], differences: Sequence[Difference], study: str) -> tuple[Fact, ...]:
    """Return the options, versions and run facts that can change a number that is compared.

    The model and the data are not among them: the networks are what is compared, and the images have their own check.
    """
    names = [difference.name for difference in differences]
    attacked = any(not UNATTACKED.match(name) for name in names)
    return tuple(
        fact
        for fact in facts
        if differences
        and fact.part in ("config", "environment", "run")
        and _can_change(fact, study, attacked, names)
    )


def _can_change(fact: Fact, study: str, attacked: bool, names: Sequence[str]) -> bool:
    option, _, layer = fact.name.partition(".")
    if fact.part != "config":
        return fact.name != "status"
    if option in _OF_LAYERS:
        return any(layer in name for name in names)
    if study != "adversarial":
        return option not in _NEVER
    return option not in _NEVER | _MATCHED and (attacked or option not in _OF_ATTACKS)
