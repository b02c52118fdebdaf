"""What a report calls its numbers: accuracy only where images have labels and no class is aimed at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrases:
    """The words for what stands under attack.

    ``name`` is a result's, ``measure`` a part of the images, ``standing`` their number; ``broken`` is what happens to
    the others, and ``were`` says which images that can happen to. What is in braces is filled in by ``str.format``.
    """

    name: str
    measure: str
    measure_help: str
    standing: str
    standing_help: str
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
    standing="Right",
    standing_help="Images right under the worst case over all attacks.",
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
    standing="Same answer",
    standing_help="Images whose answer no attack changes.",
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
    standing="Resist",
    standing_help="Images that no attack moves to the class aimed at, right or not.",
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
