"""From the options of a command to what its study is given: config, further models, journal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from probe import __version__
from probe.attacks.epsilons import parse_epsilons
from probe.attacks.norms import norm_named
from probe.core.journal import FileJournal
from probe.core.progress import Progress
from probe.core.state import fingerprint
from probe.data.images import ImageSet
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from probe.models.store import cache_root
from probe.options import DEFAULT_EPSILONS
from studies.adversarial import AdversarialConfig


def adversarial_config(options: dict[str, Any]) -> AdversarialConfig:
    """Return the config that the options of ``probe adversarial`` mean; raises UsageError."""
    norm, shown = norm_named(options["norm"]), options["images"]
    return AdversarialConfig(
        epsilons=parse_epsilons(options["eps"] or DEFAULT_EPSILONS[norm.name], norm),
        norm=norm.name,
        attacks=options["attack"] or (),
        target=options["target"],
        restarts=options["restarts"],
        steps=options["steps"],
        views=options["views"],
        checks=() if options["no_checks"] else options["checks"],
        images=shown[0] if len(shown) == 1 else shown,
        batch_size=options["batch_size"],
        reduced=False if options["full_precision"] else None,
        seed=options["seed"],
    )


def another_model(
    name: str, model: LoadedModel, options: dict[str, Any], progress: Progress, weights: str | None = None
) -> LoadedModel:
    """Load another network that answers the same classes."""
    return load_model(
        name,
        weights=weights or "default",
        num_classes=model.num_classes,
        device=options["device"],
        seed=options["seed"],
        offline=options["offline"],
        progress=progress,
    )


def journal_for(
    config: AdversarialConfig, model: LoadedModel, images: ImageSet, resume: bool, progress: Progress
) -> FileJournal:
    """Return the journal of exactly this run: other options, weights or images make another one."""
    facts = {
        "version": __version__,
        "study": "adversarial",
        "config": asdict(config),
        "module": fingerprint(model.module),
        "input": str(model.input),
        "device": str(model.device),
        "data": [images.name, images.source, len(images)],
        "items": [images.item_name(index) for index in range(len(images))],
    }
    journal = FileJournal(cache_root() / "runs", facts, resume=resume)
    if resume and not journal.folder.is_dir():
        progress.say("There is no interrupted run with these options: starting anew.")
    return journal
