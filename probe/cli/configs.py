"""Conversion of a command's options to the arguments of its study: config, other models, journal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any

from probe import __version__
from probe.attacks.norms import get_norm, parse_epsilons
from probe.cli.options import DEFAULT_EPSILONS
from probe.core.errors import CannotRunError, UsageError
from probe.core.journal import FileJournal
from probe.core.paths import cache_root
from probe.core.progress import Progress
from probe.core.state import fingerprint
from probe.data.images import ImageSet, Item
from probe.graph.edit.structure import SWAP, get_structure
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from probe.models.pair import prepared_like
from probe.tools.dossier import DossierConfig
from probe.train.data import Parts, both_parts, match_parts
from probe.train.setup import RecipeOptions
from studies.ablation import AblationConfig
from studies.adversarial import AdversarialConfig
from studies.filters import FiltersConfig


def adversarial_config(options: dict[str, Any]) -> AdversarialConfig:
    """Return the config for the options of ``probe adversarial``; raises UsageError."""
    norm, shown = get_norm(options["norm"]), options["images"]
    return AdversarialConfig(
        epsilons=parse_epsilons(options["eps"] or DEFAULT_EPSILONS[norm.name], norm),
        norm=norm.name,
        attacks=options["attack"] or (),
        target=options["target"],
        restarts=options["restarts"],
        steps=options["steps"],
        views=options["views"],
        checks=() if options["no_checks"] else options["checks"],
        corruptions=options["corruptions"] or (),
        certify=options["certify"] or (),
        threats=options["threats"] or (),
        adapt=options["adapt"],
        images=shown[0] if len(shown) == 1 else shown,
        batch_size=options["batch_size"],
        bf16=False if options["full_precision"] else None,
        save_images=options["save_images"],
        seed=options["seed"],
        jobs=options["jobs"],
        cluster=options["cluster"],
    )


def ablation_config(options: dict[str, Any]) -> AblationConfig:
    """Return the config for the options of ``probe ablate``; raises UsageError."""
    norm = get_norm(options["norm"])
    recipe = {field.name for field in fields(RecipeOptions)} - {"batch_size", "noise"}
    converted = {"recipe", "epsilon", "norm", "also", "depths", "remove", "swap"}
    unchanged = {field.name for field in fields(AblationConfig)} - converted
    return AblationConfig(
        remove=structures_to_remove(options),
        swap=options["swap"] or (),
        recipe=RecipeOptions(batch_size=options["train_batch"], **{name: options[name] for name in recipe}),
        epsilon=parse_epsilons(options["epsilon"] or DEFAULT_EPSILONS[norm.name], norm)[-1],
        norm=norm.name,
        also=options["also"] or (),
        depths=options["depths"] or (),
        **{name: options[name] for name in unchanged},
    )


def structures_to_remove(options: dict[str, Any]) -> tuple[str, ...]:
    """Return the structures to remove: those given, else the shortcuts unless something is swapped."""
    return options["remove"] or (() if options.get("swap") else ("shortcut",))


def ablated_model(options: dict[str, Any]) -> tuple[str, str | None]:
    """Return the names of the model and the data to ablate, with defaults filled in."""
    texts = (*structures_to_remove(options), *(SWAP + text for text in options.get("swap") or ()))
    defaults = [get_structure(text).default_model for text in texts]
    default = next((name for name in defaults if name != "zoo:resnet20"), "zoo:resnet20")
    if options["model"] is None:
        return default, options["data"] or "digits"
    return options["model"], options["data"]


def training_parts(
    options: dict[str, Any], model: LoadedModel, images: ImageSet, progress: Progress
) -> tuple[Parts | None, str]:
    """Return labelled images to train on, or None and the reason why there are none."""
    if not images.labelled:
        return None, f"Nothing was retrained: the images of {images.name} have no labels."
    try:
        parts = both_parts(
            options["data"] or images.name,
            n=options["train_samples"],
            held_out=options["held_out"],
            seed=options["seed"],
            offline=options["offline"],
            progress=progress,
            labels_csv=options["labels_csv"],
            class_map=options["class_map"],
        )
    except UsageError as error:
        if options["held_out"] is not None:
            raise
        return None, f"Nothing was retrained: {error}"
    return match_parts(model, parts), ""


def another_model(
    name: str, model: LoadedModel, options: dict[str, Any], progress: Progress, weights: str | None = None
) -> LoadedModel:
    """Load another network with the same classes; what is not known of its preprocessing is as for ``model``."""
    other = load_model(
        name,
        weights=weights or "default",
        num_classes=model.num_classes,
        device=options["device"],
        seed=options["seed"],
        offline=options["offline"],
        progress=progress,
    )
    return prepared_like(other, model)


def second_model(model: LoadedModel, options: dict[str, Any], progress: Progress) -> LoadedModel | None:
    """Load the network of ``--against``, if any; errors name its own options."""
    if not options["against"]:
        return None
    try:
        return another_model(options["against"], model, options, progress, options["against_weights"])
    except (CannotRunError, UsageError) as error:
        raise type(error)(re.sub(r"(?<![\w-])--weights\b", "--against-weights", str(error))) from error


def journal_for(
    config: AdversarialConfig | AblationConfig | FiltersConfig | DossierConfig,
    model: LoadedModel,
    images: ImageSet,
    resume: bool,
    progress: Progress,
    training: Parts | None = None,
) -> FileJournal:
    """Return the journal of exactly this run.

    The key covers the version, the options but for where the work is done, the weights, the device and the images with the
    size and modification time of their files; any change starts a new journal. ``training`` are the images that are trained on, if any.
    """
    parts = () if training is None else (training.training, training.held_out)
    facts = {
        "version": __version__,
        "format": 4,  # of the arrays that batches are kept in
        "study": type(config).__name__,
        "config": {name: value for name, value in asdict(config).items() if name not in ("jobs", "cluster")},
        "module": fingerprint(model.module),
        "input": str(model.input),
        "device": str(model.device),
        "data": [images.name, images.source, len(images)],
        "items": [_item_facts(item) for item in images.items],
        "training": [[_item_facts(item) for item in part.items] for part in parts],
    }
    journal = FileJournal(cache_root() / "runs", facts, resume=resume)
    if resume and not journal.folder.is_dir():
        progress.say("There is no interrupted run with these options: starting from the beginning.")
    return journal


@contextmanager
def resumable(journal: FileJournal, progress: Progress, parts: str) -> Iterator[None]:
    """Say how many ``parts``, such as ``batches``, are kept where the user interrupts the block."""
    try:
        yield
    except KeyboardInterrupt:
        progress.say(f"{journal.saved + journal.loaded} finished {parts} are kept: add --resume to continue.")
        raise


def _item_facts(item: Item) -> tuple[Any, ...]:
    """Return what identifies an image: name, label, and the size and modification time of its file."""
    if item.path is None:
        return item.name, item.label
    try:
        status = item.path.stat()
    except OSError:  # the file is gone, and will be skipped when it is read
        return item.name, item.label, None
    return item.name, item.label, status.st_size, status.st_mtime_ns
