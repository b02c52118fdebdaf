"""What the ablation study says about each image, for samples.jsonl."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from probe.core.report import Json
from probe.data.images import ImageSet
from studies.ablation.lesion import Bench, Lesioned
from studies.ablation.retrain import Retrained
from studies.ablation.score import Answers


def lesion_samples(bench: Bench, images: ImageSet, lesions: Sequence[Lesioned]) -> Iterator[dict[str, Json]]:
    """Yield one record an image: the answer of the intact network, and that without all sites of each structure."""
    if not lesions:
        return
    labels = bench.labels.tolist()
    intact = lesions[0].answers[frozenset()]
    # What cannot be done without has no answer.
    cut = {
        one.structure.text: one.answers[one.plan.everything]
        for one in lesions
        if one.plan.everything in one.answers
    }
    for row, (index, label) in enumerate(zip(bench.indices, labels, strict=True)):
        yield {
            "study": "ablation",
            "part": "lesions",
            "index": index,
            "image": images.item_name(index),
            "label": label if images.labelled else None,
            "reference": label,
            **_answer(intact, row, label),
            "lesions": {name: _answer(answers, row, label) for name, answers in cut.items()},
        }


def _answer(answers: Answers, row: int, label: int) -> dict[str, Json]:
    prediction = int(answers.predictions[row])
    return {"prediction": prediction if prediction >= 0 else None, "right": prediction == label}


def held_out_samples(made: Retrained | None, held_out: ImageSet | None) -> Iterator[dict[str, Json]]:
    """Yield one record a held-out image: whether each arm, trained with each seed, names it right."""
    if made is None or held_out is None:
        return
    gone = {one.name for one in held_out.skipped}
    read = [index for index in range(len(held_out)) if held_out.item_name(index) not in gone]
    labels = made.setting.held_labels.tolist()
    for row, (index, label) in enumerate(zip(read, labels, strict=True)):
        yield {
            "study": "ablation",
            "part": "held-out",
            "index": index,
            "image": held_out.item_name(index),
            "label": label,
            "right": _right(made, row),
        }


def _right(made: Retrained, row: int) -> dict[str, Json]:
    """Return by arm, named as in the results, and by seed whether image ``row`` is right; None where it diverged."""
    return {
        "+".join(variant or ("intact",)) + (f"@{depth}" if depth is not None else ""): {
            str(one.arm.seed): None if one.fault else bool(one.right[row]) for one in made.of(variant, depth)
        }
        for depth in made.depths
        for variant in made.variants
    }
