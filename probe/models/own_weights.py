"""Weights that are nobody's publication: random ones, a user's function's own, a user's file."""

from __future__ import annotations

from functools import partial

from torch import nn

from probe.core.errors import CannotRunError
from probe.core.seeds import scoped
from probe.models.checkpoint import Checkpoint
from probe.models.draft import Draft, Order, framing_for
from probe.models.fitting import load_into, rebuilt_for_classes
from probe.models.loaded import Provenance, random_provenance
from probe.models.redraw import always_same, random_builder
from probe.models.source import Architecture, Build
from probe.models.wording import shown_path, ways_out


def random_weights(architecture: Architecture, order: Order) -> Draft:
    """Draw the weights by the seed, for as many classes as the data has."""
    build = random_builder(architecture)
    options = Build(order.num_classes, order.img_size)
    with scoped(order.seed, "random weights"):
        network = build(options)
    framing, notes = framing_for(architecture, network, order)
    classes = order.num_classes or architecture.default_classes
    same_task = classes is not None and classes == architecture.default_classes
    return Draft(
        network=network,
        framing=framing,
        provenance=random_provenance(
            architecture.source, order.seed, architecture.licence, notes if architecture.user_code else ()
        ),
        draw=partial(build, options),
        domain=architecture.domain if same_task else "unknown",
    )


def as_returned(architecture: Architecture, order: Order) -> Draft:
    """Take the weights that a user's function returns, unless it draws them at random."""
    options = Build(None, order.img_size)
    if not always_same(partial(architecture.build, options)):
        raise CannotRunError(
            f"{architecture.source} returns random weights, which show nothing that was learned. "
            f"{ways_out(architecture.source)}"
        )
    network = architecture.build(options)
    framing, notes = framing_for(architecture, network, order)
    return Draft(
        network=network,
        framing=framing,
        provenance=Provenance(architecture.source, f"as {architecture.source} returns them", notes=notes),
        draw=partial(random_builder(architecture, same=True), options),
    )


def from_file(architecture: Architecture, order: Order, checkpoint: Checkpoint) -> Draft:
    """Put a checkpoint into the network, built for as many classes as the file has."""
    path = checkpoint.path
    network, classes = _built_for(architecture, order, checkpoint)
    what = f"{path} does not fit {architecture.source}"
    partly = load_into(network, checkpoint.state, what, order.allow_partial)
    framing, assumed = framing_for(architecture, network, order)
    notes = [*partly, *checkpoint.notes, *assumed]
    imagenet = architecture.domain == "imagenet" and classes == architecture.default_classes
    if architecture.published:
        notes.append(
            "Input size and normalisation are those of this network's published weights "
            "(--img-size, --mean and --std change them)."
        )
    if imagenet:
        notes.append(f"The {classes:,} outputs are taken for the ImageNet classes in their usual order.")
    names = architecture.published[0].class_names if imagenet and architecture.published else None
    return Draft(
        network=network,
        framing=framing,
        provenance=Provenance(
            architecture.source,
            f"from the file {path.name}",
            file=shown_path(path),
            sha256=checkpoint.sha256,
            notes=tuple(notes),
        ),
        draw=partial(random_builder(architecture), Build(classes, order.img_size)),
        class_names=names,
        domain=architecture.domain if imagenet else "unknown",
    )


def _built_for(
    architecture: Architecture, order: Order, checkpoint: Checkpoint
) -> tuple[nn.Module, int | None]:
    """Return the network built for the number of classes that the file has."""

    def build(count: int | None) -> nn.Module:
        with scoped(order.seed, "weights not in the file"):
            return architecture.build(Build(count, order.img_size))

    network = build(None)
    other = rebuilt_for_classes(network, checkpoint.state, build)
    return other if other is not None else (network, architecture.default_classes)
