"""Assumed preprocessing: whether it is known to be that of the training."""

from __future__ import annotations

from probe.core.document import Check
from probe.models.chain import data_info
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS
from studies.checks import check_preprocessing


@CHECKS.register("assumed-preprocessing")
def assumed_preprocessing(evidence: Evidence) -> Check:
    """Check whether the images were preprocessed as in the training, or something was assumed.

    The input size and the resizing count only where an image was resized. There is no value.
    """
    space = evidence.space
    return check_preprocessing(data_info(space.model, space.images, space.results.n, fingerprint=False))
