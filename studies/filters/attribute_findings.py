"""What the attribution view concludes: numbered results, sentences and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probe.core.report import Check, CheckStatus, Result
from studies.filters.attribute_report import ACCEPTED_ERROR, Explained
from studies.filters.attribute_trust import HARDLY, Randomised


def results(found: Sequence[Explained], left: Mapping[str, Randomised]) -> tuple[Result, ...]:
    """Return the numbers of the table under ``attribution.<method>.<what>``."""
    kept: list[Result] = []
    for one in found:
        name = f"attribution.{one.method.key}"
        if one.completeness is not None:
            error = one.completeness
            kept.append(
                Result(
                    f"{name}.completeness_error", error.typical, len(error.relative), higher_is_better=False
                )
            )
        if one.method.key in left:
            both = left[one.method.key]
            for part, value in (("classifier", both.classifier), ("random", both.everything)):
                kept.append(
                    Result(f"{name}.spearman_{part}", value.value, value.n, value.ci, higher_is_better=False)
                )
        if one.maps is not None:
            kept.append(Result(f"{name}.seconds", round(one.seconds, 3), len(one.maps), unit="s"))
    return tuple(kept)


def findings(found: Sequence[Explained], left: Mapping[str, Randomised]) -> tuple[str, ...]:
    """Say in one or two sentences which maps depend on the network and which do not."""
    judged = [
        (one.method.title, left[one.method.key])
        for one in found
        if one.method.key in left
        and left[one.method.key].everything.value is not None
        and left[one.method.key].classifier.value is not None
    ]
    if not judged:
        return ()
    n = max(both.everything.n for _, both in judged)
    images = f"{n} image" if n == 1 else f"{n} images"
    kept = [(title, both) for title, both in judged if _kept(both) >= HARDLY]
    lowest, least = min(judged, key=lambda pair: _kept(pair[1]))
    sentences = [
        f"{title} maps hardly change when {_what(both)} redrawn (ρ = {_kept(both):.2f}, {images}): "
        "do not read them as an explanation of the class."
        for title, both in kept
    ]
    if _kept(least) < HARDLY:
        sentences.append(
            f"{lowest} depends most on the weights: ρ = {least.classifier.value:.2f} with the classifier and "
            f"{least.everything.value:.2f} with all layers redrawn ({images})."
        )
    return tuple(sentences)


def _kept(both: Randomised) -> float:
    return max(both.classifier.value or 0.0, both.everything.value or 0.0)


def _what(both: Randomised) -> str:
    return "every weight is" if (both.everything.value or 0.0) >= HARDLY else "the classifier is"


def checks(found: Sequence[Explained], left: Mapping[str, Randomised], reason: str) -> tuple[Check, ...]:
    """Return two checks: do the maps add up where they should, and do they depend on the weights."""
    return (_completeness_check(found), _randomisation_check(found, left, reason))


def _completeness_check(found: Sequence[Explained]) -> Check:
    name = "attribution: completeness"
    errors = {
        one.method.title: one.completeness.typical
        for one in found
        if one.completeness is not None and one.completeness.typical is not None
    }
    if not errors:
        return Check(
            name, "not applicable", None, "No map has a sum that is defined and large enough to compare."
        )
    worst = max(errors.values())
    said = ", ".join(f"{title} {100 * error:.2g}%" for title, error in errors.items())
    status: CheckStatus = "pass" if worst <= ACCEPTED_ERROR else "warn"
    return Check(
        name, status, worst, f"Median relative error: {said}; up to {100 * ACCEPTED_ERROR:.0f}% is accepted."
    )


def _randomisation_check(found: Sequence[Explained], left: Mapping[str, Randomised], reason: str) -> Check:
    name = "attribution: maps depend on the learned weights"
    if not left:
        return Check(name, "not applicable", None, reason or "No map could be compared.")
    kept = [
        one.method.title for one in found if one.method.key in left and _kept(left[one.method.key]) >= HARDLY
    ]
    said = f"Hardly changed by redrawn weights (ρ ≥ {HARDLY}): {', '.join(kept) or 'none'}."
    return Check(name, "warn" if kept else "pass", len(kept), said)
