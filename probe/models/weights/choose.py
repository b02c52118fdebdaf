"""Choosing and loading the weights of a network, given its architecture and the value of ``--weights``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from probe.core.errors import CannotRunError, UsageError
from probe.models.first_pass import ShapeError
from probe.models.loaded import Provenance
from probe.models.request import BuiltModel, LoadRequest
from probe.models.source import Architecture, Build, PackagedFile, Published, UrlFile
from probe.models.weights import digits
from probe.models.weights.checkpoint import Checkpoint, looks_like_path, read_checkpoint
from probe.models.weights.custom import as_returned, from_file, random_weights
from probe.models.weights.fetch import LocalFile, UnobtainableError, fetch, hash_in_name, where_published
from probe.models.weights.reinitialise import random_builder
from probe.models.weights.wording import how_to_fix, shown_path

_LEAST_ACCURACY = 0.9
"""With a lower accuracy on held-out digits, digits weights do not replace the network's own weights."""


def put_weights(architecture: Architecture, order: LoadRequest) -> BuiltModel:
    """Return the network with the requested weights; raises a ProbeError if they are not available."""
    word = order.weights
    if word == "none":
        return random_weights(architecture, order)
    if word == "digits":
        return _digits(architecture, order, _setting(architecture, order))
    if word == "default":
        return _default(architecture, order)
    if any(published.name.lower() == word.lower() for published in architecture.published):
        return _load_published(architecture, order, architecture.find_published(word))
    if looks_like_path(word):
        checkpoint = read_checkpoint(Path(word).expanduser())
        known = _matching_published(architecture, checkpoint)
        if known is not None and known.num_classes:
            return _published(architecture, order, known, LocalFile(checkpoint.path))
        return from_file(architecture, order, checkpoint)
    return _load_published(architecture, order, architecture.find_published(word))


def _default(architecture: Architecture, order: LoadRequest) -> BuiltModel:
    if architecture.user_code:
        return as_returned(architecture, order)
    reason = "no weights are published for it"
    place = ""
    if architecture.published:
        published = architecture.published[0]
        place = where_published(published)
        _check_classifier(architecture, published)
        try:
            return _published(architecture, order, published, fetch(published, order.access))
        except UnobtainableError as error:
            reason = str(error)
    return _fall_back(architecture, order, reason, place)


def _fall_back(architecture: Architecture, order: LoadRequest, reason: str, place: str) -> BuiltModel:
    """Train a small network on digits; raise CannotRunError, with how to fix it, for any other."""
    try:
        setting = _setting(architecture, order)
    except (ShapeError, UsageError) as error:
        if isinstance(error, ShapeError) and order.img_size is not None:
            raise
        raise _no_weights(architecture, reason, place) from error
    if not setting.small:
        raise _no_weights(architecture, reason, place)
    return _digits(architecture, order, setting, reason if architecture.published else "")


def _no_weights(architecture: Architecture, reason: str, place: str) -> CannotRunError:
    return CannotRunError(
        f"Could not get the weights for {architecture.source}: {reason}. {how_to_fix(architecture.source, place)}"
    )


def _load_published(architecture: Architecture, order: LoadRequest, published: Published) -> BuiltModel:
    _check_classifier(architecture, published)
    try:
        file = fetch(published, order.access)
    except UnobtainableError as error:
        raise CannotRunError(
            f"Could not get the weights {published.name} for {architecture.source}: {error}. "
            f"{how_to_fix(architecture.source, where_published(published))}"
        ) from error
    return _published(architecture, order, published, file)


def _check_classifier(architecture: Architecture, published: Published) -> None:
    if published.num_classes == 0:
        others = [other.name for other in architecture.published if other.num_classes]
        raise UsageError(
            f"The weights {published.name} of {architecture.source} have no classifier, so there are no logits. "
            f"Other weights: {', '.join(others) or 'none'}."
        )


def _published(
    architecture: Architecture, order: LoadRequest, published: Published, file: LocalFile
) -> BuiltModel:
    checkpoint = read_checkpoint(file.path)
    network = published.load(Build(None, order.img_size), checkpoint.state)
    provenance = Provenance(
        source=architecture.source,
        weights=published.description or published.name,
        file=shown_path(file.path),
        url=file.url,
        sha256=checkpoint.sha256,
        licence=published.licence,
        notes=checkpoint.notes,
    )
    return BuiltModel(
        network=network,
        framing=published.framing.resized(order.img_size),
        provenance=provenance,
        draw=partial(architecture.build, Build(published.num_classes, order.img_size)),
        class_names=published.class_names,
        domain=published.domain,
    )


def _setting(architecture: Architecture, order: LoadRequest) -> digits.DigitsSetting:
    return digits.digits_setting(architecture, random_builder(architecture), order.img_size)


def _matching_published(architecture: Architecture, checkpoint: Checkpoint) -> Published | None:
    """Return the published weights whose file this is, according to the sha256 in the published name."""
    for published in architecture.published:
        for origin in published.origins:
            prefix = None
            if isinstance(origin, PackagedFile):
                prefix = origin.sha256_prefix
            elif isinstance(origin, UrlFile):
                prefix = hash_in_name(origin.name)
            if prefix and checkpoint.sha256.startswith(prefix):
                return published
    return None


def _digits(
    architecture: Architecture, order: LoadRequest, setting: digits.DigitsSetting, reason: str = ""
) -> BuiltModel:
    trained = digits.train_or_load(setting, architecture.name, order.device, order.access.progress)
    if reason and trained.correct < _LEAST_ACCURACY * trained.n:
        raise CannotRunError(
            f"Could not get the weights for {architecture.source} ({reason}), and training it on digits instead "
            f"reached only {trained.accuracy}. {how_to_fix(architecture.source)}"
        )
    note = f"Trained by probe on scikit-learn's digits: these are NOT ImageNet weights. {trained.accuracy}."
    because = (f"Could not get the network's own weights: {reason}.",) if reason else ()
    return BuiltModel(
        network=setting.network,
        framing=setting.framing,
        provenance=Provenance(
            architecture.source,
            f"digits, trained by probe ({trained.accuracy})",
            file=shown_path(trained.path),
            sha256=trained.sha256,
            licence=architecture.licence,
            notes=(note, *because),
        ),
        draw=partial(random_builder(architecture), Build(len(digits.CLASS_NAMES), order.img_size)),
        class_names=digits.CLASS_NAMES,
        domain="digits",
        bound=True,
    )
