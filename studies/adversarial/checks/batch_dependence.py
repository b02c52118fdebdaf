"""Batch dependence: whether the answer for an image depends on the other images of its batch."""

from __future__ import annotations

from probe.core.document import Check
from studies.adversarial.checks._common import undecided
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS


@CHECKS.register("batch-dependence")
def batch_dependence(evidence: Evidence) -> Check:
    """Compare each image's logits alone with those in a batch.

    An attack that changes all images of a batch would change the answer for each of them through the others. The value
    is the number of images whose logits differ.
    """
    found = evidence.batch
    if found.status == "not applicable" and evidence.results.n > 1:
        return undecided(found.name, found.detail)
    return found
