"""Training a network on labelled images, normally or adversarially, and saving it with its training record.

Accuracy is measured only on held-out images, which are never trained on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probe import __version__
from probe.core import seeds
from probe.core.errors import CannotRunError
from probe.core.paths import cache_root
from probe.core.progress import SILENT, Progress
from probe.core.state import fingerprint
from probe.data.sampling import choose
from probe.models.load import find_architecture
from probe.models.loaded import PixelModel
from probe.models.measure import (
    check_affordable,
    choose_device,
    choose_memory_format,
    size_of_the_users_choice,
)
from probe.models.source import Access
from probe.models.weights.record import Record, Robust, Score
from probe.train.adversarial import (
    CHECKED_IMAGES,
    ROBUST_IMAGES,
    ROBUST_STEPS,
    Adversary,
    Passes,
    Perturbing,
    PerturbingTrades,
    adversary,
    count_robust,
    no_adversary,
)
from probe.train.data import Parts, as_tensors, both_parts
from probe.train.loop.evaluation import count_correct, reestimate_batch_norm
from probe.train.loop.fit import DivergedError, Recipe, fit
from probe.train.loop.snapshots import SnapshotFile
from probe.train.loop.watch import Epoch, Watch
from probe.train.setup import RecipeOptions, Setup, choose_place, choose_recipe, set_up
from probe.train.trained_file import TrainedNetwork, write_trained

_RECORDS = 50
"""Steps between two records of gradient norms, which are part of the report of a fault."""


@dataclass(frozen=True)
class TrainOptions:
    """The options of a training; None is the default, which depends on the network and the data.

    ``adversarial`` is the method (``pgd``, ``trades``, ``fast``); ``norm``, ``epsilon`` (such as ``0.2`` or ``8/255``), ``steps``
    and ``beta`` are for it. ``n`` is the
    number of images to train on, ``held_out`` the share of a folder that is held out, ``out`` the file to write,
    in whose name the seed stands if it is ``numbered``.
    """

    recipe: RecipeOptions = field(default_factory=RecipeOptions)
    adversarial: str | None = None
    norm: str | None = None
    epsilon: str | None = None
    steps: int | None = None
    beta: float | None = None
    n: int | None = None
    held_out: float | None = None
    img_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    seed: int = 0
    device: str = "auto"
    out: Path | None = None
    force: bool = False
    offline: bool = False
    resume: bool = False
    numbered: bool = False


def options_from(words: Mapping[str, Any]) -> TrainOptions:
    """Convert the options of the command line, including those of the recipe."""
    recipe = {field.name for field in fields(RecipeOptions)}
    own = {field.name for field in fields(TrainOptions)} - {"recipe", "numbered"}
    size = words["img_size"]
    return TrainOptions(
        recipe=RecipeOptions(**{key: value for key, value in words.items() if key in recipe}),
        **{
            **{key: value for key, value in words.items() if key in own},
            "n": words["num_samples"],
            "img_size": (size, size) if isinstance(size, int) else size,
        },
    )


@dataclass(frozen=True)
class _TrainerRun:
    """A training: the network, the data, the recipe and the device."""

    setup: Setup
    parts: Parts
    recipe: Recipe
    adversary: Adversary | None
    device: torch.device
    seed: int
    label: str
    source: str

    @property
    def layout(self) -> torch.memory_format:
        return choose_memory_format(self.setup.facts, self.device)


def train(model: str, data: str, options: TrainOptions, progress: Progress = SILENT) -> TrainedNetwork:
    """Train the network called ``model`` on ``data`` from random weights, and write it to a file.

    ``model`` is any model name, ``data`` a labelled data set or folder. The same options and
    the same seed give the same weights on the same machine; the global generators are not changed. Next to the
    file, which ``load_model`` accepts as weights, a readable file with the recipe and the learning curve is written.
    Neither is written if anything fails. The state after each epoch is stored in the cache until the file is
    written: with ``resume``, a training that was interrupted or killed continues to the same weights. Raises
    UsageError and CannotRunError.
    """
    started = time.perf_counter()
    run, path = _prepare(model, data, options, progress)
    progress.say(_announcement(run))
    history, overfitted, score, robust, snapshots = _train_and_measure(run, options.resume, progress)
    parts = run.parts
    trained = TrainedNetwork(
        path=path,
        record=_record(run, score, robust),
        recipe=run.recipe,
        adversary=run.adversary,
        history=history,
        overfitted=overfitted,
        images=len(parts.training),
        split=parts.split,
        licence=parts.training.licence,
        seed=run.seed,
        device=str(run.device),
        seconds=time.perf_counter() - started,
        skipped=tuple(dict.fromkeys((*parts.training.skipped, *parts.held_out.skipped))),
    )
    write_trained(trained, run.setup.network)
    snapshots.remove()
    return trained


def _prepare(model: str, data: str, options: TrainOptions, progress: Progress) -> tuple[_TrainerRun, Path]:
    """Check all options before starting, and return the run and the file to write."""
    device, _ = choose_device(options.device)
    architecture = find_architecture(model, Access(options.offline, progress))
    if options.adversarial is None:
        no_adversary(options.norm, options.epsilon, options.steps, options.beta)
    parts = both_parts(
        data,
        n=options.n,
        held_out=options.held_out,
        seed=options.seed,
        offline=options.offline,
        progress=progress,
    )
    against = None
    if options.adversarial is not None:
        against = adversary(
            options.norm, options.epsilon, options.steps, parts.domain, options.adversarial, options.beta
        )
    seed = options.seed if options.numbered else None
    path = choose_place(options.out, architecture, parts, against is not None, options.force, seed)
    if options.img_size is not None:
        check_affordable((3, *options.img_size))
    with size_of_the_users_choice(options.img_size):
        setup = set_up(architecture, parts, options.img_size, options.mean, options.std, options.seed)
    recipe = choose_recipe(setup, len(parts.training), options.recipe, against, device, parts.mirrors)
    name, source = architecture.name, architecture.source
    return _TrainerRun(setup, parts, recipe, against, device, options.seed, name, source), path


def _record(run: _TrainerRun, score: Score, robust: Robust | None) -> Record:
    return Record(
        model=run.source,
        data=run.parts.name,
        domain=run.parts.domain,
        framing=run.setup.framing,
        built=run.setup.built,
        class_names=run.parts.class_names,
        score=score,
        robust=robust,
    )


def _train_and_measure(
    run: _TrainerRun, resume: bool, progress: Progress
) -> tuple[tuple[Epoch, ...], int | None, Score, Robust | None, SnapshotFile]:
    """Train, measure, and leave the network on the CPU in eval mode."""
    setup, spec = run.setup, run.setup.framing.input
    module = PixelModel(setup.network, setup.framing.mean, setup.framing.std)
    module.requires_grad_(True).to(device=run.device, memory_format=run.layout)  # type: ignore[call-overload]
    images, labels = as_tensors(run.parts.training, spec, "Reading images to train on", progress)
    held_out, held_out_labels = as_tensors(run.parts.held_out, spec, "Reading held-out images", progress)
    snapshots = _snapshots(run, images, labels, resume, progress)
    try:
        history, overfitted = _fit(run, module, images, labels, snapshots, progress)
        module.requires_grad_(False).eval()
        correct = count_correct(module, held_out, held_out_labels, batch_size=128)
        robust = _robust(run, module, held_out, held_out_labels, progress)
    except DivergedError as error:
        snapshots.remove()
        raise CannotRunError(f"{run.label} cannot be trained on {run.parts.name}: {error}") from error
    except KeyboardInterrupt:
        progress.say(f"{snapshots.epochs} finished epochs are kept: add --resume to continue.")
        raise
    finally:
        setup.network.to("cpu").eval().requires_grad_(False)
    return history, overfitted, Score(correct, len(held_out_labels)), robust, snapshots


def _snapshots(
    run: _TrainerRun, images: Tensor, labels: Tensor, resume: bool, progress: Progress
) -> SnapshotFile:
    """Return the snapshot file of exactly this training; other weights, images or options have another file."""
    digest = hashlib.blake2b(digest_size=12)
    facts = (run.source, run.setup.framing, run.recipe, run.adversary, run.seed, str(run.device))
    digest.update(repr((__version__, torch.__version__, *facts, images.shape)).encode())
    digest.update(fingerprint(run.setup.network).encode())
    # A grey image is one channel that is repeated without copying.
    digest.update((images[:, :1] if images.stride(1) == 0 else images).contiguous().numpy().tobytes())
    digest.update(labels.numpy().tobytes())
    snapshots = SnapshotFile(cache_root() / "training" / f"{digest.hexdigest()}.pt")
    if not resume:
        snapshots.remove()
    elif snapshots.load() is None:
        progress.say("There is no interrupted training with these options: starting from the beginning.")
    else:
        progress.say(f"Continuing after epoch {snapshots.epochs} of {run.recipe.epochs}.")
    return snapshots


def _fit(
    run: _TrainerRun,
    module: PixelModel,
    images: Tensor,
    labels: Tensor,
    snapshots: SnapshotFile,
    progress: Progress,
) -> tuple[tuple[Epoch, ...], int | None]:
    """Train, and return the history and the epoch after which a fast training was overfitted, if it was."""
    recipe, passes = run.recipe, Passes(run.recipe.bf16, run.layout)
    perturb, evaluate = None, None
    if run.adversary is not None:
        batches = recipe.epochs * -(-len(images) // recipe.batch_size)
        kind = PerturbingTrades if run.adversary.method == "trades" else Perturbing
        perturb = kind(run.adversary, batches, seeds.generator(run.seed, "adversary"), passes)
        if run.adversary.method == "fast":
            chosen = torch.from_numpy(choose(len(labels), CHECKED_IMAGES, run.seed, labels.tolist()))
            evaluate = partial(perturb.check, module, images[chosen], labels[chosen])
    with progress.task(f"Training {run.label} on {run.parts.name}", recipe.epochs * len(images)) as advance:
        history = fit(
            module,
            images,
            labels,
            recipe,
            generator=seeds.generator(run.seed, "training"),
            perturb=perturb,
            snapshots=snapshots,
            evaluate=evaluate,
            watch=Watch(module, _RECORDS),
            advance=advance,
            memory_format=run.layout,
        )
    if run.adversary is None and not recipe.noise:
        # The schedule ends long before slow running averages (momentum 0.01) have converged. After adversarial
        # training they are those of perturbed images, and are kept, as they are after training on noisy ones.
        reestimate_batch_norm(module, torch.split(images, 128))
    return history, None if perturb is None else perturb.overfitted


def _robust(
    run: _TrainerRun, module: PixelModel, images: Tensor, labels: Tensor, progress: Progress
) -> Robust | None:
    """Measure the accuracy under the attack of the training, with more steps; None for normal training."""
    if run.adversary is None:
        return None
    chosen = torch.from_numpy(choose(len(labels), ROBUST_IMAGES, run.seed, labels.tolist()))
    against = replace(run.adversary, method="pgd", steps=ROBUST_STEPS)
    with progress.task("Measuring robust accuracy", None):
        robust = count_robust(
            module,
            images[chosen],
            labels[chosen],
            against,
            seeds.generator(run.seed, "robust accuracy"),
            Passes(False, run.layout),
        )
    return Robust(robust, len(chosen), against.norm.name, against.epsilon)


def _announcement(run: _TrainerRun) -> str:
    against = ""
    if run.adversary is not None:
        against = f" against {run.adversary.shown} ({run.adversary.method}, steps: {run.adversary.steps})"
    elif run.recipe.noise:
        against = f" with noise of {run.recipe.noise:g}"
    return (
        f"Training {run.label} from random weights on {len(run.parts.training):,} images of {run.parts.name}{against}, "
        f"{run.recipe.epochs} epochs on {run.device}; {len(run.parts.held_out):,} are held out ({run.parts.split})."
    )
