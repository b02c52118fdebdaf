"""The studies and tools as functions of a network and images, in memory or by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from probe.api import given
from probe.api.bars import BARS
from probe.api.given import Images, Model, Names
from probe.attacks.norms import get_norm
from probe.core.allocator import kept_pages
from probe.core.document import Report
from probe.core.progress import SILENT, Progress
from probe.models.load import load_model
from probe.models.wrap import wrap
from probe.tools import anatomy as anatomy_tool
from probe.tools import compare as compare_tool
from probe.tools import doctor as doctor_tool
from probe.tools import dossier as dossier_tool
from probe.train.setup import RecipeOptions
from studies import ablation as ablation_study
from studies import adversarial as adversarial_study
from studies import filters as filters_study
from studies.filters.config import STEPS


@kept_pages()
def filters(
    model: Model = None,
    images: Images = None,
    *,
    views: Names | None = None,
    layers: Names | None = None,
    channels: int | Sequence[int] | None = None,
    show: int | Sequence[int] = 4,
    steps: int = STEPS,
    against: Model = None,
    concepts: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress = BARS,
) -> Report:
    """Look at the filters of a network and at what excites them.

    ``views``, ``layers``, ``channels``: only these; None lets the study choose. ``show`` is how many images are looked
    at one by one, or their indices; ``steps`` are those of the feature pictures. ``against`` is another network whose layers
    are compared with this one's; ``concepts`` is a folder with a subfolder for each concept, ``masks`` one with ``images`` and
    ``masks/CONCEPT``. ``jobs`` processes (0: one per core), or a
    dask ``cluster``, share the work. Raises UsageError for unknown names and CannotRunError when no image can be read.
    """
    loaded, data = given.pair(model, images, seed=seed, progress=progress)
    config = filters_study.FiltersConfig(
        views=given.names(views),
        layers=given.names(layers),
        channels=None if channels is None else given.numbers(channels),
        images=show if isinstance(show, int) else tuple(show),
        steps=steps,
        concepts=None if concepts is None else os.fspath(concepts),
        masks=None if masks is None else os.fspath(masks),
        batch_size=batch_size,
        seed=seed,
        jobs=jobs,
        cluster=cluster,
    )
    return filters_study.run(
        loaded,
        data,
        config,
        progress=progress,
        against=None if against is None else given.like(against, loaded, data),
    )


@kept_pages()
def adversarial(
    model: Model = None,
    images: Images = None,
    *,
    eps: float | str | Sequence[float] = 0.03,
    norm: str = "Linf",
    attacks: Names = (),
    target: str | int | None = None,
    restarts: int | None = None,
    steps: int | None = None,
    views: Names | None = None,
    checks: Names | None = None,
    corruptions: Names = (),
    certify: Names = (),
    threats: Names = (),
    adapt: bool = False,
    show: int | Sequence[int] = 8,
    against: Model = None,
    transfer: Sequence[Model] = (),
    save_images: str | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress = BARS,
) -> Report:
    """Attack a network, and test whether the result can be believed.

    ``eps`` in units of the pixel range, such as 8/255; several, ascending, make a curve and the last one is reported.
    ``attacks`` are names with options (``pgd?steps=100``, see ``probe.attacks``); none means APGD with two losses.
    ``views`` and ``checks`` are names; None means all of them, an empty list none. ``target``: a class, ``least-likely`` or
    ``random``. ``corruptions``: kinds, ``all`` of ImageNet-C, or a folder laid out as ImageNet-C or CIFAR-10-C.
    ``certify``: ``bounds``, ``smoothing?sigma=0.25&n=1000``. ``threats``: ``spatial``, ``colour``, ``universal``, ``patch``.
    ``adapt``: where checks fail, attack as they ask for.
    ``against`` is a second network for a paired comparison,
    ``transfer`` are networks that adversarial images are carried over to. ``save_images``: ``png`` or ``npz``.
    ``jobs`` processes (0: one per core), or a dask ``cluster``, attack the batches, with the same numbers.
    """
    loaded, data = given.pair(model, images, seed=seed, progress=progress)
    kind = get_norm(norm)
    config = adversarial_study.AdversarialConfig(
        epsilons=given.epsilons(eps, norm),
        norm=kind.name,
        attacks=given.names(attacks) or (),
        target=None if target is None else str(target),
        restarts=restarts,
        steps=steps,
        views=given.names(views),
        checks=given.names(checks),
        corruptions=given.names(corruptions) or (),
        certify=given.names(certify) or (),
        threats=given.names(threats) or (),
        adapt=adapt,
        images=show if isinstance(show, int) else tuple(show),
        batch_size=batch_size,
        save_images=given.image_form(save_images),
        seed=seed,
        jobs=jobs,
        cluster=cluster,
    )
    others = adversarial_study.ComparisonModels(
        tuple(given.like(other, loaded, data) for other in transfer),
        None if against is None else given.like(against, loaded, data),
    )
    return adversarial_study.run(loaded, data, config, others=others, progress=progress)


@kept_pages()
def ablate(
    model: Model = None,
    images: Images = None,
    *,
    remove: Names | None = None,
    swap: Names = (),
    mode: str = "auto",
    sites: Names | None = None,
    training: Images = None,
    held_out: float | None = None,
    seeds: int = 3,
    epochs: int | None = None,
    lr: float | None = None,
    depths: Sequence[int] = (),
    also: Names = (),
    eps: float | str = 0.03,
    norm: str = "Linf",
    jobs: int = 0,
    cluster: str | None = None,
    batch_size: int = 128,
    seed: int = 0,
    progress: Progress = BARS,
) -> Report:
    """Remove parts of a network and measure their effect.

    ``remove``: structures (``shortcut``, ``pool?to=max``; None: ``shortcut``); ``swap``: exchanges. ``mode``:
    ``lesion`` cuts the network as it is, ``retrain`` trains it with and without, ``both``; ``auto`` is both where it is
    cheap enough. ``training`` are labelled images to train on; without them the images studied are split, ``held_out``
    of each class for measuring. The other options are those of ``probe ablate --help``.
    """
    if model is None:
        model, images = "zoo:resnet20", "digits" if images is None else images
    loaded, data = given.pair(model, images, seed=seed, progress=progress)
    removed = given.names(remove) or (() if swap else ("shortcut",))
    config = ablation_study.AblationConfig(
        remove=removed,
        swap=given.names(swap) or (),
        mode=mode,  # type: ignore[arg-type]
        sites=given.names(sites),
        seeds=seeds,
        recipe=RecipeOptions(epochs=epochs, lr=lr),
        depths=tuple(depths),
        also=given.names(also) or (),
        norm=get_norm(norm).name,
        epsilon=given.epsilons(eps, norm)[-1],
        jobs=jobs,
        cluster=cluster,
        batch_size=batch_size,
        seed=seed,
    )
    parts, reason = (
        (None, "")
        if mode == "lesion"
        else given.parts_to_train(loaded, data, images, training, held_out, seed)
    )
    return ablation_study.run(loaded, data, config, training=parts, untrainable=reason, progress=progress)


def anatomy(
    model: Model = None,
    *,
    input_size: int | Sequence[int] | None = None,
    seed: int = 0,
    progress: Progress = BARS,
) -> Report:
    """Count what a network is made of: layers, parameters, MACs, memory, receptive fields, paths."""
    loaded = wrap(model, input_size=input_size) if isinstance(model, nn.Module) else given.load(model, SILENT)
    return anatomy_tool.run(loaded, anatomy_tool.AnatomyConfig(seed=seed), progress=progress)


@kept_pages()
def doctor(
    model: Model = None,
    images: Images = None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    lr: float | None = None,
    optimizer: str = "adamw",
    steps: int = 40,
    train_batch: int = 32,
    precision: str = "float32",
    sweep: bool = True,
    seed: int = 0,
    progress: Progress = BARS,
) -> Report:
    """Watch a short training of a network and say what is wrong with it; nothing is kept of the training.

    The network is trained from the weights that it has; a name is loaded with random ones. ``loss``: (logits, labels)
    → one number, None is the cross-entropy. ``lr`` None chooses by network and optimizer.
    """
    if model is None or isinstance(model, str):
        model = load_model(model or "zoo:resnet20", weights="none", seed=seed)
        images = "digits-train" if images is None else images
    loaded, data = given.pair(model, images, seed=seed, strict=False, progress=progress)
    config = doctor_tool.DoctorConfig(
        lr=lr,
        steps=steps,
        optimiser=optimizer,
        train_batch=train_batch,
        sweep=sweep,
        precision=precision,
        loss="cross-entropy" if loss is None else getattr(loss, "__name__", type(loss).__name__),
        seed=seed,
    )
    how: dict[str, Any] = {} if loss is None else {"loss": loss}
    return doctor_tool.run(loaded, data, config, progress=progress, **how)


@kept_pages()
def dossier(
    model: Model = None,
    images: Images = None,
    *,
    eps: float | str = 0.03,
    norm: str = "Linf",
    quick: bool = False,
    jobs: int = 1,
    cluster: str | None = None,
    seed: int = 0,
    progress: Progress = BARS,
) -> Report:
    """Run the three studies on one network and relate their results; nothing is trained.

    ``jobs`` processes (0: one per core), or a dask ``cluster``, share the work.
    """
    loaded, data = given.pair(model, images, seed=seed, progress=progress)
    config = dossier_tool.DossierConfig(
        epsilon=given.epsilons(eps, norm)[-1],
        norm=get_norm(norm).name,
        quick=quick,
        seed=seed,
        jobs=jobs,
        cluster=cluster,
    )
    return dossier_tool.run(loaded, data, config, progress=progress).report


def compare(*runs: Report | str | os.PathLike[str]) -> Report:
    """Set runs of one study side by side, with paired tests where the images are the same.

    ``runs`` are reports, folders of reports, or results.json files; every difference is to the first.
    """
    sources = [run if isinstance(run, Report) else os.fspath(run) for run in runs]
    return compare_tool.compare(compare_tool.runs_of(sources))


__all__ = ["ablate", "adversarial", "anatomy", "compare", "doctor", "dossier", "filters"]
