"""What the hunt tries: one file a kind, with its ``NAME``, the ``strategy()`` that generates examples, and an ``attempt``.

``attempt(example, folder)`` returns what became of an example. It raises where a user's input ends as an exception that is
no ProbeError, or where something is read otherwise than plain PyTorch reads it and nothing is said about it.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

KINDS: dict[str, ModuleType] = {}
"""Name → module."""

for _found in pkgutil.iter_modules(__path__):
    _module = import_module(f"{__name__}.{_found.name}")
    if hasattr(_module, "attempt"):
        KINDS[_module.NAME] = _module
