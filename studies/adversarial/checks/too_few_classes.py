"""Too few classes: networks with fewer classes than the DLR loss needs."""

from __future__ import annotations

from probe.attacks.select import SelectedAttack
from probe.core.document import Check
from probe.core.errors import NotApplicableError
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

TARGETED = ("apgd-t", "standard")
"""Attacks that maximise the targeted DLR loss."""

UNTARGETED = ("apgd-dlr", "rand")


@CHECKS.register("too-few-classes")
def too_few_classes(evidence: Evidence) -> Check:
    """Compare the number of classes with what the losses of the run's attacks need.

    The difference of logits ratio (Croce and Hein 2020) divides by the distance to the third largest logit, its
    targeted version to the third and fourth: 3 and 4 classes at least. With fewer, probe maximises the plain
    difference of logits (two classes) or divides by the distance to the third (three, targeted). The value is the
    number of classes.
    """
    targeted = bool((evidence.results.clean.target >= 0).any())
    needs = {attack.text: need for attack in evidence.attacks if (need := _classes_needed(attack, targeted))}
    if not needs:
        raise NotApplicableError("No attack of the run uses the DLR loss.")
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
        f"The network has {classes} classes, fewer than the {max(needs[name] for name in short)} that the DLR "
        f"loss of {', '.join(short)} needs, so the attacks used {used} instead: their numbers cannot be compared "
        "with those of the published attacks, and `pgd?loss=margin` is the simpler choice."
    )
    return Check("Too few classes", "warn", classes, detail)


def _classes_needed(selected: SelectedAttack, targeted: bool) -> int:
    """Return how many classes the attack's DLR loss needs, 0 when it uses another loss."""
    if selected.name in TARGETED:
        return 4
    if selected.name in UNTARGETED or getattr(selected.attack, "loss", "") == "dlr":
        return 4 if targeted else 3
    return 0
