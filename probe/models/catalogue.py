"""What can be loaded, where its weights would come from, and whether they are here now."""

from __future__ import annotations

from fnmatch import fnmatchcase

from probe.models.source import SOURCES, Row

__all__ = ["Row", "catalogue"]


def catalogue(query: str = "") -> tuple[Row, ...]:
    """Return the networks that match a query, in the order in which bare names are looked up.

    ``SOURCE:`` keeps one source's networks; the rest is a part of the name, or a pattern with ``*`` and
    ``?``; case does not matter. Nothing is downloaded, and no network is built.
    """
    prefix, colon, rest = query.strip().partition(":")
    wanted = prefix if colon and prefix in SOURCES else None
    text = (rest if wanted else query).strip().lower()
    sources = {name: SOURCES.get(name)() for name in SOURCES if wanted in (None, name)}
    ranked = sorted(sources.values(), key=lambda source: 99 if source.rank is None else source.rank)
    return tuple(row for source in ranked for row in source.rows() if _matches(row.name.lower(), text))


def _matches(name: str, text: str) -> bool:
    return fnmatchcase(name, text) if any(mark in text for mark in "*?[") else text in name
