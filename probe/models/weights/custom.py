"""Unpublished weights: random weights, weights from a user's function, weights from a user's file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from probe.core.errors import CannotRunError
from probe.core.seeds import scoped
from probe.models.loaded import Provenance, random_provenance
from probe.models.request import BuiltModel, LoadRequest, framing_for
from probe.models.source import NORMALISATION, RESIZING, SIZE, Architecture, Build
from probe.models.weights.checkpoint import Checkpoint
from probe.models.weights.fit_names import fit_names, load_into, rebuilt_for_classes
from probe.models.weights.record import Record, read_record
from probe.models.weights.reinitialise import always_same, random_builder, refuse_nan
from probe.models.weights.wording import how_to_fix, shown_path


def random_weights(architecture: Architecture, order: LoadRequest) -> BuiltModel:
    """Draw the weights with the seed, for the data's number of classes."""
    build = random_builder(architecture)
    options = Build(order.num_classes, order.img_size)
    with scoped(order.seed, "random weights"):
        network = build(options)
    framing, notes = framing_for(architecture, network, order)
    framing = framing.without(RESIZING, NORMALISATION)  # nothing was learned with any
    classes = order.num_classes or architecture.default_classes
    same_task = classes is not None and classes == architecture.default_classes
    return BuiltModel(
        network=network,
        framing=framing,
        provenance=random_provenance(
            architecture.source, order.seed, architecture.licence, notes if architecture.user_code else ()
        ),
        draw=partial(build, options),
        domain=architecture.domain if same_task else "unknown",
    )


def as_returned(architecture: Architecture, order: LoadRequest) -> BuiltModel:
    """Use the weights that a user's function returns; raises CannotRunError if they are random or NaN."""
    options = Build(None, order.img_size)
    if not always_same(partial(architecture.build, options)):
        raise CannotRunError(
            f"{architecture.source} returns random weights, so the network has learned nothing. "
            f"{how_to_fix(architecture.source)}"
        )
    network = architecture.build(options)
    refuse_nan(network, architecture.source)
    framing, notes = framing_for(architecture, network, order)
    return BuiltModel(
        network=network,
        framing=framing,
        provenance=Provenance(architecture.source, f"as {architecture.source} returns them", notes=notes),
        draw=partial(random_builder(architecture, same=True), options),
    )


def from_file(architecture: Architecture, order: LoadRequest, checkpoint: Checkpoint) -> BuiltModel:
    """Load a checkpoint into the network, built for the number of classes in the file.

    A file from ``probe train`` also provides its input size, normalisation, class names and task.
    """
    path = checkpoint.path
    record, unusable = read_record(checkpoint.metadata)
    if record is not None and order.img_size is None:
        order = replace(order, img_size=record.built)
    checkpoint, network, classes = _built_for(architecture, order, checkpoint)
    label = f"{path} does not fit {architecture.source}"
    partly = load_into(network, checkpoint.state, label, order.allow_partial)
    framing, assumed = framing_for(architecture, network, order)
    if record is not None and record.framing.input.size[0] != framing.input.size[0]:
        unusable = f"its images have {record.framing.input.size[0]} channels"
        record = None
    draft = BuiltModel(
        network=network,
        framing=framing,
        provenance=Provenance(
            architecture.source,
            f"from the file {path.name}",
            file=shown_path(path),
            sha256=checkpoint.sha256,
            notes=(*partly, *checkpoint.notes),
        ),
        draw=partial(random_builder(architecture), Build(classes, order.img_size)),
    )
    if record is not None:
        return _with_record(draft, record, order)
    if unusable:
        draft = _with_notes(
            draft, f"The training record in {path.name} cannot be used and was ignored: {unusable}."
        )
    return _with_assumptions(_with_notes(draft, *assumed), architecture, classes, order)


def _with_record(draft: BuiltModel, record: Record, order: LoadRequest) -> BuiltModel:
    """Return the draft with the training record of the file."""
    source = draft.provenance.source
    notes = [f"According to the file itself, these weights were {record.description}."]
    if record.domain == "unknown":
        notes.append(
            f"The network was trained on most of {record.data}: accuracy on it is not accuracy on held-out images."
        )
    if record.model != source:
        notes.append(f"The file was written for {record.model}; its tensors also fit {source}.")
    description = f"{draft.provenance.weights}: {record.description}"
    return replace(
        draft,
        framing=record.framing.resized(order.img_size),
        provenance=replace(draft.provenance, weights=description, notes=(*draft.provenance.notes, *notes)),
        class_names=record.class_names,
        domain=record.domain,
        bound=True,
    )


def _with_assumptions(
    draft: BuiltModel, architecture: Architecture, classes: int | None, order: LoadRequest
) -> BuiltModel:
    """Return the draft with what its architecture implies about a file without a record."""
    imagenet = architecture.domain == "imagenet" and classes == architecture.default_classes
    if architecture.published:
        draft = _with_notes(
            draft,
            "Input size, resizing and normalisation are those of this network's published weights "
            "(set --img-size, --resize, --crop, --mean and --std to change them).",
        )
        assumed = (RESIZING, NORMALISATION) if order.img_size else (SIZE, RESIZING, NORMALISATION)
        spec = replace(draft.framing.input, as_is=True)
        draft = replace(draft, framing=replace(draft.framing, input=spec, assumed=assumed))
    if not imagenet:
        return draft
    names = architecture.published[0].class_names if architecture.published else None
    draft = _with_notes(
        draft, f"The {classes:,} outputs are assumed to be the ImageNet classes in their usual order."
    )
    return replace(draft, class_names=names, domain=architecture.domain)


def _with_notes(draft: BuiltModel, *notes: str) -> BuiltModel:
    return replace(draft, provenance=replace(draft.provenance, notes=(*draft.provenance.notes, *notes)))


def _built_for(
    architecture: Architecture, order: LoadRequest, checkpoint: Checkpoint
) -> tuple[Checkpoint, nn.Module, int | None]:
    """Return the dictionary of the file that fits, and the network built for its number of classes."""

    def build(count: int | None) -> nn.Module:
        with scoped(order.seed, "weights not in the file"):
            return architecture.build(Build(count, order.img_size))

    network = build(None)
    fitting = {found.key: fit_names(found.state, network).n_fitting for found in checkpoint.candidates}
    checkpoint = checkpoint.choose(fitting)
    other = rebuilt_for_classes(network, checkpoint.state, build)
    return checkpoint, *(other if other is not None else (network, architecture.default_classes))
