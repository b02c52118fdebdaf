"""The options of the dossier, and the choice of layers, channels and structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from probe.core.errors import NotApplicableError, UsageError
from probe.graph.edit.cut import CutSubject, find_sites
from probe.graph.edit.structure import get_structure
from probe.graph.trace.layers import ConvolutionInfo, convolutions, feature_layers
from probe.models.loaded import LoadedModel
from studies.ablation.plan import evenly_spaced
from studies.filters.choose import answering_layer

IMAGES = 40
"""The default number of images: enough for useful intervals, few enough to finish in minutes."""


@dataclass(frozen=True)
class DossierConfig:
    """The options of ``probe dossier``.

    ``epsilon`` in ``norm`` is the size of the reported attack. ``layers`` are the convolutions, or layers that contain
    one, whose channels are measured; None: one is chosen automatically. At most ``channels`` channels of a layer are
    measured, and ``pictured`` of them are shown. ``quick`` uses fewer steps for attacks and pictures, and no checks.
    ``jobs`` processes (0: one a core), or a dask ``cluster``, do the work of the studies.
    """

    epsilon: float = 0.03
    norm: str = "Linf"
    layers: tuple[str, ...] | None = None
    channels: int = 32
    pictured: int = 6
    quick: bool = False
    batch_size: int = 32
    seed: int = 0
    jobs: int = 1
    cluster: str | None = None

    @property
    def steps(self) -> int:
        """Steps of optimisation for each feature picture."""
        return 32 if self.quick else 96


FEWEST = 16
"""The minimum number of channels of a layer: with fewer, a rank correlation is hardly informative."""

_STRUCTURES = ("block", "shortcut", "dense", "branch", "layer", "norm", "relu")
_AT_ONCE = 2


@dataclass(frozen=True)
class DossierChoice:
    """A convolution, the layer at which the outputs of its filters are measured, and the channels, ascending."""

    convolution: ConvolutionInfo
    answers: str
    channels: tuple[int, ...]

    @property
    def name(self) -> str:
        """The convolution's name."""
        return self.convolution.name

    @property
    def total(self) -> int:
        """The total number of channels."""
        return self.convolution.shape[0]


def choose_layers(model: LoadedModel, names: Sequence[str] | None, most: int) -> tuple[DossierChoice, ...]:
    """Return the convolutions to measure: the requested ones, or the one that ``automatic`` chooses.

    Raises UsageError for a name that neither is nor contains a convolution; NotApplicableError without convolutions.
    """
    with torch.no_grad():
        example = model.module.normalise(model.example())
    every = convolutions(model.network, example)
    if not every:
        raise NotApplicableError("The network has no two-dimensional convolution.")
    chosen = (
        [automatic(every, most)] if names is None else [_find(every, name) for name in dict.fromkeys(names)]
    )
    maps = feature_layers(model.network, example)
    return tuple(
        DossierChoice(
            convolution,
            answering_layer(model.network, maps, convolution.name),
            evenly_spaced(convolution.shape[0], most),
        )
        for convolution in chosen
    )


def automatic(every: Sequence[ConvolutionInfo], most: int) -> ConvolutionInfo:
    """Return the last convolution with spatial kernels and at least 16 channels, all of which can be measured.

    Depthwise convolutions have lower priority. If there is no such convolution, return that with the fewest channels of
    at least 16, else that with the most channels.
    """
    fit = [convolution for convolution in every if FEWEST <= convolution.shape[0] <= most]
    spatial = [convolution for convolution in fit if max(convolution.module.kernel_size) > 1]
    dense = [convolution for convolution in spatial if convolution.module.groups == 1]
    for group in (dense, spatial, fit):
        if group:
            return group[-1]
    large = [convolution for convolution in every if convolution.shape[0] >= FEWEST]
    return (
        min(large, key=lambda convolution: convolution.shape[0])
        if large
        else max(every, key=lambda convolution: convolution.shape[0])
    )


def _find(every: Sequence[ConvolutionInfo], name: str) -> ConvolutionInfo:
    for layer in every:
        if layer.name == name or layer.name.startswith(f"{name}."):
            return layer
    known = ", ".join(convolution.name for convolution in every[:6])
    raise UsageError(
        f"There is no convolution '{name}', and no layer of that name that contains one. Known: {known} …"
    )


def present_structures(subject: CutSubject) -> tuple[str, ...]:
    """Return the first structures, at most two, that the network has: residual structures before single layers."""
    present = []
    for word in _STRUCTURES:
        try:
            if find_sites(subject, get_structure(word)):
                present.append(word)
        except NotApplicableError:
            continue
        if len(present) == _AT_ONCE:
            break
    return tuple(present)
