"""What an examination comes to: one Diagnosis for each cause, and all of them in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from probe.tools.doctor.evidence import TrainingEvidence
    from probe.tools.doctor.run import TrainingRun

Grade = Literal["fault", "risk", "clear", "unknown"]
"""fault: explains why the training fails; risk: far from usual, but the training works; unknown: not tested."""

CHAIN = (
    "input-not-finite",
    "labels",
    "weights-not-finite",
    "input-scale",
    "undefined-operation",
    "undefined-loss",
    "overflow",
    "exploding-gradients",
    "dead-relus",
    "vanishing-gradients",
    "learning-rate",
)
"""The causes in the order in which one can bring about another: data, weights, operations, gradients, updates."""


@dataclass(frozen=True)
class Diagnosis:
    """What the evidence says of one cause.

    ``title`` names it in a few words, ``text`` is one sentence with the numbers, ``advice`` what to change (empty
    where nothing is wrong). ``certain`` tells whether it was seen directly or by an experiment that takes the
    cause away; otherwise it is likely. ``explains`` are causes that would be its consequences.
    """

    cause: str
    grade: Grade
    title: str
    text: str
    advice: str = ""
    certain: bool = True
    explains: frozenset[str] = frozenset()

    @property
    def found(self) -> bool:
        """Whether something is wrong or far from usual."""
        return self.grade in ("fault", "risk")


@dataclass(frozen=True)
class Findings:
    """All diagnoses of an examination, sorted.

    ``faults`` explain the failure, the most likely first; ``consequences`` are what they bring about; ``risks`` did
    no harm in this run; ``others`` found nothing. ``evidence`` holds the numbers that all of them looked at.
    """

    faults: tuple[Diagnosis, ...]
    consequences: tuple[Diagnosis, ...]
    risks: tuple[Diagnosis, ...]
    others: tuple[Diagnosis, ...]
    evidence: TrainingEvidence = field(repr=False)

    @property
    def cause(self) -> str | None:
        """The most likely cause: of the failure, else of what is far from usual; None when nothing was found."""
        first = (*self.faults, *self.risks)[:1]
        return first[0].cause if first else None

    @property
    def healthy(self) -> bool:
        """Whether the network learned and nothing was found."""
        return self.cause is None and self.course is not None and self.course.outcome == "learned"

    @property
    def course(self) -> TrainingRun | None:
        """The training run that was watched; None when no step could be made."""
        return self.evidence.course

    @property
    def all(self) -> tuple[Diagnosis, ...]:
        """Every diagnosis: faults, consequences, risks, others."""
        return (*self.faults, *self.consequences, *self.risks, *self.others)

    @property
    def text(self) -> str:
        """What was found, one sentence a line: the cause with its numbers, and what to change."""
        from probe.tools.doctor.wording import sentences

        return "\n".join(sentences(self))

    def __str__(self) -> str:
        """Return the text."""
        return self.text


def sort(diagnoses: tuple[Diagnosis, ...], evidence: TrainingEvidence) -> Findings:
    """Part causes from their consequences, and put them into the order of ``CHAIN``.

    What a fault explains is a consequence of it, unless it comes before that fault in the chain and explains it.
    """
    ordered = sorted(diagnoses, key=lambda one: (CHAIN.index(one.cause), one.cause))
    faults: list[Diagnosis] = []
    consequences: list[Diagnosis] = []
    for one in (one for one in ordered if one.found):
        others = (other for other in ordered if other.grade == "fault" and other is not one)
        earlier = CHAIN.index(one.cause)
        explained = any(
            one.cause in other.explains
            and (CHAIN.index(other.cause) < earlier or other.cause not in one.explains)
            for other in others
        )
        if explained:
            consequences.append(one)
        elif one.grade == "fault":
            faults.append(one)
    kept = (*faults, *consequences)
    return Findings(
        faults=tuple(sorted(faults, key=lambda one: not one.certain)),
        consequences=tuple(consequences),
        risks=tuple(one for one in ordered if one.grade == "risk" and one not in kept),
        others=tuple(one for one in ordered if not one.found),
        evidence=evidence,
    )
