"""Whether the preprocessing is known to be that of the training."""

from __future__ import annotations

from probe.core.document import Check
from probe.models.chain import data_info, preprocessing_check
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("assumed-preprocessing")
def assumed_preprocessing(evidence: Evidence) -> Check:
    """Whether the images were preprocessed as in the training, or something was assumed."""
    space = evidence.space
    return preprocessing_check(data_info(space.model, space.images, space.results.n, fingerprint=False))
