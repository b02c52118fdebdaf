"""Choice of threat models by name and options, such as ``spatial?degrees=10``."""

from __future__ import annotations

from collections.abc import Sequence

from probe.attacks.select import with_options
from probe.attacks.threats import THREATS
from probe.attacks.threats._base import Threat
from probe.core.errors import UsageError


def parse_threats(texts: Sequence[str]) -> dict[str, Threat]:
    """Return the threat models named, or every one for ``all``; raises UsageError for unknown names and options."""
    chosen: dict[str, Threat] = {}
    for text in THREATS.names() if tuple(texts) == ("all",) else texts:
        name = text.strip().partition("?")[0]
        kind = THREATS.get(name)
        if name in chosen:
            raise UsageError(f"The threat model '{name}' is named twice.")
        chosen[name] = with_options(kind, "threat model", text)
    return chosen
