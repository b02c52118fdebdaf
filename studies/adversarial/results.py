"""What came of attacking every image: the outcomes of all batches, and the numbers drawn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.document import Result
from studies.adversarial.outcome import Outcome

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Clean:
    """The images without attack, (N,) each: index in the set, the class they are judged against, the network's answer.

    ``target`` is the class that an attack aims at, −1 where it aims at none.
    """

    index: NDArray[Any]
    label: NDArray[Any]
    prediction: NDArray[Any]
    confidence: NDArray[Any]
    target: NDArray[Any]


@dataclass(frozen=True)
class Results:
    """All outcomes, over the same N images.

    ``attacks`` has one outcome for each attack as it was asked for; ``worst`` is, image by image, the best of them.
    ``epsilons`` are those of the curve, ascending, 0 first; ``epsilon`` the one that is reported. ``images``, where they
    were kept, (N, C, H, W) float32: the adversarial images that ``worst`` describes, else the images themselves.
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
    def right(self) -> Bools:
        """Which images an attack has something to do on: right without it, or in a targeted run not at the target."""
        return np.asarray(self.worst.smallest > 0)

    @property
    def clean_right(self) -> Bools:
        """Which images get the class that they are judged against without attack, in a targeted run too."""
        return np.asarray(self.clean.prediction == self.clean.label)

    def robust(self, outcome: Outcome, epsilon: float) -> Bools:
        """Return which images are right (targeted: not at the target) and stay so within ``epsilon``, (N,)."""
        return np.asarray(~outcome.success(epsilon))

    def robust_accuracy(self, outcome: Outcome, epsilon: float, name: str = "robust_accuracy") -> Result:
        """Return the part of the images that ``robust`` says stands within ``epsilon``, with its Wilson interval."""
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
        """Return the part of the images in ``right`` that are broken within ``epsilon``."""
        right = self.right
        broken = int((outcome.success(epsilon) & right).sum())
        return Result.proportion(name, broken, int(right.sum()), higher_is_better=False)

    def quartiles(self, outcome: Outcome) -> tuple[float, float, float]:
        """Return the quartiles of the smallest perturbation found for images that are right; inf where not found."""
        return quartiles(outcome.smallest[self.right])


def quartiles(values: Sequence[float] | NDArray[Any]) -> tuple[float, float, float]:
    """Return three quartiles by the lower of two neighbours, so that infinite values do no harm; nan when empty."""
    data = np.sort(np.asarray(values, dtype=np.float64))
    if data.size == 0:
        return float("nan"), float("nan"), float("nan")
    low, middle, high = (float(data[int((data.size - 1) * part)]) for part in (0.25, 0.5, 0.75))
    return low, middle, high


@dataclass(frozen=True)
class Phrases:
    """The words for what stands under attack.

    ``name`` is a result's, ``measure`` a part of the images, ``robust`` their number; ``broken`` is what happens to
    the others, and ``were`` says which images that can happen to. What is in braces is filled in by ``str.format``.
    """

    name: str
    measure: str
    measure_help: str
    robust: str
    robust_help: str
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
    measure_help="Images that are right and stay right, of all images.",
    robust="Right",
    robust_help="Images right under the worst case over all attacks.",
    broken="broken",
    success_help="Images broken, of those that are right without attack.",
    were=" that were right",
    begin_help="Images that are right without attack.",
    nobody="No image is right without attack",
    few="Fewer than two images are right without attack.",
    nothing_to_do="The network is wrong on every image without any attack: there is nothing to break.",
    strongest="breaks {value} of the {n} images that were right",
    answer="the wrong answer",
    keeps="keeps {value} of {n} images right",
    only="Images that only the {which} network keeps right.",
)

UNLABELLED = Phrases(
    name="robust_agreement",
    measure="agreement under attack",
    measure_help="Images whose answer stays what it is without attack, of all images.",
    robust="Same answer",
    robust_help="Images whose answer no attack changes.",
    broken="broken",
    success_help="Images whose answer changes, of all images.",
    were="",
    begin_help="Images with an answer to change.",
    nobody="No image has an answer that stays the same without attack",
    few="Fewer than two images have an answer that stays the same without attack.",
    nothing_to_do="No answer stays the same without any attack: there is nothing to break.",
    strongest="changes the answer for {value} of the {n} images",
    answer="the new answer",
    keeps="keeps its own answer for {value} of {n} unlabelled images",
    only="Images for which only the {which} network keeps its own answer.",
)

TARGETED = Phrases(
    name="resistance",
    measure="resistance",
    measure_help="Images that are not moved to the class aimed at, right or not, of all images.",
    robust="Resist",
    robust_help="Images that no attack moves to the class aimed at, right or not.",
    broken="moved to the class aimed at",
    success_help="Images moved to the class aimed at, of those that are not there without attack.",
    were=" that began elsewhere",
    begin_help="Images that are not at the class aimed at without attack.",
    nobody="Every image is at the class aimed at without attack",
    few="Fewer than two images are not at the class aimed at without attack.",
    nothing_to_do="Every image is at the class aimed at without any attack: there is nothing to move.",
    strongest="moves {value} of the {n} images that began elsewhere to the class aimed at",
    answer="the class aimed at",
    keeps="keeps {value} of {n} images from the class aimed at",
    only="Images that only the {which} network keeps from the class aimed at.",
)


def phrases_for(*, targeted: bool, labelled: bool) -> Phrases:
    """Return the words of a run."""
    return TARGETED if targeted else LABELLED if labelled else UNLABELLED
