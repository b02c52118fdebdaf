"""Incomplete optimisation: attacks whose loss was still rising when they stopped."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.attacks.families.gradient import Trace
from probe.core.document import Check
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import (
    count,
    criterion_text,
    exceeds_chance,
    fraction_text,
    hint,
    images,
    sample,
)
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

NAME = "Incomplete optimisation"
LIMIT = 0.05
LAST = 10
_FLAT = 1e-5


@CHECKS.register("incomplete-optimisation")
def incomplete_optimisation(evidence: Evidence) -> Check:
    """Count the images that stayed robust although the loss still rose in the attack's last ten steps.

    The fourth indicator of Pintor et al. 2022, with their limit of 0.05 for the range of the last ten losses. Here
    each image's loss is divided by its range over the whole run, and the best loss so far is used, so that an attack
    that oscillates around its maximum does not count as rising. The run is that of the first ``pgd`` among the run's
    attacks, else of the reference PGD on the margin. The latter is not the run's own attack, so it counts only where
    a longer one breaks what the run did not. The value is the number of images.
    """
    n = sample(evidence)
    name, climb = evidence.traced
    robust = ~climb.verdict.success
    if not bool(robust.any()):
        return Check(
            NAME, "pass", 0, f"All {images(n)} were broken by {name}, so no optimisation was cut short."
        )
    rises = last_rises(climb.trace)
    n_rising = count(robust & (rises > LIMIT))
    fired = exceeds_chance(n_rising, n)
    status: CheckStatus = "pass"
    more = ""
    if fired:
        more = hint(True, "raise `--steps`, or let apgd-ce and apgd-dlr choose the step size", evidence)
        if exceeds_chance(count(evidence.longer & ~evidence.chosen), n):
            status = "fail"
        elif climb is evidence.reference_run:
            more = "; a longer run breaks nothing that the run's own attacks did not"
        else:
            status = "warn"
    detail = (
        f"{fraction_text(count(robust), n)} resisted {name}, and for {n_rising} of them the loss still rose by more than "
        f"{100 * LIMIT:.0f}% of its range in the last {LAST} steps ({criterion_text(n)}){more}."
    )
    return Check(NAME, status, n_rising, detail)


def last_rises(trace: Trace) -> Tensor:
    """Return the rise of the best loss in the last ten steps, as a part of the loss's whole range, (M,).

    Not-a-number for images that were dropped; 0 where the loss does not change.
    """
    losses = torch.stack(trace.losses).double()
    low, high = losses.amin(0), losses.amax(0)
    best = losses.cummax(0).values
    rise = best[-1] - best[max(len(best) - 1 - LAST, 0)]
    flat = high - low <= _FLAT * high.abs().clamp_min(1e-12)
    return torch.where(flat, torch.zeros_like(rise), rise / (high - low).clamp_min(1e-30))
