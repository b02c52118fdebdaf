"""Are there NaN or infinite pixels?"""

from __future__ import annotations

import torch

from probe.tools.doctor.diagnosis import Diagnosis
from probe.tools.doctor.evidence import TrainingEvidence
from probe.tools.doctor.registries import CAUSES

_NAME = "input-not-finite"


@CAUSES.register("input-not-finite", order=1)
def input_not_finite(evidence: TrainingEvidence) -> Diagnosis:
    """Look for NaN and infinity in the images."""
    images = evidence.plan.images
    title = "NaN or infinity in the input"
    if not images.is_floating_point():
        return Diagnosis(_NAME, "clear", title, f"All {len(images):,} images have an integer type.")
    bad = ~torch.isfinite(images)
    which = bad.flatten(1).any(1).nonzero().flatten().tolist()
    if not which:
        return Diagnosis(_NAME, "clear", title, f"All values of the {len(images):,} images are finite.")
    nan = int(torch.isnan(images).sum())
    listed = ", ".join(map(str, which[:5])) + (", …" if len(which) > 5 else "")
    return Diagnosis(
        _NAME,
        "fault",
        title,
        f"{len(which):,} of {len(images):,} images have {nan:,} NaN and {int(bad.sum()) - nan:,} infinite values "
        f"(images {listed}, counted from 0).",
        "Repair or remove these images, and find the reason: a division by 0 in the normalisation, a damaged file, or a "
        "logarithm of 0.",
        explains=frozenset(CAUSES) - {_NAME, "labels"},
    )
