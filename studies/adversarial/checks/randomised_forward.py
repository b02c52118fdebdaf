"""Randomised forward: networks whose outputs differ between passes of the same image."""

from __future__ import annotations

import torch
from torch import Tensor

from probe.core.document import Check
from probe.core.seeds import scoped
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import averaging_attacks, fail_or_warn, fraction_text, sample
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

ACCEPTED = 1e-4
"""Accepted rounding difference between repeated passes, as a part of the largest |logit|."""

_PASSES, _GRADIENT_PASSES = 2, 2


@CHECKS.register("randomised-forward")
def randomised_forward(evidence: Evidence) -> Check:
    """Compare the logits of repeated passes, with gradients and without.

    The first flag of AutoAttack (Croce and Hein 2020): a network with random outputs needs gradients averaged over
    several passes (expectation over transformation, Athalye et al. 2018). The value is the number of images whose
    logits differ by more than 1e-4 of the largest.
    """
    n = sample(evidence)
    changed = int(_differing_images(evidence).sum())
    averaged = averaging_attacks(evidence)
    status: CheckStatus = "pass"
    more = ""
    if changed:
        status = "warn" if averaged else fail_or_warn(evidence)
        more = (
            f": the gradients are averaged by {', '.join(averaged)}, but each prediction is still a single draw"
            if averaged
            else ": average the gradients with `--attack rand` or `--attack pgd?eot=20`"
        )
    detail = (
        f"{fraction_text(changed, n)} get logits that differ by more than {ACCEPTED:g} of the largest between "
        f"{_PASSES} passes without and {_GRADIENT_PASSES} with gradients (accepted: none){more}."
    )
    return Check("Randomised forward", status, changed, detail)


def _differing_images(evidence: Evidence) -> Tensor:
    """Return which images get different logits, (M,); passes with gradients are compared among themselves."""
    model, images = evidence.model, evidence.images
    with scoped(evidence.seed, "check", "randomised"):
        plain = torch.stack([model.verdict(images) for _ in range(_PASSES)])
        with torch.enable_grad():
            x = images.detach().clone().requires_grad_()
            recorded = torch.stack([model(x).detach() for _ in range(_GRADIENT_PASSES)])
    return _differ(plain) | _differ(recorded)


def _differ(passes: Tensor) -> Tensor:
    passes = passes.nan_to_num()
    spread = (passes.amax(0) - passes.amin(0)).amax(1)
    return spread > ACCEPTED * passes.abs().amax((0, 2)).clamp_min(1e-12)
