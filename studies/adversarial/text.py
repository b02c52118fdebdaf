"""Headline, verdict, methods paragraph and references of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from probe.attacks.norms import shown
from probe.core.document import Check, Section, percent
from probe.core.verdict import verdict_of
from probe.models.chain import data_info
from studies.adversarial.refine import ACCURACY, END, STEPS
from studies.adversarial.workspace import AdversarialWorkspace, accuracy_of_sizes, refines
from studies.base import WILSON, subject, tools

INDEPENDENT = ("Gradient free", "Black box beats white box")
"""The checks that search without gradients: they alone can tell that the gradients mislead all other attacks."""


@dataclass(frozen=True)
class Reliability:
    """Whether the evaluation can be trusted.

    ``reliable`` is False when a check failed; True when none did, all of the study's checks that apply were made, and
    among them one of ``INDEPENDENT``; and None otherwise: then nothing is said about it.
    """

    reliable: bool | None
    text: str
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, checks: Sequence[Check], n_all: int) -> Reliability:
        """Return the verdict of these checks out of ``n_all``."""
        overall = verdict_of(checks, n_all, INDEPENDENT)
        reasons = tuple(check.name for check in checks if check.status == overall.status)
        reliable = (
            False if overall.status == "fail" else True if overall.word.startswith("Reliable") else None
        )
        return cls(
            reliable,
            f"{overall.word.lower()}: {overall.why}",
            reasons if overall.status in ("warn", "fail") else (),
        )


def headline(
    space: AdversarialWorkspace, sections: Sequence[Section], verdict: Reliability
) -> tuple[str, ...]:
    """Return the findings in sentences, the most important first."""
    lines = [_robustness(space), _verdict(verdict, space.phrases.measure), *_smallest(space)]
    lines += [finding for section in sections for finding in section.findings]
    refused = [section.title for section in sections if section.reason and not section.failed]
    if refused:
        lines.append(f"Not applicable here (each section gives the reason): {', '.join(refused)}.")
    return tuple(lines)


def _robustness(space: AdversarialWorkspace) -> str:
    results, model, data = space.results, space.model, space.images
    n_correct, n = int(results.clean_correct.sum()), results.n
    robust = int(results.robust(results.worst, space.epsilon).sum())
    accuracy = results.robust_accuracy(results.worst, space.epsilon)
    value = percent(float(accuracy.value or 0), accuracy.ci)
    names = ", ".join(results.attacks)
    if space.config.target is not None:
        return (
            f"{model.name}: within {space.words(space.epsilon)}, {n - robust} of {n} images of {data.name} can be "
            f"moved to the target class ({space.config.target}); {value} (95% interval) resist. Attacks: {names}."
        )
    if not data.labelled:
        return (
            f"{model.name} keeps its prediction for {robust} of {n} unlabelled images of {data.name} within "
            f"{space.words(space.epsilon)}: {value} (95% interval). The reference is its own prediction without "
            f"attack, so this says nothing about accuracy. Attacks: {names}."
        )
    return (
        f"{model.name} classifies {n_correct} of {n} images of {data.name} correctly, and {robust} of {n} remain "
        f"correct under attack within {space.words(space.epsilon)}: robust accuracy {value} (95% interval), worst "
        f"case over {names}."
    )


_SENTENCES = {
    "reliable": "This evaluation is reliable: {}.",
    "reliable, with reservations": "This evaluation is reliable, with reservations: {}.",
    "not to be trusted": "This evaluation is not to be trusted: {}.",
    "no fault found": "No fault was found in this evaluation: {}.",
    "with reservations": "This evaluation has to be read with reservations: {}.",
    "not checked": "Whether this evaluation can be trusted was not checked: {}.",
}


def _verdict(verdict: Reliability, measure: str) -> str:
    word, _, why = verdict.text.partition(": ")
    more = (
        f" The {measure} may be too high; the checks say why and how to fix it."
        if verdict.reliable is False
        else ""
    )
    return f"{_SENTENCES[word].format(why)}{more}"


def _smallest(space: AdversarialWorkspace) -> list[str]:
    low, middle, high = space.results.quartiles(space.results.worst)
    if not math.isfinite(middle):
        return []
    upper = shown(high, space.norm) if math.isfinite(high) else "not found"
    phrases = space.phrases
    return [
        f"Half of the images{phrases.were} are {phrases.broken} by a perturbation of {space.words(middle)} or less "
        f"(quartiles {shown(low, space.norm)} and {upper}): upper bounds, from the smallest perturbation found for each "
        f"image{accuracy_of_sizes(space)}."
    ]


_CHECKING = (
    'Carlini et al., "On Evaluating Adversarial Robustness", 2019',
    'Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free '
    'attacks", 2020',
    'Pintor et al., "Indicators of Attack Failure: Debugging and Improving Optimization of Adversarial Examples", 2022',
)


def methods(space: AdversarialWorkspace, checks: Sequence[Check], n: int) -> tuple[str, ...]:
    """Return the sentences of the paragraph; ``n`` images were used."""
    config, norm = space.config, space.norm
    sizes = ", ".join(shown(epsilon, norm) for epsilon in space.results.epsilons if epsilon > 0)
    goal = (
        f"; the attacks were targeted ({config.target})"
        if config.target is not None
        else "; the attacks were untargeted"
    )
    names = ", ".join(attack.text for attack in space.attacks)
    sentences = [
        subject(space.model.info(), data_info(space.model, space.images, n, fingerprint=False)),
        f"It was attacked within {norm.name} balls of radius {sizes} by {names}{goal}.",
        "An image counted as broken only if the unmodified network, evaluated in float32, confirmed it on an "
        "image inside the ball and inside [0, 1]; the worst case over all attacks is reported.",
        *_curve_sentences(space),
        "Proportions have 95% Wilson intervals.",
    ]
    if not space.images.labelled:
        sentences.insert(2, "The reference was the network's own prediction without attack.")
    applied = [check for check in checks if check.status != "not applicable"]
    if applied:
        sentences.append(f"{len(applied)} checks looked for signs that the evaluation itself had failed.")
    return (*sentences, tools(config.seed, torch.__version__))


def _curve_sentences(space: AdversarialWorkspace) -> list[str]:
    """Return how the points of the curve and the smallest perturbations were found."""
    fixed = [attack for attack in space.attacks if attack.fixed]
    sentences = []
    if fixed:
        once = [attack.text for attack in fixed if attack.attack.rules_out_smaller]
        skipped = (
            f"; an image that resisted {' or '.join(once)} was not attacked by it at smaller ones"
            if once
            else ""
        )
        sentences.append(
            f"Attacks were made in full at every epsilon, from the reported one down{skipped}. An image broken at a "
            "smaller epsilon counts as broken at larger ones. Epsilons above the reported one were tried only on images "
            "that were unbroken by then, by all attacks together."
        )
    sizes = "The sizes of smallest perturbations are upper bounds: the smallest found."
    if refines(space):
        sizes += (
            f" From each success of a white-box attack of many steps, PGD of at most {STEPS} steps on the margin searched the "
            "balls of the smaller epsilons before the attack itself was made there. The sizes that white-box attacks found "
            f"were refined by bisection between two epsilons, with the same PGD, until it found nothing smaller by {END:.0%}; "
            f"with other epsilons the quartiles can differ by about {ACCURACY:.0%}."
        )
    return [*sentences, sizes]


_OF_SECTIONS = {
    "corruption": (
        'Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019',
    ),
    "bounds": (
        'Zhang, Weng, Chen, Hsieh and Daniel, "Efficient Neural Network Robustness Certification with General Activation '
        'Functions", NeurIPS 2018',
    ),
    "smoothing": (
        'Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019',
        'Salman et al., "Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers", NeurIPS 2019',
    ),
}


def references(
    space: AdversarialWorkspace, checks: Sequence[Check], sections: Sequence[Section]
) -> tuple[str, ...]:
    """Return the papers behind the attacks, the checks and the sections that were made, each once."""
    papers = [attack.attack.traits.paper for attack in space.attacks]
    made = [paper for section in sections if not section.reason for paper in _OF_SECTIONS.get(section.id, ())]
    tried = {section.id for section in sections if not section.reason}
    threats = space.config.threat_models.values() if "threats" in tried else ()
    made += [threat.paper for threat in threats]
    return tuple(dict.fromkeys([*papers, *(_CHECKING if checks else ()), *made, WILSON]))
