"""What can be proved, and with which options: ``bounds``, ``smoothing?sigma=0.25&n=1000``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from probe.core.errors import UsageError, unknown
from probe.core.option_string import parse_options


@dataclass(frozen=True)
class Bounds:
    """Linear bounds of the network itself. ``images``: how many, at most."""

    images: int = 20

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _positive(self, "images")


@dataclass(frozen=True)
class Smoothing:
    """Randomised smoothing: ``sigma`` of the noise in pixel units, votes ``n0`` and ``n``, error ``alpha`` a certificate.

    ``images``: how many, at most; ``batch``: noisy copies at once. Cohen et al. 2019 have n0 = 100, n = 100,000, alpha = 0.001.
    """

    sigma: float = 0.25
    n0: int = 100
    n: int = 1000
    alpha: float = 0.001
    images: int = 20
    batch: int = 100

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _positive(self, "n0", "n", "images", "batch")
        for name, most in (("sigma", float("inf")), ("alpha", 0.5)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < most:
                limit = "" if most == float("inf") else f" and below {most:g}"
                raise UsageError(f"smoothing: {name} must be a number above 0{limit}; got {value!r}.")


KINDS: dict[str, type[Bounds] | type[Smoothing]] = {"bounds": Bounds, "smoothing": Smoothing}


def parse_certificates(texts: Sequence[str]) -> dict[str, Bounds | Smoothing]:
    """Return the options of every certificate named; raises UsageError for unknown names and options."""
    chosen: dict[str, Bounds | Smoothing] = {}
    for text in texts:
        name, mark, query = text.partition("?")
        if name not in KINDS:
            raise unknown("certificate", name, tuple(KINDS))
        options = parse_options(query, text) if mark else {}
        known = [each.name for each in dataclasses.fields(KINDS[name])]
        for option in options:
            if option not in known:
                raise unknown(f"option of {name}", option, known)
        if name in chosen:
            raise UsageError(f"The certificate '{name}' is named twice.")
        chosen[name] = KINDS[name](**options)
    return chosen


def _positive(options: Bounds | Smoothing, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(
                f"{type(options).__name__.lower()}: {name} must be a whole number above 0; got {value!r}."
            )
