"""Unavailable gradients: images without a gradient where the attack starts."""

from __future__ import annotations

import torch

from probe.core.document import Check
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import (
    exceeds_chance,
    fail_or_warn,
    fraction_text,
    sample,
    unguided,
)
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("unavailable-gradients")
def unavailable_gradients(evidence: Evidence) -> Check:
    """Measure for which part of the sample the attack's first step has no gradient to follow.

    The first indicator of Pintor et al. 2022. This looks at the attack's random start within epsilon, not at the
    clean images. A gradient that is not finite counts as missing. The value is the part of the sample.
    """
    n = sample(evidence)
    sizes = evidence.reference_run.trace.gradients
    n_missing = n if sizes is None else int((sizes == 0).sum() + (~torch.isfinite(sizes)).sum())
    status: CheckStatus = "pass"
    more = ""
    if n_missing:
        status = fail_or_warn(evidence) if exceeds_chance(n_missing, n) else "warn"
        more = f": the attack cannot take a step: use an attack without gradients ({unguided(evidence)})"
    detail = (
        "At its random start the reference PGD has a gradient of the margin that is zero or not finite for "
        f"{fraction_text(n_missing, n)} (accepted: none; a single one gives a warning){more}."
    )
    return Check("Unavailable gradients", status, n_missing / n, detail)
