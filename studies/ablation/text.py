"""Methods paragraph, references and per-image records of an ablation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from probe.core.document import Json
from probe.core.subject import DataInfo, ModelInfo
from probe.data.images import ImageSet
from studies.ablation.config import AblationConfig
from studies.ablation.evaluate import Answers
from studies.ablation.lesion import EvaluationSet, LesionResult
from studies.ablation.retrain import RetrainResult, label_of
from studies.base import WILSON, subject, tools

_LESION = (
    'Veit, Wilber and Belongie, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", 2016',
    'McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12, 1947',
    'Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979',
    "Wu and Johnson, \"Rethinking 'Batch' in BatchNorm\", 2021",
)
_LANDSCAPE = ('Li et al., "Visualizing the Loss Landscape of Neural Nets", 2018',)
_RETRAIN = ('He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015',)


def methods(
    model: ModelInfo,
    data: DataInfo,
    config: AblationConfig,
    lesioned: tuple[str, ...],
    calibrated: tuple[int, bool],
    retrained: RetrainResult | None,
) -> tuple[str, ...]:
    """Return the sentences of the paragraph; ``lesioned`` are the names of the structures that were cut.

    ``calibrated``: on how many images batch-norm statistics were estimated again, and whether these were others than the studied ones.
    """
    calibration, others = calibrated
    sentences = [subject(model, data)]
    if lesioned:
        sentences.append(
            f"At test time, with unchanged weights, we removed {' and '.join(lesioned)}: every site alone, all "
            "together, in random choices and in order of depth, on the same images, with exact McNemar tests and "
            "Holm's correction over sites."
        )
        if calibration:
            sentences.append(
                f"Statistics of batch normalisation were also estimated again, on {calibration:,} "
                f"{'images that were not evaluated' if others else 'of the evaluated images'}."
            )
    if retrained is not None:
        setting, recipe = retrained.setting, retrained.setting.recipe
        arms = ", ".join(label_of(variant) for variant in retrained.variants)
        sentences.append(
            f"We trained these arms from random weights: {arms}; {config.seeds} seeds each, {recipe.epochs} epochs of "
            f"{recipe.optimiser} (peak learning rate {recipe.lr:g}, batches of {recipe.batch_size}, weight decay "
            f"{recipe.weight_decay:g}, {recipe.schedule} schedule) on {len(setting.labels):,} images, measured on "
            f"{len(setting.held_labels):,} held-out ones ({retrained.split}); differences are paired over seeds "
            "(t-intervals)."
        )
    sentences.append("Proportions have 95% Wilson intervals.")
    return (*sentences, tools(config.seed, torch.__version__))


def references(lesioned: tuple[str, ...], retrained: RetrainResult | None) -> tuple[str, ...]:
    """Return the papers behind the methods used."""
    around = retrained is not None and "landscape" in retrained.setting.also
    return (
        *(_LESION if lesioned else ()),
        *(_RETRAIN if retrained is not None else ()),
        *(_LANDSCAPE if around else ()),
        WILSON,
    )


def lesion_samples(
    bench: EvaluationSet, images: ImageSet, lesions: Sequence[LesionResult]
) -> Iterator[dict[str, Json]]:
    """Yield one record for each image: predictions of the intact network and without all sites of each structure."""
    if not lesions:
        return
    labels = bench.labels.tolist()
    intact = lesions[0].answers[frozenset()]
    # Where the network cannot do without a structure, there is no prediction.
    cut = {
        result.structure.text: result.answers[result.plan.everything]
        for result in lesions
        if result.plan.everything in result.answers
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


def held_out_samples(retrained: RetrainResult | None, held_out: ImageSet | None) -> Iterator[dict[str, Json]]:
    """Yield one record for each held-out image: whether each arm, trained with each seed, classifies it correctly."""
    if retrained is None or held_out is None:
        return
    skipped = {item.name for item in held_out.skipped}
    read = [index for index in range(len(held_out)) if held_out.item_name(index) not in skipped]
    labels = retrained.setting.held_labels.tolist()
    for row, (index, label) in enumerate(zip(read, labels, strict=True)):
        yield {
            "study": "ablation",
            "part": "held-out",
            "index": index,
            "image": held_out.item_name(index),
            "label": label,
            "right": _right(retrained, row),
        }


def _right(retrained: RetrainResult, row: int) -> dict[str, Json]:
    """Return by arm and seed whether image ``row`` is classified correctly; None where training diverged."""
    return {
        "+".join(variant or ("intact",)) + (f"@{depth}" if depth is not None else ""): {
            str(trained.arm.seed): None if trained.fault else bool(trained.right[row])
            for trained in retrained.of(variant, depth)
        }
        for depth in retrained.depths
        for variant in retrained.variants
    }
