"""Shares of images along an axis, as several views draw them."""

from __future__ import annotations

from collections.abc import Iterable

from probe.core.blocks import Series
from probe.core.stats import wilson
from studies.adversarial.workspace import AdversarialWorkspace


def shares(label: str, places: Iterable[float], counts: Iterable[int], n: int) -> Series:
    """Return counts of ``n`` images as a line of shares over ``places``, with 95% Wilson intervals."""
    found = [int(count) for count in counts]
    ends = [wilson(count, n) for count in found]
    return Series(
        label,
        tuple(map(float, places)),
        tuple(count / n for count in found),
        tuple(low for low, _ in ends),
        tuple(high for _, high in ends),
    )


def accuracy_word(space: AdversarialWorkspace) -> str:
    """Return what the share of right images is called: accuracy, or agreement without labels."""
    return "accuracy" if space.images.labelled else "agreement"
