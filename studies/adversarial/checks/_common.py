"""Helpers that the checks share: the sample, what exceeds chance, the status of a failure, and wording."""

from __future__ import annotations

from torch import Tensor

from probe.core.document import Check
from probe.core.errors import NotApplicableError
from probe.core.verdict import CheckStatus
from studies.adversarial.evidence import Evidence

SHARE = 0.05
"""Up to this part of the sample, or one image of several, may be chance."""


def sample(evidence: Evidence) -> int:
    """Return the size of the sample; NotApplicableError when there is none, or no attack is allowed anything."""
    if evidence.n == 0:
        targeted = bool((evidence.results.clean.target >= 0).any())
        none = "Every image is in the target class" if targeted else "No image is classified correctly"
        raise NotApplicableError(f"{none} without attack, so there is nothing to test.")
    if evidence.epsilon <= 0:
        raise NotApplicableError("Epsilon is 0: no attack may change anything.")
    return evidence.n


def unguided(evidence: Evidence) -> str:
    """Return the option of an attack without gradients that supports the run's norm."""
    return f"`--attack {'square' if evidence.norm.name in ('Linf', 'L2') else 'sparse-rs'}`"


def undecided(name: str, reason: str) -> Check:
    """Return a check that applies and could not be made: a warning without a value, unlike one that does not apply."""
    return Check(name, "warn", None, f"This check could not be made: {reason}")


def count(mask: Tensor) -> int:
    """Return how many are true."""
    return int(mask.sum())


def tolerance(n: int) -> int:
    """Return how many of ``n`` images may be chance: one or 5%; none where there is only one image."""
    return max(1, int(SHARE * n)) if n > 1 else 0


def exceeds_chance(hits: int, n: int) -> bool:
    """Tell whether ``hits`` of ``n`` images are more than chance."""
    return hits > tolerance(n)


def criterion_text(n: int) -> str:
    """Write the criterion of ``exceeds_chance``: ``accepted: up to 1``."""
    return f"accepted: up to {tolerance(n)}" if tolerance(n) else "accepted: none"


def fraction_text(hits: int, n: int) -> str:
    """Write ``3 of 16 images``."""
    return f"{hits} of {images(n)}"


def images(n: int) -> str:
    """Write ``16 images``."""
    return f"{n} image{'' if n == 1 else 's'}"


def fail_or_warn(evidence: Evidence) -> CheckStatus:
    """Return 'fail', or 'warn' when the run's attacks broke the whole sample.

    Robust accuracy is an upper bound: where nothing is left, no better attack can lower it.
    """
    return "warn" if bool(evidence.chosen.all()) else "fail"


def averaging_attacks(evidence: Evidence) -> list[str]:
    """Return the run's attacks that average gradients over several passes."""
    return [attack.text for attack in evidence.attacks if getattr(attack.attack, "eot", 1) > 1]


def hint(fired: bool, text: str, evidence: Evidence | None = None) -> str:
    """Return ``: what`` where a check fired, else nothing.

    ``evidence``: where the network's outputs are random or depend on the batch, this is said instead: it alone can
    make a check fire, so no other cause can be given.
    """
    if fired and evidence is not None and bool(evidence.randomised.any()):
        return (
            ": the network's outputs are random, which alone can cause this: average gradients with `--attack rand`, and "
            "read this check again"
        )
    if fired and evidence is not None and evidence.batch.status == "fail":
        return (
            ": the answer for an image depends on the other images of its batch, which alone can cause this"
        )
    return f": {text}" if fired else ""
