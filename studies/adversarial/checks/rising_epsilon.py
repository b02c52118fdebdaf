"""Rising epsilon: success of independent attacks at growing epsilon."""

from __future__ import annotations

from probe.attacks.norms import shown
from probe.core.document import Check
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import (
    criterion_text,
    exceeds_chance,
    fail_or_warn,
    images,
    sample,
    unguided,
)
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("rising-epsilon")
def rising_epsilon(evidence: Evidence) -> Check:
    """Compare independent runs of PGD at a quarter, half, all and twice of epsilon.

    Carlini et al. 2019: a larger epsilon must not achieve less. The run's own curve cannot fall, because it keeps
    what smaller epsilons broke; these runs are independent. The value is the largest drop, in images.
    """
    n = sample(evidence)
    falls = _falls(evidence.rising)
    largest = max(falls.values(), default=0)
    within = max((fall for epsilon, fall in falls.items() if epsilon <= evidence.epsilon), default=0)
    status: CheckStatus = "pass"
    more = ""
    if exceeds_chance(largest, n):
        status = fail_or_warn(evidence) if exceeds_chance(within, n) else "warn"
        more = f": the attack gets worse with a larger epsilon: add {unguided(evidence)} and more steps and restarts"
    counts = ", ".join(
        f"{n_broken} at {shown(epsilon, evidence.norm)}" for epsilon, n_broken in evidence.rising
    )
    detail = (
        f"Of {images(n)}, independent runs of PGD broke {counts}; the largest drop is {largest} "
        f"({criterion_text(n)}){more}."
    )
    return Check("Rising epsilon", status, largest, detail)


def _falls(rising: tuple[tuple[float, int], ...]) -> dict[float, int]:
    """Return, for each epsilon, how far its success lies below the best at a smaller one."""
    falls: dict[float, int] = {}
    best = 0
    for epsilon, n_broken in rising:
        falls[epsilon] = best - n_broken if n_broken < best else 0
        best = max(best, n_broken)
    return falls
