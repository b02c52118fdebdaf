"""Are the outputs of ReLUs 0 for every image?"""

from __future__ import annotations

from probe.core.errors import NotApplicableError
from probe.tools.doctor.diagnosis import Diagnosis, Grade
from probe.tools.doctor.evidence import TrainingEvidence, short
from probe.tools.doctor.layer_stats import LayerStats
from probe.tools.doctor.registries import CAUSES

_NAME = "dead-relus"

_ADVICE_START = "Initialise the biases near 0 (not far below) and the weights with He's rule, normalise the input, or use a leaky ReLU."
_ADVICE_AFTER = "Lower the learning rate, normalise before the ReLU, or use a leaky ReLU; a dead unit gets no gradient from these images."


@CAUSES.register("dead-relus", order=13)
def dead_relus(evidence: TrainingEvidence) -> Diagnosis:
    """Count the ReLU units that are 0 on all images, before and after the run."""
    start = evidence.layer_stats
    if not start.units:
        raise NotApplicableError("No ReLU was called.")
    title = "Dead ReLUs"
    if start.mostly_dead:
        # A dead layer passes no gradient on, whatever the learning rate.
        explains = frozenset({"vanishing-gradients", "learning-rate"})
        text = f"{count_text(start)} before the first step."
        return Diagnosis(
            _NAME, _grade(evidence), title, text, _ADVICE_START, certain=False, explains=explains
        )
    after = evidence.after
    if after is not None and after.mostly_dead:
        text = (
            f"{count_text(after)} after {len(evidence.trained.losses)} steps; before the first step there were "
            f"{start.dead:,} of {start.units:,}."
        )
        return Diagnosis(_NAME, _grade(evidence), title, text, _ADVICE_AFTER, certain=False)
    then = f", {after.dead:,} after {len(evidence.trained.losses)} steps" if after is not None else ""
    return Diagnosis(
        _NAME,
        "clear",
        title,
        f"{start.dead:,} of {start.units:,} units are 0 on all {start.images} images before the first step{then}.",
    )


def count_text(census: LayerStats) -> str:
    """Return how many units are dead, and which layer has the most."""
    most = max(census.relus, key=lambda relu: relu.dead / max(1, relu.units))
    return (
        f"{census.dead:,} of {census.units:,} units after a ReLU are 0 on all {census.images} images (most in "
        f"{short(most.name)}: {most.dead:,} of {most.units:,})"
    )


def _grade(evidence: TrainingEvidence) -> Grade:
    return "fault" if evidence.course is not None and evidence.training_failed else "risk"
