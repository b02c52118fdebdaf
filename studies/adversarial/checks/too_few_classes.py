"""Are there enough classes for the DLR loss?"""

from __future__ import annotations

from probe.attacks.select import SelectedAttack
from probe.core.document import Check
from probe.core.errors import NotApplicableError
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

TARGETED = ("apgd-t", "standard")
"""Attacks that climb the targeted DLR loss."""

UNTARGETED = ("apgd-dlr", "rand")


@CHECKS.register("too-few-classes")
def too_few_classes(evidence: Evidence) -> Check:
    """Compare the number of classes with what the losses of the run's attacks need.

    The difference of logits ratio (Croce and Hein 2020) divides by the distance to the third largest logit, its
    targeted version to the third and fourth: 3 and 4 classes at least. With fewer, probe climbs the plain
    difference of logits (two classes) or divides by the distance to the third (three, targeted). The
    value is the number of classes.
    """
    aimed = bool((evidence.results.clean.target >= 0).any())
    needs = {one.text: need for one in evidence.attacks if (need := _needed(one, aimed))}
    if not needs:
        raise NotApplicableError("No attack of the run climbs the DLR loss.")
    classes = evidence.num_classes
    short = [name for name, need in needs.items() if classes < need]
    if not short:
        need = max(needs.values())
        detail = f"The network has {classes} classes and the DLR loss of {', '.join(needs)} needs {need}."
        return Check("Too few classes", "pass", classes, detail)
    used = (
        "the plain difference of logits"
        if classes < 3
        else "the ratio to the distance between the first and the third logit"
    )
    detail = (
        f"The network has {classes} classes, fewer than the {max(needs[name] for name in short)} that the DLR loss of "
        f"{', '.join(short)} needs, so {used} was climbed instead: numbers of these attacks are not those of the "
        "published ones, and `pgd?loss=margin` says the same more plainly."
    )
    return Check("Too few classes", "warn", classes, detail)


def _needed(one: SelectedAttack, aimed: bool) -> int:
    """Return how many classes the attack's DLR loss needs, 0 when it climbs another loss."""
    if one.name in TARGETED:
        return 4
    if one.name in UNTARGETED or getattr(one.attack, "loss", "") == "dlr":
        return 4 if aimed else 3
    return 0
