"""What the checks share: when there is a sample, what is more than chance, and how grave a fault is."""

from __future__ import annotations

from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.core.verdict import CheckStatus
from studies.adversarial.evidence import Evidence

SHARE = 0.05
"""Up to this part of the sample, or one image of several, is taken for chance."""


def sample(evidence: Evidence) -> int:
    """Return the size of the sample; NotApplicableError when there is none, or no attack is allowed anything."""
    if evidence.n == 0:
        aimed = bool((evidence.results.clean.target >= 0).any())
        none = "Every image is at the class aimed at" if aimed else "No image is right"
        raise NotApplicableError(f"{none} without attack, so there is nothing to experiment on.")
    if evidence.epsilon <= 0:
        raise NotApplicableError("Epsilon is 0: no attack may change anything.")
    return evidence.n


def count(mask: Tensor) -> int:
    """Return how many are true."""
    return int(mask.sum())


def tolerated(n: int) -> int:
    """Return how many of ``n`` images are taken for chance: one or 5%; none where there is only one image."""
    return max(1, int(SHARE * n)) if n > 1 else 0


def exceeds_chance(found: int, n: int) -> bool:
    """Tell whether ``found`` of ``n`` images are more than chance."""
    return found > tolerated(n)


def criterion_text(n: int) -> str:
    """Write the criterion of ``exceeds_chance``: ``accepted: up to 1``."""
    return f"accepted: up to {tolerated(n)}" if tolerated(n) else "accepted: none"


def fraction_text(found: int, n: int) -> str:
    """Write ``3 of 16 images``."""
    return f"{found} of {images(n)}"


def images(n: int) -> str:
    """Write ``16 images``."""
    return f"{n} image{'' if n == 1 else 's'}"


def fail_or_warn(evidence: Evidence) -> CheckStatus:
    """Return 'fail', or 'warn' when the run's attacks broke the whole sample.

    Robust accuracy is an upper bound: where nothing is left, no better attack can lower it.
    """
    return "warn" if bool(evidence.chosen.all()) else "fail"


def averaging(evidence: Evidence) -> list[str]:
    """Return the run's attacks that average their gradients over several passes."""
    return [one.text for one in evidence.attacks if getattr(one.attack, "eot", 1) > 1]


def hint(fired: bool, what: str) -> str:
    """Return ``: what`` where a check fired, else nothing."""
    return f": {what}" if fired else ""
