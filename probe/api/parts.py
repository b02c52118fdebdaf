"""The building blocks as functions of a plain module: cut it, see what a unit sees, draw and explain it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probe.core.errors import UsageError, unknown
from probe.core.outputs import returning_logits
from probe.core.state import training_mode
from probe.graph.edit.cut import CutSubject, find_sites
from probe.graph.edit.cut import cut as cut_sites
from probe.graph.edit.cut import prepare as prepare_cut
from probe.graph.edit.site import Site
from probe.graph.edit.structure import SWAP, get_structure
from probe.graph.receptive_field.field import ReceptiveField
from probe.graph.receptive_field.field import receptive_field as field_of
from probe.models.loaded import LoadedModel
from probe.models.wrap import wrap
from studies.filters.attribution.attribute import FURTHER, METHODS, in_batches
from studies.filters.attribution.attribute import prepare as prepare_attribution
from studies.filters.config import STEPS
from studies.filters.optimise import (
    Channel,
    Class,
    FourierBasis,
    Parametrisation,
    PictureRecipe,
    UnitObjective,
    render,
)
from studies.filters.optimise.maco import PHASE_RATE, fixed_magnitude
from studies.filters.optimise.objectives import Objective
from studies.filters.optimise.subjects import class_subject, layer_subject, traced_model

Network = nn.Module | LoadedModel
"""A module as it is, fed normalised images; of a LoadedModel, its network."""


def sites(net: Network, structure: str, *, example: Tensor) -> tuple[Site, ...]:
    """Return the places where a structure occurs in a network, in execution order.

    ``structure`` as ``probe ablate --remove`` takes it (``shortcut``, ``pool?to=max``), ``example`` an input
    (N, C, H, W). The module is left as it is. Raises UsageError for an unknown structure, NotApplicableError where it
    cannot be found without a graph.
    """
    return find_sites(_prepared(net, example), get_structure(structure))


def cut(
    net: Network, structure: str, *, example: Tensor, sites: Sequence[Site | str] | None = None
) -> nn.Module:
    """Return the network without a structure, in eval mode; it shares its tensors with the module, which is left as it is.

    ``structure`` may also be a swap, such as ``swap:activation?to=gelu``. ``sites`` are those to cut, or their names;
    None is all of them. Raises UsageError for unknown structures and sites, and where there is none to cut;
    NotApplicableError when the network no longer runs without them.
    """
    prepared, kind = _prepared(net, example), get_structure(structure)
    available = {site.name: site for site in find_sites(prepared, kind)}
    if not available:
        raise UsageError(f"The network has no {structure.removeprefix(SWAP)} to cut.")
    names = [site if isinstance(site, str) else site.name for site in (available if sites is None else sites)]
    for name in names:
        if name not in available:
            raise unknown(kind.name, name, available)
    return cut_sites(prepared, [available[name] for name in names])


def receptive_field(net: Network, layer: str, example: Tensor) -> ReceptiveField:
    """Return what every unit in the output of ``layer`` sees of an image of the size of ``example`` (N, C, H, W).

    Exact intervals of rows and columns, cut at the image's edge and uncut; ``note`` names what they leave out, such as
    global gates. Raises UsageError for an unknown layer, NotApplicableError for one without a map.
    """
    return field_of(_module(net), layer, example)


def feature_picture(
    net: Network,
    unit: str,
    *,
    size: tuple[int, int] | None = None,
    steps: int = STEPS,
    sign: int = 1,
    middle: bool = False,
    grey: bool = False,
    maco: bool = False,
    images: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Return a picture (C, H, W) in [0, 1] that excites a unit most, by optimisation (Olah et al. 2017).

    ``unit``: ``LAYER:CHANNEL``, such as ``layer3:7``, or ``class:CLASS`` for a logit. ``middle``: the unit in the middle
    of the channel's map instead of the channel's mean. ``sign`` −1 excites it least. ``size`` (H, W): None chooses by
    the layer. ``maco`` fixes the Fourier magnitude and optimises the phase alone (Fel et al. 2023): to the mean of ``images``
    (N, C, H, W), pixels in [0, 1] and no smaller than the picture, or without any to 1 / frequency. Of a plain module ``wrap``'s
    defaults hold: give a wrapped one where it expects normalised pixels. Raises UsageError for an unknown layer, channel or class,
    and for images without ``maco`` or of another kind than the picture.
    """
    layer, _, number = unit.rpartition(":")
    if not layer or not number.isdecimal() or sign not in (1, -1):
        raise UsageError(
            f"A unit is LAYER:CHANNEL or class:CLASS with sign 1 or -1, not '{unit}' with {sign}."
        )
    if images is not None and not maco:
        raise UsageError("The images of a feature picture give the magnitude of maco: add maco=True.")
    model = net if isinstance(net, LoadedModel) else wrap(net)
    example = model.example(seed=seed)
    traced = traced_model(model, example)
    objective: Objective
    if layer == "class":
        subject, own = class_subject(model, traced), model.input.size[1:]
        objective = Class(int(number), 1 if sign > 0 else -1)
    else:
        below = layer_subject(model, traced, layer, example)
        subject, own = below.subject, below.size
        objective = (UnitObjective if middle else Channel)(int(number), 1 if sign > 0 else -1)
    shape = size or (own[0], own[1])
    recipe = PictureRecipe(steps)
    if maco:
        parametrisation = Parametrisation(FourierBasis(*shape), model.input.size[0], grey)
        recipe = PictureRecipe(steps, rate=PHASE_RATE, magnitude=fixed_magnitude(parametrisation, images))
    rendering = render(
        subject,
        [objective],
        shape,
        recipe,
        channels=model.input.size[0],
        grey=grey,
        seed=seed,
    )
    return rendering.pictures[0]


def attribute(
    net: Network,
    images: Tensor,
    classes: Tensor | Sequence[int] | int | None = None,
    method: str = "integrated-gradients",
) -> Tensor:
    """Return maps of what in each image speaks for a class, (N, C, H, W) or (N, 1, H, W).

    ``images`` (N, C, H, W) are what the module is fed: pixels in [0, 1] for a LoadedModel, normalised ones for a plain
    module. ``classes``: one for all, or one an image; None takes the network's own answers. ``method``: gradient,
    guided-backprop, integrated-gradients, deeplift, gradcam, occlusion, smoothgrad, gradient-shap, layercam, rise
    or lrp. The module is left as it is. Raises UsageError for an unknown method, NotApplicableError where it has no
    meaning for the network.
    """
    known = {chosen.key.replace("_", "-"): chosen for chosen in (*METHODS, *FURTHER)}
    if method not in known:
        raise unknown("attribution method", method, known)
    module = net.module if isinstance(net, LoadedModel) else net
    module = returning_logits(module, images)
    with training_mode(module, False):
        prepared = prepare_attribution(module, images[:1])
        if classes is None:
            with torch.no_grad():
                classes = module(images).argmax(1)
    targets = torch.as_tensor(classes, device=images.device)
    return in_batches(known[method], prepared, images, targets.expand(len(images)))


def _prepared(net: Network, example: Tensor) -> CutSubject:
    return prepare_cut(_module(net), example)


def _module(net: Network) -> nn.Module:
    return net.network if isinstance(net, LoadedModel) else net


__all__ = ["attribute", "cut", "feature_picture", "receptive_field", "sites"]
