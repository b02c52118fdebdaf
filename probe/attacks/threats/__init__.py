"""Threat models that no norm describes: each file registers one, a class whose fields are its options.

Importing this package does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.attacks.threats._base import Threat

THREATS: Registry[type[Threat]] = Registry("threat model", "probe.attacks.threats")
