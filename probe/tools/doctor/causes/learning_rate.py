"""Is the learning rate too large or too small?"""

from __future__ import annotations

import math

from probe.core.errors import NotApplicableError
from probe.tools.doctor.diagnosis import Diagnosis, course_in_words
from probe.tools.doctor.evidence import TrainingEvidence, short
from probe.tools.doctor.registries import CAUSES
from probe.tools.doctor.sweep import Point, Sweep
from probe.tools.doctor.training_run import EXPLODED, TrainingRun

_NAME = "learning-rate"


@CAUSES.register("learning-rate", order=15)
def learning_rate(evidence: TrainingEvidence) -> Diagnosis:
    """Train at other rates from the same start, to see whether the network learns at one of them."""
    course, rate = evidence.trained, evidence.plan.lr
    title = "Learning rate"
    if evidence.at_once:
        raise NotApplicableError(evidence.unswept)
    if course.outcome == "learned":
        return Diagnosis(
            _NAME, "clear", title, f"At {rate:.3g} {course_in_words(course)}.{_limit(evidence.sweep)}"
        )
    if evidence.sweep is None:
        return _without_sweep(evidence)
    lower = evidence.sweep.learned(below=rate * 0.99)
    if (
        lower is not None
        and course.outcome in ("diverged", "grew", "stalled")
        and not _learns(evidence.sweep, rate)
    ):
        return _too_large(evidence, evidence.sweep, lower)
    higher = evidence.sweep.learned(above=rate * 1.01)
    if higher is not None and course.outcome == "stalled":
        text = (
            f"At {rate:.3g} {course_in_words(course)}, but from the same start {higher.lr:.3g} reduces it from "
            f"{evidence.sweep.before:.3g} to {higher.after:.3g} in {evidence.sweep.steps} steps. {_tried(evidence.sweep)}"
        )
        advice = f"Raise {_advice(evidence.sweep, higher)}, or train for longer."
        return Diagnosis(_NAME, "fault", "Learning rate too small", text, advice, certain=False)
    if course.outcome == "stalled" or lower is None:
        text = (
            f"At {rate:.3g} {course_in_words(course)}; the network does not learn at any of {_span(evidence.sweep)} either, "
            f"in {evidence.sweep.steps} steps each."
        )
        return Diagnosis(_NAME, "clear", title, text)
    return _too_large(evidence, evidence.sweep, lower)


def _too_large(evidence: TrainingEvidence, tried: Sweep, lower: Point) -> Diagnosis:
    course = evidence.trained
    text = (
        f"At {course.lr:.3g} {course_in_words(course)}, but from the same start {lower.lr:.3g} reduces it from "
        f"{tried.before:.3g} to {lower.after:.3g} in {tried.steps} steps.{first_update(course)} {_tried(tried)}{_limit(tried)}"
    )
    return Diagnosis(
        _NAME,
        "fault",
        "Learning rate too large",
        text,
        f"Lower {_advice(tried, lower)}.",
        explains=_explained(evidence),
    )


def _explained(evidence: TrainingEvidence) -> frozenset[str]:
    """Return what a rate that is too large brings about: after a rise of the loss, also values that are not finite."""
    explains = {"overflow"}
    if evidence.trained.exploded or evidence.trained.rising:
        explains |= {"undefined-loss", "undefined-operation"}
    if not evidence.layer_stats.mostly_dead:
        explains |= {"dead-relus"}
    return frozenset(explains)


def first_update(course: TrainingRun) -> str:
    """Return a sentence on the first update if it is many times as large as the weights; else nothing."""
    if course.first_update is None or course.first_update[1] < EXPLODED:
        return ""
    layer, share = course.first_update
    if not math.isfinite(share):
        return f" The first update takes the weights of {short(layer)} beyond the range of float32."
    return f" The first update changes the weights of {short(layer)} by {share:.3g} times their norm."


def _without_sweep(evidence: TrainingEvidence) -> Diagnosis:
    course = evidence.trained
    if course.outcome not in ("diverged", "grew") and not course.exploded:
        raise NotApplicableError(f"The loss hardly changes, and no other rate was tried. {evidence.unswept}")
    text = f"At {course.lr:.3g} {course_in_words(course)}.{first_update(course)} No other rate was tried."
    advice = "Lower the learning rate, or let the sweep find a rate that trains."
    explains = _explained(evidence) if course.exploded else frozenset()
    return Diagnosis(
        _NAME, "fault", "Learning rate too large", text, advice, certain=False, explains=explains
    )


def _learns(tried: Sweep, rate: float) -> bool:
    point = tried.at(rate)
    return point is not None and point.outcome == "learned"


def _limit(tried: Sweep | None) -> str:
    if tried is None or tried.stable is None:
        return ""
    if not tried.bounded:
        return f" The network still learns at the largest rate tried, {tried.stable:.3g}, in {tried.steps} steps."
    return f" In {tried.steps} steps it learns at {_range(tried, tried.stable)}, and not at the next larger rate tried."


def _range(tried: Sweep, stable: float) -> str:
    """Return the rates from the best one to the largest before the first failure."""
    if tried.best is None or tried.best.lr == stable:
        return f"{stable:.3g}"
    return f"the rates tried from {tried.best.lr:.3g} to {stable:.3g}"


def _advice(tried: Sweep, point: Point) -> str:
    return f"the learning rate to {min(point.lr, tried.suggestion or point.lr):.2g}"


def _span(tried: Sweep) -> str:
    return f"{len(tried.points)} rates between {tried.points[0].lr:.2g} and {tried.points[-1].lr:.2g}"


def _tried(tried: Sweep) -> str:
    return f"The sweep tried {_span(tried)}."
