"""Results of a run: the outcomes of all batches, and the numbers computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.document import Result
from studies.adversarial.outcome import Outcome

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Clean:
    """The images without attack, (N,) each: index in the set, reference class, prediction and confidence.

    ``target`` is the target class, −1 in an untargeted run.
    """

    index: NDArray[Any]
    label: NDArray[Any]
    prediction: NDArray[Any]
    confidence: NDArray[Any]
    target: NDArray[Any]


@dataclass(frozen=True)
class Results:
    """All outcomes, over the same N images.

    ``attacks`` has the outcome of each attack by its text with options; ``worst`` is, image by image, that of the
    best. ``epsilons`` are those of the curve, ascending, 0 first; ``epsilon`` the one that is reported. ``images``,
    where they were kept, (N, C, H, W) float32: the adversarial images that ``worst`` describes, else the images
    themselves.
    """

    clean: Clean
    attacks: Mapping[str, Outcome]
    worst: Outcome
    epsilons: tuple[float, ...]
    epsilon: float
    images: NDArray[Any] | None = None

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.clean.index)

    @property
    def correct(self) -> Bools:
        """Images that an attack can break: classified correctly, or in a targeted run not in the target class."""
        return np.asarray(self.worst.smallest > 0)

    @property
    def clean_correct(self) -> Bools:
        """Images whose prediction without attack is their reference class, in a targeted run too."""
        return np.asarray(self.clean.prediction == self.clean.label)

    def worst_at(self, index: NDArray[Any]) -> Outcome:
        """Return the worst case of the images that have these numbers in the set, in their order."""
        rows = [int(np.flatnonzero(self.clean.index == number)[0]) for number in index]
        return Outcome(
            totals=np.zeros(4),
            **{
                field.name: getattr(self.worst, field.name)[rows]
                for field in fields(Outcome)
                if field.name != "totals"
            },
        )

    def robust(self, outcome: Outcome, epsilon: float) -> Bools:
        """Return which images remain correct (targeted: outside the target class) within ``epsilon``, (N,)."""
        return np.asarray(~outcome.success(epsilon))

    def robust_accuracy(self, outcome: Outcome, epsilon: float, name: str = "robust_accuracy") -> Result:
        """Return the part of the images that are ``robust`` within ``epsilon``, with its Wilson interval."""
        attack = next((key for key, value in self.attacks.items() if value is outcome), None)
        path = "smallest_epsilon" if attack is None else f"attacks.{attack}.smallest_epsilon"
        return Result.proportion(
            name,
            int(self.robust(outcome, epsilon).sum()),
            self.n,
            higher_is_better=True,
            per_image=f"{path} > {epsilon!r}",
        )

    def success_rate(self, outcome: Outcome, epsilon: float, name: str = "success_rate") -> Result:
        """Return the part of the images in ``correct`` that are broken within ``epsilon``."""
        correct = self.correct
        broken = int((outcome.success(epsilon) & correct).sum())
        return Result.proportion(name, broken, int(correct.sum()), higher_is_better=False)

    def quartiles(self, outcome: Outcome) -> tuple[float, float, float]:
        """Return the quartiles of the smallest perturbation over images in ``correct``; inf where none was found."""
        return quartiles(outcome.smallest[self.correct])


def quartiles(values: Sequence[float] | NDArray[Any]) -> tuple[float, float, float]:
    """Return three quartiles by the lower of two neighbours, so that infinite values do no harm; nan when empty."""
    data = np.sort(np.asarray(values, dtype=np.float64))
    if data.size == 0:
        return float("nan"), float("nan"), float("nan")
    low, middle, high = (float(data[int((data.size - 1) * part)]) for part in (0.25, 0.5, 0.75))
    return low, middle, high


@dataclass(frozen=True)
class Phrases:
    """The wording for one kind of run: labelled, unlabelled or targeted.

    ``name`` is the name of the result, ``measure`` what it measures, ``robust`` the column of the number of images;
    ``remain`` says what robust images do, ``broken`` what happens to the others, and ``were`` to which images that
    can happen. Texts in braces are filled in by ``str.format``.
    """

    name: str
    measure: str
    measure_help: str
    robust: str
    robust_help: str
    remain: str
    broken: str
    success_help: str
    were: str
    begin_help: str
    nobody: str
    few: str
    nothing_to_do: str
    strongest: str
    answer: str
    keeps: str
    only: str


LABELLED = Phrases(
    name="robust_accuracy",
    measure="robust accuracy",
    measure_help="Images that are classified correctly and remain correct under attack, as a part of all images.",
    robust="Correct",
    robust_help="Images that remain correct under every attack.",
    remain="remain correct",
    broken="broken",
    success_help="Images broken, as a part of those classified correctly without attack.",
    were=" classified correctly",
    begin_help="Images classified correctly without attack.",
    nobody="No image is classified correctly without attack",
    few="Fewer than two images are classified correctly without attack.",
    nothing_to_do="The network misclassifies every image even without attack: there is nothing to break.",
    strongest="breaks {value} of the {n} images classified correctly",
    answer="the wrong class",
    keeps="classifies {value} of {n} images correctly",
    only="Images that only the {which} network classifies correctly.",
)

UNLABELLED = Phrases(
    name="robust_agreement",
    measure="agreement under attack",
    measure_help="Images whose prediction stays the same under attack, as a part of all images.",
    robust="Same prediction",
    robust_help="Images whose prediction no attack changes.",
    remain="keep their prediction",
    broken="broken",
    success_help="Images whose prediction changes, as a part of all images.",
    were="",
    begin_help="Images whose prediction an attack can change.",
    nobody="No image keeps its prediction even without attack",
    few="Fewer than two images keep their prediction even without attack.",
    nothing_to_do="No image keeps its prediction even without attack: there is nothing to break.",
    strongest="changes the prediction for {value} of the {n} images",
    answer="the new prediction",
    keeps="keeps its own prediction for {value} of {n} unlabelled images",
    only="Images for which only the {which} network keeps its own prediction.",
)

TARGETED = Phrases(
    name="resistance",
    measure="resistance",
    measure_help="Images that are not moved to the target class, correct or not, as a part of all images.",
    robust="Resist",
    robust_help="Images that no attack moves to the target class, correct or not.",
    remain="resist",
    broken="moved to the target class",
    success_help="Targeted success rate (among images not already in the target class).",
    were=" not already in the target class",
    begin_help="Images that are not in the target class without attack.",
    nobody="Every image is in the target class without attack",
    few="Fewer than two images are outside the target class without attack.",
    nothing_to_do="Every image is in the target class even without attack: there is nothing to move.",
    strongest="moves {value} of the {n} images that were not in the target class into it",
    answer="the target class",
    keeps="resists the targeted attack on {value} of {n} images",
    only="Images on which only the {which} network resists the targeted attack.",
)


def phrases_for(*, targeted: bool, labelled: bool) -> Phrases:
    """Return the wording of a run."""
    return TARGETED if targeted else LABELLED if labelled else UNLABELLED
