"""The attacks as a list for people."""

from __future__ import annotations

import dataclasses

from probe.attacks.attack import ATTACKS, Attack, summary


def attack_rows(query: str = "") -> list[tuple[str, ...]]:
    """Return one row per attack: name, norms, access, kind, target, origin, options, summary, paper.

    ``query`` keeps attacks in whose name, norms, access, kind or origin it occurs; a norm has to be written whole.
    """
    rows = [_row(name, ATTACKS.get(name)) for name in ATTACKS]
    word = query.strip().lower()
    return [row for row in rows if not word or _fits(row, word)]


def _fits(row: tuple[str, ...], word: str) -> bool:
    name, norms, access, kind, _, origin, *_ = row
    return word in norms.lower().split() or any(word in part.lower() for part in (name, access, kind, origin))


def _row(name: str, kind: type[Attack]) -> tuple[str, ...]:
    traits = kind.traits
    options = " ".join(f"{field.name}={field.default}" for field in dataclasses.fields(kind))  # type: ignore[arg-type]
    way = "minimum-norm" if traits.minimum_norm else "within epsilon"
    return (
        name,
        " ".join(traits.norms),
        traits.access,
        f"{way}, transfer" if traits.transfer else way,
        "yes" if traits.targeted else "no",
        traits.origin,
        options or "–",
        summary(kind),
        traits.paper,
    )
