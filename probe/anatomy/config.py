"""The options of the anatomy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AnatomyConfig:
    """The options of ``probe anatomy``: ``seed`` draws the noise on which the network runs; no number depends on it."""

    seed: int = 0
