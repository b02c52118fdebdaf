"""The methods paragraph of an ablation, ready to be pasted, and the works that it rests on."""

from __future__ import annotations

import torch

from probe.core.report import DataInfo, ModelInfo
from probe.models.methods import WILSON, subject, tools
from studies.ablation.config import AblationConfig
from studies.ablation.retrain import Retrained, label_of

_LESION = (
    'Veit, Wilber and Belongie, "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", 2016',
    'McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12, 1947',
    'Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979',
    "Wu and Johnson, \"Rethinking 'Batch' in BatchNorm\", 2021",
)
_RETRAIN = ('He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015',)


def methods(
    model: ModelInfo,
    data: DataInfo,
    config: AblationConfig,
    lesioned: tuple[str, ...],
    calibration: int,
    made: Retrained | None,
) -> tuple[str, ...]:
    """Return the sentences of the paragraph; ``lesioned`` are the words of the structures that were cut."""
    sentences = [subject(model, data)]
    if lesioned:
        sentences.append(
            f"At test time, with unchanged weights, we removed {' and '.join(lesioned)}: every site alone, all "
            "together, random choices and in order of depth, on the same images, with exact McNemar tests and Holm's "
            "correction over sites."
        )
        if calibration:
            sentences.append(
                f"Statistics of batch normalisation were also estimated anew, on {calibration:,} images that were "
                "not evaluated."
                if data.labelled
                else f"Statistics of batch normalisation were also estimated anew, on {calibration:,} images."
            )
    if made is not None:
        setting, recipe = made.setting, made.setting.recipe
        arms = ", ".join(label_of(variant) for variant in made.variants)
        sentences.append(
            f"We trained these arms from random weights: {arms}; {config.seeds} seeds each, {recipe.epochs} epochs of "
            f"{recipe.optimiser} (peak learning rate {recipe.lr:g}, batches of {recipe.batch_size}, weight decay "
            f"{recipe.weight_decay:g}, {recipe.schedule} schedule) on {len(setting.labels):,} images, measured on "
            f"{len(setting.held_labels):,} held-out ones ({made.split}); differences are paired over seeds "
            "(t-intervals)."
        )
    sentences.append("Proportions have 95% Wilson intervals.")
    return (*sentences, tools(config.seed, torch.__version__))


def references(lesioned: tuple[str, ...], made: Retrained | None) -> tuple[str, ...]:
    """Return the works behind what was done."""
    return (*(_LESION if lesioned else ()), *(_RETRAIN if made is not None else ()), WILSON)
