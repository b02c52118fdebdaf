"""Zero epsilon: an attack that may change nothing must change nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from probe.attacks.base import Attack, AttackInputs
from probe.attacks.families.gradient import PGD
from probe.attacks.losses import pick
from probe.core.document import Check
from probe.core.seeds import generator, scoped
from probe.core.verdict import CheckStatus
from studies.adversarial.checks._common import images, sample
from studies.adversarial.evidence import Evidence
from studies.adversarial.registries import CHECKS

IMAGES = 4
SHORT = {"steps": 3, "restarts": 1, "queries": 10, "classes": 1, "eot": 1, "draws": 2}
"""Upper limits of an attack's options here: at epsilon 0 there is nothing to search for."""


@CHECKS.register("zero-epsilon")
def zero_epsilon(evidence: Evidence) -> Check:
    """Run the attacks with epsilon 0: images and predictions must be those without attack.

    Each attack that takes an epsilon, or the reference PGD where none does, is run on four images with few steps. The
    value is the number of attacks at fault.
    """
    sample(evidence)
    moved: list[str] = []
    wrong: list[str] = []
    names = []
    for name, attack in _fixed_attacks(evidence):
        names.append(name)
        outside, success = _at_zero(evidence, name, attack)
        moved += [name] if outside else []
        wrong += [name] if success else []
    status: CheckStatus = "fail" if wrong else "warn" if moved else "pass"
    more = ""
    if wrong:
        reason = (
            "the network's outputs are random"
            if bool(evidence.randomised.any())
            else "the prediction for an image depends on something else than the image, such as the rest of the batch"
        )
        more = f": with {', '.join(wrong)} predictions change nevertheless; {reason}"
    elif moved:
        more = f": {', '.join(moved)} left the ball; such images are projected back before they are judged, so the attack looks weak"
    sample_text = images(min(evidence.n, IMAGES))
    faulty = len({*wrong, *moved})
    detail = (
        f"With epsilon 0, {faulty} of {len(names)} attacks changed an image or a prediction, tried on {sample_text} "
        f"(accepted: none){more}."
    )
    return Check("Zero epsilon", status, faulty, detail)


def _fixed_attacks(evidence: Evidence) -> Iterator[tuple[str, Attack]]:
    fixed = [attack for attack in evidence.attacks if attack.fixed]
    if not fixed:
        yield "the reference PGD", shorten(PGD())
    for attack in fixed:
        yield attack.text, shorten(attack.attack)


def shorten(attack: Attack) -> Attack:
    """Return the attack with its steps, queries, restarts and targets lowered to a few."""
    options: dict[str, Any] = {
        field.name: min(value, SHORT[field.name])
        for field in dataclasses.fields(attack)  # type: ignore[arg-type]
        if field.name in SHORT and isinstance(value := getattr(attack, field.name), int)
    }
    shorter: Attack = dataclasses.replace(attack, **options)  # type: ignore[type-var]
    return shorter


def _at_zero(evidence: Evidence, name: str, attack: Attack) -> tuple[bool, bool]:
    """Return whether any image changed, and whether any prediction did."""
    images, labels = evidence.images[:IMAGES], evidence.labels[:IMAGES]
    goal = (
        None
        if evidence.targets is None
        else pick(evidence.targets, evidence.labels.new_tensor(range(len(labels))))
    )
    draws = generator(evidence.seed, "check", "zero", name)
    with scoped(evidence.seed, "check", "zero", name):
        verdict = attack.judged(AttackInputs(evidence.model, images, labels, evidence.norm, 0.0, draws, goal))
    return bool((verdict.outside | verdict.invalid).any()), bool(verdict.success.any())
