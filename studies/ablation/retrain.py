"""Retraining: the same recipe, data and seeds with and without a structure."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.core import seeds
from probe.core.errors import ProbeError, UsageError
from probe.core.jobs import portable, run_jobs
from probe.core.journal import Journal
from probe.core.progress import Progress
from probe.core.usercode import user_modules
from probe.graph.cost.summary import Anatomy
from probe.graph.edit.structure import get_structure
from probe.models.load import find_architecture
from probe.models.loaded import LoadedModel
from probe.models.measure import measure
from probe.models.source import Access, Build, Preprocessing
from probe.models.weights.reinitialise import random_builder
from probe.train.data import Parts, as_tensors
from probe.train.loop.watch import is_dead
from probe.train.setup import Setup, choose_recipe
from studies.ablation.arms import Arm, Setting, TrainedArm, from_arrays, to_arrays, train_arm
from studies.ablation.config import AblationConfig

_PART = 0.8
"""The part of the usual epochs that arms are trained for by default."""

AFFORDABLE = 6e13
"""Multiply-accumulates that ``auto`` spends on retraining at most: a few minutes on two cores."""

Variant = tuple[str, ...]
"""The structures removed in an arm; () is the intact network."""


@dataclass(frozen=True)
class RetrainResult:
    """All arms of a comparison.

    ``variants`` in the order of the report, the intact one first; ``arms[variant, depth]`` are the trainings by seed
    (depth None: the network as it is). ``split`` says how the held-out images were separated from the others.
    """

    variants: tuple[Variant, ...]
    depths: tuple[int | None, ...]
    arms: Mapping[tuple[Variant, int | None], tuple[TrainedArm, ...]]
    setting: Setting
    split: str

    def of(self, variant: Variant, depth: int | None = None) -> tuple[TrainedArm, ...]:
        """Return the trainings of one variant, seed by seed."""
        return self.arms[variant, depth]

    def accuracies(self, variant: Variant, depth: int | None = None) -> NDArray[np.float64]:
        """Return held-out accuracies by seed; NaN for those that diverged."""
        return np.array([trained.accuracy for trained in self.of(variant, depth)])

    def anatomy(self, variant: Variant, depth: int | None = None) -> Anatomy:
        """Return the size, cost and depth of the variant's network."""
        return self.of(variant, depth)[0].anatomy

    def dead(self, trained: TrainedArm) -> bool:
        """Tell whether a training never left the loss of guessing."""
        return trained.fault is None and is_dead(trained.history, self.setting.num_classes, trained.train_n)


def label_of(variant: Variant) -> str:
    """Name an arm: ``intact``, ``without shortcut``, ``with gelu and without dropout``."""
    return " and ".join(get_structure(text).arm for text in variant) or "intact"


def arm_name(variant: Variant, depth: int | None, many: bool) -> str:
    """Name an arm, with its depth where there are several."""
    return label_of(variant) + (f", depth {depth}" if many and depth is not None else "")


def variants_of(texts: Sequence[str]) -> tuple[Variant, ...]:
    """Return the arms: intact, each structure removed, and all of them removed where there are several."""
    single = [(text,) for text in texts]
    return ((), *single, *([tuple(texts)] if len(texts) > 1 else []))


def cost(model: LoadedModel, images: int, epochs: int, config: AblationConfig, arms: int) -> float:
    """Estimate the multiply-accumulates of the retraining: three passes for each image and epoch."""
    return 3.0 * (model.macs or 0) * images * epochs * arms * config.seeds


def make_setting(
    model: LoadedModel,
    training: Parts,
    config: AblationConfig,
    factories: Mapping[int | None, Callable[[], nn.Module]],
    progress: Progress,
) -> Setting:
    """Return the settings that all arms share, images and labels in memory."""
    spec = model.input
    mean, std = (
        tuple(t.flatten().tolist()) for t in (model.module.normalise.mean, model.module.normalise.std)
    )
    images, labels = as_tensors(training.training, spec, "Reading images to train on", progress)
    held, held_labels = as_tensors(training.held_out, spec, "Reading held-out images", progress)
    network = model.network
    setup = Setup(network, Preprocessing(spec, mean, std), measure(network, spec.size, model.name), None)
    recipe = choose_recipe(setup, len(images), config.recipe, None, model.device, training.mirrors)
    if config.recipe.epochs is None:
        # Arms are compared with one another; the last epochs, which polish the best one, would take the longest.
        recipe = replace(recipe, epochs=math.ceil(_PART * recipe.epochs))
    return Setting(
        factories={depth: portable(factory, user_modules()) for depth, factory in factories.items()},
        mean=mean,
        std=std,
        size=spec.size,
        channels_last=model.memory_format == torch.channels_last,
        device=str(model.device),
        images=_compact(images),
        labels=labels.numpy(),
        held_images=_compact(held),
        held_labels=held_labels.numpy(),
        num_classes=training.num_classes,
        recipe=recipe,
        also=config.also,
        norm=config.norm,
        epsilon=config.epsilon,
        dropout=any(get_structure(text).name == "dropout" for text in config.remove),
    )


def retrain(
    setting: Setting,
    variants: Sequence[Variant],
    depths: Sequence[int | None],
    split: str,
    config: AblationConfig,
    journal: Journal,
    progress: Progress,
) -> RetrainResult:
    """Train every arm at every depth and seed.

    Finished trainings are kept in the journal. With ``match_parameters`` the intact arms are trained first,
    because the others are widened to their number of parameters.
    """
    plan = [
        Arm(v, seed, depth, config.sites) for depth in depths for v in variants for seed in _seeds(config)
    ]
    workers = config.jobs or max(1, min(len(plan), os.cpu_count() or 1))
    trained: dict[str, TrainedArm] = {}
    with progress.task("Training arms", len(plan)) as advance:

        def train(arms: Sequence[Arm]) -> None:
            trained.update(
                run_jobs(
                    train_arm,
                    {arm.key: (setting, arm) for arm in arms},
                    workers=workers,
                    cluster=config.cluster,
                    journal=journal,
                    to_arrays=to_arrays,
                    from_arrays=from_arrays,
                    advance=advance,
                )
            )

        if config.match_parameters:
            train([arm for arm in plan if not arm.cuts])
            sizes = {result.arm.depth: result.anatomy.parameters for result in trained.values()}
            plan = [replace(arm, match=sizes[arm.depth]) if arm.cuts else arm for arm in plan]
            train([arm for arm in plan if arm.cuts])
        else:
            train(plan)
    arms = {
        (variant, depth): tuple(
            trained[arm.key] for arm in plan if arm.cuts == variant and arm.depth == depth
        )
        for variant in variants
        for depth in depths
    }
    return RetrainResult(tuple(variants), tuple(depths), arms, setting, split)


def _seeds(config: AblationConfig) -> range:
    return range(config.seed, config.seed + config.seeds)


def _compact(images: Tensor) -> NDArray[np.float32]:
    """Return the images with a single channel where all channels share memory."""
    if images.shape[1] > 1 and images.stride(1) == 0:
        images = images[:, :1]
    array: NDArray[np.float32] = np.ascontiguousarray(images.numpy())
    return array


def at_depths(model: LoadedModel, depths: Sequence[int]) -> Mapping[int | None, Callable[[], nn.Module]]:
    """Return factories of the model's family by depth; without depths that of the model itself, under None.

    The family is the model's factory with ``depth=N``, or the one whose name lacks the number at the end
    (``zoo:resnet20`` → ``zoo:resnet?depth=56``). Raises UsageError when neither has a depth option.
    """
    if not depths:
        return {None: model.factory}
    return {depth: _at(model, depth) for depth in dict.fromkeys(depths)}


def _at(model: LoadedModel, depth: int) -> Callable[[], nn.Module]:
    source = model.provenance.source
    plain, _, query = source.partition("?")
    others = "&".join(part for part in query.split("&") if part and not part.startswith("depth="))
    further_options = f"&{others}" if others else ""
    failure: ProbeError | None = None
    for name in dict.fromkeys((plain, plain.rstrip("0123456789"))):
        try:
            architecture = find_architecture(f"{name}?depth={depth}{further_options}", Access(offline=True))
            size = (model.input.size[1], model.input.size[2])
            factory = partial(random_builder(architecture), Build(model.num_classes, size))
            with seeds.scoped(0, "depth"):
                factory()
        except ProbeError as error:
            failure = failure or error
            continue
        return factory
    raise UsageError(
        f"--depths needs a network whose factory supports depth=N, such as zoo:resnet20; {source} does not "
        f"support depth={depth}. {failure}"
    )
