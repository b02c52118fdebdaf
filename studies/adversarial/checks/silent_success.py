"""Silent success: attacks that found an adversarial example and returned another image."""

from __future__ import annotations

from probe.core.document import Check
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("silent-success")
def silent_success(evidence: Evidence) -> Check:
    """Count how often an attack of the run found an adversarial example and did not return it.

    The third indicator of Pintor et al. 2022. probe's own attacks return the first adversarial image they meet; those
    of other libraries are monitored, and what they passed counts as found, so that the robust accuracy stays valid.
    The value is the number of times, over all images and epsilons.
    """
    rescued = {name: outcome.rescued for name, outcome in evidence.results.attacks.items()}
    total = sum(rescued.values())
    if total == 0:
        names = ", ".join(rescued)
        detail = f"No attack of the run ({names}) found an adversarial image and returned another."
        return Check("Silent success", "pass", 0, detail)
    counts = ", ".join(f"{name} {times} times" for name, times in rescued.items() if times)
    detail = (
        f"An attack found an adversarial image and returned another {total} times over all images and epsilons "
        f"(accepted: never): {counts}; these images count as broken here, but elsewhere these attacks look weaker "
        "than they are: use one that stops at its first success, such as pgd."
    )
    return Check("Silent success", "warn", total, detail)
