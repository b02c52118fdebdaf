"""The options of the dossier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from probe.core.errors import NotApplicableError, UsageError
from probe.graph.edit.cut import CutSubject, find_sites
from probe.graph.edit.structure import structure_named
from probe.graph.trace.layers import ConvolutionInfo, convolutions, feature_layers
from probe.models.loaded import LoadedModel
from studies.ablation.plan import evenly_spaced
from studies.filters.choose import answering_layer

IMAGES = 40
"""Images that are studied when no number is given: enough for intervals, few enough for minutes."""


@dataclass(frozen=True)
class DossierConfig:
    """The options of ``probe dossier``.

    ``epsilon`` in ``norm`` is what the attack is reported at. ``layers`` are the convolutions, or layers that hold one,
    whose channels are measured; None lets the dossier choose one. At most ``channels`` of a layer are measured,
    ``pictured`` of them shown. ``quick`` attacks and makes pictures with fewer steps, and leaves the checks out.
    """

    epsilon: float = 0.03
    norm: str = "Linf"
    layers: tuple[str, ...] | None = None
    channels: int = 32
    pictured: int = 6
    quick: bool = False
    batch_size: int = 32
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of optimisation for each feature picture."""
        return 32 if self.quick else 96


FEWEST = 16
"""Channels that a layer should have: with fewer a rank correlation says next to nothing."""

_STRUCTURES = ("block", "shortcut", "dense", "branch", "layer", "norm", "relu")
_AT_ONCE = 2


@dataclass(frozen=True)
class DossierChoice:
    """A convolution, the layer at which its filters answer, and the channels to measure, ascending."""

    convolution: ConvolutionInfo
    answers: str
    channels: tuple[int, ...]

    @property
    def name(self) -> str:
        """The convolution's name."""
        return self.convolution.name

    @property
    def total(self) -> int:
        """The number of channels that there are."""
        return self.convolution.shape[0]


def choose_layers(model: LoadedModel, wanted: Sequence[str] | None, most: int) -> tuple[DossierChoice, ...]:
    """Return the convolutions to measure: the wanted ones, or the one that ``automatic`` prefers.

    Raises UsageError for a name that is no convolution and holds none; NotApplicableError without convolutions.
    """
    with torch.no_grad():
        example = model.module.normalise(model.example())
    every = convolutions(model.network, example)
    if not every:
        raise NotApplicableError("The network has no two-dimensional convolution.")
    found = (
        [automatic(every, most)]
        if wanted is None
        else [_named(every, name) for name in dict.fromkeys(wanted)]
    )
    maps = feature_layers(model.network, example)
    return tuple(
        DossierChoice(one, answering_layer(model.network, maps, one.name), evenly_spaced(one.shape[0], most))
        for one in found
    )


def automatic(every: Sequence[ConvolutionInfo], most: int) -> ConvolutionInfo:
    """Prefer the last convolution with spatial kernels whose channels, 16 or more, can all be measured.

    Depthwise ones come after others. Where there is none, it is the one with the fewest channels of at least 16, else
    the one with most channels.
    """
    fit = [one for one in every if FEWEST <= one.shape[0] <= most]
    spatial = [one for one in fit if max(one.module.kernel_size) > 1]
    dense = [one for one in spatial if one.module.groups == 1]
    for group in (dense, spatial, fit):
        if group:
            return group[-1]
    large = [one for one in every if one.shape[0] >= FEWEST]
    return min(large, key=lambda one: one.shape[0]) if large else max(every, key=lambda one: one.shape[0])


def _named(every: Sequence[ConvolutionInfo], name: str) -> ConvolutionInfo:
    for one in every:
        if one.name == name or one.name.startswith(f"{name}."):
            return one
    known = ", ".join(one.name for one in every[:6])
    raise UsageError(
        f"There is no convolution '{name}', and no layer of that name holds one. Known: {known} …"
    )


def present_structures(subject: CutSubject) -> tuple[str, ...]:
    """Return the first structures, at most two, that the network has: residual ones before single layers."""
    found = []
    for word in _STRUCTURES:
        try:
            if find_sites(subject, structure_named(word)):
                found.append(word)
        except NotApplicableError:
            continue
        if len(found) == _AT_ONCE:
            break
    return tuple(found)
