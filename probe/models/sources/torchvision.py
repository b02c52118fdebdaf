"""torchvision's classification networks, with the weights and the preprocessing of its weight enums."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache, partial
from typing import Any

from torch import nn

from probe.core.errors import UsageError
from probe.data.images import InputSpec, Interpolation
from probe.models.labels import IMAGENET_CLASSES
from probe.models.source import (
    SOURCES,
    Access,
    Architecture,
    Build,
    ModelRow,
    Preprocessing,
    Published,
    State,
    UrlFile,
    unknown_name,
)
from probe.models.weights.checkpoint import CheckpointError
from probe.models.weights.fetch import torch_home
from probe.models.weights.fit_names import load_into
from probe.models.weights.wording import LICENCE_TORCHVISION

_DENSENET_KEY = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
"""The published DenseNet files call ``norm.1`` what the network calls ``norm1``."""

_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


@SOURCES.register("torchvision")
class Torchvision:
    """torchvision's classification networks with their published weights."""

    rank: int | None = 2

    def knows(self, target: str) -> bool:
        """Return whether torchvision has this classification network."""
        return target in _names()

    def names(self) -> Collection[str]:
        """Return torchvision's classification networks."""
        return _names()

    def find(self, target: str, options: Mapping[str, Any], access: Access) -> Architecture:
        """Return the network and its weights; an unknown name raises UsageError."""
        if not self.knows(target):
            raise unknown_name(target, "torchvision network", self.names())
        published = tuple(_published(target, options, weights) for weights in _weights(target))
        return Architecture(
            name=target,
            source=f"torchvision:{target}",
            build=partial(_build, target, dict(options)),
            published=published,
            framing=published[0].framing,
            default_classes=IMAGENET_CLASSES,
            domain="imagenet",
            licence=LICENCE_TORCHVISION,
        )

    def rows(self) -> Iterator[ModelRow]:
        """Yield one line per network."""
        here = torch_home()
        for name in _names():
            members = _weights(name)
            present = tuple(w.name for w in members if (here / w.url.rpartition("/")[2]).is_file())
            names = (*(weights.name for weights in members), "digits", "none")
            yield ModelRow(name, "torchvision", names, members[0].url.split("/")[2], present)


@cache
def _names() -> tuple[str, ...]:
    from torchvision import models

    return tuple(models.list_models(module=models))


def _weights(name: str) -> list[Any]:
    """Return the members of a network's weight enum, the default first."""
    from torchvision import models

    members = models.get_model_weights(name)
    return sorted(members, key=lambda member: member is not members.DEFAULT)


def _published(name: str, options: Mapping[str, Any], weights: Any) -> Published:
    categories = weights.meta.get("categories")
    transforms = weights.transforms()
    size = tuple(transforms.crop_size) * (2 if len(transforms.crop_size) == 1 else 1)
    framing = Preprocessing(
        InputSpec((3, *size), min(1.0, size[0] / transforms.resize_size[0]), _interpolation(transforms)),
        tuple(transforms.mean),
        tuple(transforms.std),
    )
    return Published(
        name=weights.name,
        origins=(UrlFile(weights.url, weights.url.rpartition("/")[2]),),
        framing=framing,
        num_classes=len(categories or ()),
        load=partial(_load, name, dict(options), weights),
        class_names=tuple(categories) if categories else None,
        domain="imagenet",
        licence=weights.meta.get("license", LICENCE_TORCHVISION),
        description=f"{weights.name} (trained on ImageNet, by torchvision)",
    )


def _interpolation(transforms: Any) -> Interpolation:
    value = transforms.interpolation.value
    return "nearest" if value == "nearest" else "bicubic" if value == "bicubic" else "bilinear"


def _build(name: str, options: Mapping[str, Any], build: Build) -> nn.Module:
    extra: dict[str, Any] = {}
    if build.num_classes is not None:
        extra["num_classes"] = build.num_classes
    if name in _WITH_AUXILIARY_HEADS:
        # The auxiliary heads are for training only; the initialisation is that of the papers' authors.
        extra.update(aux_logits=False, init_weights=True)
    if name.startswith("vit_") and build.img_size is not None:
        extra["image_size"] = build.img_size[0]
    return _call(name, {**extra, **options})


def _load(name: str, options: Mapping[str, Any], weights: Any, build: Build, state: State) -> nn.Module:
    """Build the network as torchvision does for these weights, and load them."""
    extra: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    auxiliary = name in _WITH_AUXILIARY_HEADS
    if auxiliary:
        extra.update(transform_input=True, aux_logits=True, init_weights=False)
    if name.startswith("vit_"):
        extra["image_size"] = weights.meta["min_size"][0]
    network = _call(name, {**extra, **options})
    load_into(network, _rename_keys(state), f"The weights {weights.name} do not fit torchvision:{name}")
    if auxiliary:
        _drop_auxiliary_heads(network)
    return network


def _drop_auxiliary_heads(network: Any) -> None:
    network.aux_logits = False
    for head in ("aux1", "aux2", "AuxLogits"):
        if hasattr(network, head):
            setattr(network, head, None)


def _rename_keys(state: State) -> State:
    return {_DENSENET_KEY.sub(r"\1\2", key): value for key, value in state.items()}


def _call(name: str, options: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    try:
        network: nn.Module = models.get_model(name, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"torchvision:{name} cannot be built with these options: {str(error).splitlines()[0]}"
        ) from error
    except RuntimeError as error:
        raise CheckpointError(f"torchvision:{name}: {str(error).splitlines()[0]}") from error
    return network
