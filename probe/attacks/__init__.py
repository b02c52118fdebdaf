"""Attacks: classes whose fields are their options, called as ``PGD(steps=40)(net, images, labels, eps=8/255)``.

``probe.attacks.names()`` lists them, like ``probe attacks``; the classes and their shared code are imported when first
used.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Any

from probe.core.registry import Registry

_SHARED = {
    "ATTACKS": "probe.attacks.base",
    "Attack": "probe.attacks.base",
    "AttackResult": "probe.attacks.base",
    "Traits": "probe.attacks.base",
    "AttackedModel": "probe.attacks.model",
    "Norm": "probe.attacks.norms",
    "Linf": "probe.attacks.norms",
    "L2": "probe.attacks.norms",
    "L1": "probe.attacks.norms",
    "L0": "probe.attacks.norms",
    "choose_attacks": "probe.attacks.select",
    "judge": "probe.attacks.judge",
    "get_norm": "probe.attacks.norms",
    "parse_epsilons": "probe.attacks.norms",
}


def names() -> tuple[str, ...]:
    """Return the names of all attacks, as used on the command line."""
    base = sys.modules.get("probe.attacks.base")  # knows what was registered since
    return base.ATTACKS.names() if base else _entries().names()


@cache
def _entries() -> Registry[Any]:
    return Registry("attack", "probe.attacks.families")


@cache
def _places() -> dict[str, str]:
    return {**{entry.attribute: entry.module for entry in _entries().entries.values()}, **_SHARED}


def __getattr__(name: str) -> Any:
    """Import an attack, or shared code, when it is first used."""
    if name.startswith("_") or name not in _places():
        raise AttributeError(f"module 'probe.attacks' has no attribute '{name}'")
    return getattr(import_module(_places()[name]), name)


def __dir__() -> list[str]:
    return sorted({"names", *_places()})
