"""The methods paragraph of an adversarial evaluation, ready to be pasted, and the works that it rests on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from probe.attacks.epsilons import shown
from probe.core.report import Check
from probe.models.methods import WILSON, subject, tools
from studies.adversarial.workspace import Workspace

_CHECKING = (
    'Carlini et al., "On Evaluating Adversarial Robustness", 2019',
    'Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free '
    'attacks", 2020',
    'Pintor et al., "Indicators of Attack Failure: Debugging and Improving Optimization of Adversarial Examples", 2022',
)


def methods(space: Workspace, checks: Sequence[Check], n: int) -> tuple[str, ...]:
    """Return the sentences of the paragraph; ``n`` images were used."""
    config, norm = space.config, space.norm
    sizes = ", ".join(shown(epsilon, norm) for epsilon in space.results.epsilons if epsilon > 0)
    aim = (
        f"; they aimed at the class {config.target}"
        if config.target is not None
        else "; they looked for any other class"
    )
    names = ", ".join(one.text for one in space.attacks)
    sentences = [
        subject(space.model.info(), space.images.info(n, fingerprint=False)),
        f"It was attacked within {norm.name} balls of radius {sizes} by {names}{aim}.",
        "An image counted as broken only where the plain network in float32 decided so on an image inside the ball "
        "and inside [0, 1]; the worst case over all attacks is reported.",
        "Proportions have 95% Wilson intervals.",
    ]
    if not space.images.labelled:
        sentences.insert(2, "The reference was the network's own answer without attack.")
    made = [check for check in checks if check.status != "not applicable"]
    if made:
        sentences.append(f"{len(made)} checks looked for signs that the evaluation itself had failed.")
    return (*sentences, tools(config.seed, torch.__version__))


def references(space: Workspace, checks: Sequence[Check]) -> tuple[str, ...]:
    """Return the works behind the attacks and the checks, each once."""
    papers = [one.attack.traits.paper for one in space.attacks]
    return tuple(dict.fromkeys([*papers, *(_CHECKING if checks else ()), WILSON]))
