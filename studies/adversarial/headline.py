"""The answer first: how fragile, and whether to believe it, in sentences with their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from probe.attacks.epsilons import shown
from probe.core.report import Check, Section, percent
from studies.adversarial.workspace import Workspace


@dataclass(frozen=True)
class Verdict:
    """Whether the evaluation can be believed: ``reliable`` is None when no check was made, or none could be."""

    reliable: bool | None
    text: str
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, checks: Sequence[Check]) -> Verdict:
        """Return the verdict: not to be trusted when a check fails, reliable otherwise."""
        failed = tuple(check.name for check in checks if check.status == "fail")
        warned = tuple(check.name for check in checks if check.status == "warn")
        made = sum(check.status != "not applicable" for check in checks)
        if made == 0:
            return cls(None, "not checked", ())
        if failed:
            return cls(False, f"not to be trusted: {', '.join(failed)}", failed)
        if warned:
            return cls(True, f"reliable, with reservations: {', '.join(warned)}", warned)
        return cls(True, f"reliable: {made} check{'' if made == 1 else 's'} passed", ())


def headline(space: Workspace, sections: Sequence[Section], verdict: Verdict) -> tuple[str, ...]:
    """Return the findings in sentences, the most important first."""
    lines = [_robustness(space), _verdict(verdict, space.phrases.measure), *_smallest(space)]
    lines += [finding for section in sections for finding in section.findings]
    refused = [section.title for section in sections if section.reason]
    if refused:
        lines.append(f"Not applicable here, with the reason in the section: {', '.join(refused)}.")
    return tuple(lines)


def _robustness(space: Workspace) -> str:
    results, model, data = space.results, space.model, space.images
    right, n = int(results.clean_right.sum()), results.n
    robust = int(results.robust(results.worst, space.epsilon).sum())
    accuracy = results.robust_accuracy(results.worst, space.epsilon)
    value = percent(float(accuracy.value or 0), accuracy.ci)
    names = ", ".join(results.attacks)
    if space.config.target is not None:
        return (
            f"{model.name}: within {space.words(space.epsilon)}, {n - robust} of {n} images of {data.name} can be "
            f"moved to the class aimed at ({space.config.target}); {value} (95% interval) resist. Attacks: {names}."
        )
    if not data.labelled:
        return (
            f"{model.name} keeps its answer for {robust} of {n} unlabelled images of {data.name} within "
            f"{space.words(space.epsilon)}: {value} (95% interval). The reference is its own answer without attack; "
            f"nothing is said about accuracy. Attacks: {names}."
        )
    return (
        f"{model.name} names {right} of {n} images of {data.name} right, and {robust} of {n} under attack within "
        f"{space.words(space.epsilon)}: robust accuracy {value} (95% interval), worst case over {names}."
    )


def _verdict(verdict: Verdict, measure: str) -> str:
    if verdict.reliable is None:
        return "Whether this can be believed was not checked."
    if not verdict.reliable:
        return (
            f"This evaluation is not to be trusted: {', '.join(verdict.reasons)}. The {measure} may be too high; "
            "the checks say why and what to do."
        )
    if verdict.reasons:
        return f"This evaluation is reliable, with reservations: {', '.join(verdict.reasons)}."
    return "This evaluation is reliable: no check found a fault in it."


def _smallest(space: Workspace) -> list[str]:
    low, middle, high = space.results.quartiles(space.results.worst)
    if not math.isfinite(middle):
        return []
    upper = shown(high, space.norm) if math.isfinite(high) else "not found"
    phrases = space.phrases
    return [
        f"Half of the images{phrases.were} are {phrases.broken} by a perturbation of {space.words(middle)} or less "
        f"(quartiles {shown(low, space.norm)} and {upper})."
    ]
