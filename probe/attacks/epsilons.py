"""From the words typed for --eps to numbers: ``0.03``, ``8/255``, ``1/255,4/255`` or ``0:8/255:9``."""

from __future__ import annotations

import math
from fractions import Fraction

from probe.attacks.norms import Norm
from probe.core.errors import UsageError

MOST = 200
"""No curve needs more points."""


def parse_epsilons(text: str, norm: Norm) -> tuple[float, ...]:
    """Return the epsilons, ascending and each once, in pixel units ([0, 1] is black to white; L0: pixels).

    Numbers may be fractions; commas separate several; ``FROM:TO:COUNT`` stands for evenly spaced ones, both ends
    included. Raises UsageError for anything else, for negative or infinite numbers, and for an Linf epsilon above 1.
    """
    parts = [part.strip() for part in text.split(",")]
    values: list[float] = []
    for part in parts:
        values += _range(part, text) if ":" in part else [_number(part, text)]
    for value in values:
        _check(value, norm)
    return tuple(sorted(set(values)))


def _number(word: str, text: str) -> float:
    try:
        value = float(Fraction(word.replace(" ", ""))) if "/" in word else float(word)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(
            f"'{word or text}' is not an epsilon: write a number such as 0.2 or 8/255, several with commas, or "
            "FROM:TO:COUNT such as 0:8/255:9."
        ) from None
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"An epsilon is a finite number of at least 0; got {word}.")
    return value


def _range(part: str, text: str) -> list[float]:
    words = part.split(":")
    if len(words) != 3 or not words[2].strip().isdigit() or not 2 <= int(words[2]) <= MOST:
        raise UsageError(
            f"'{part}' is not FROM:TO:COUNT with a count from 2 to {MOST}: write for example 0:8/255:9."
        )
    first, last, count = _number(words[0].strip(), text), _number(words[1].strip(), text), int(words[2])
    if last <= first:
        raise UsageError(f"In '{part}' the second number must be larger than the first.")
    return [first + (last - first) * step / (count - 1) for step in range(count)]


def _check(value: float, norm: Norm) -> None:
    if norm.name == "Linf" and value > 1:
        raise UsageError(
            f"--eps {value:g} is more than the whole range of a pixel: epsilon is in units of [0, 1]. "
            f"Did you mean {value:g}/255?"
        )
    if norm.name == "L0" and value != int(value):
        raise UsageError(f"--eps counts pixels for L0, so it is a whole number; got {value:g}.")


def shown(value: float, norm: Norm) -> str:
    """Write an epsilon as people do: ``8/255`` where it is one, else three digits."""
    if norm.name == "L0":
        return f"{value:g} pixels"
    scaled = value * 255
    if norm.name == "Linf" and value > 0 and abs(scaled - round(scaled)) < 1e-6:
        return f"{round(scaled)}/255"
    return f"{value:.3g}"
