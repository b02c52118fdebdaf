"""Where the network looked, before and after the attack."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from scipy.stats import spearmanr
from torch import Tensor

from probe.attacks.judge import Judgement
from probe.core.document import Gallery, Picture, Result, Section, Strip, percent
from probe.core.errors import NotApplicableError
from probe.core.seeds import derive
from probe.core.stats import bootstrap
from probe.graph.trace.layers import last_map_layer
from probe.graph.trace.trace import shared_copy
from probe.report.raster import magnified, picture
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace

_SIDE = 176
_MOST = 16


@VIEWS.register("attention", order=5)
def attention(space: AdversarialWorkspace) -> Section:
    """Compare GradCAM maps before and after the attack: did the network look elsewhere?"""
    if not space.sample:
        raise NotApplicableError(f"{space.phrases.nobody}, so there is nothing to compare.")
    places = space.look()
    layer = last_map_layer(space.model.module, space.sampled[0][:1])
    if not layer:
        raise NotApplicableError("GradCAM needs a layer whose output is a map larger than 1 × 1.")
    images, steps, found = space.pictured
    if not steps:
        raise NotApplicableError("At epsilon 0 there is nothing to compare.")
    rows = tuple(
        _row(space, layer, row, place, images[row : row + 1], found[-1])
        for row, place in enumerate(places)
        if space.results.right[place]
    )
    gallery = Gallery(
        f"GradCAM at {layer.removeprefix('network.')}",
        rows,
        "Bright: what raised the class named under the picture (Selvaraju et al. 2017). If the maps for the old class "
        "before and after are alike, the network still looks at the same place and reads it differently; if the map "
        "has moved, the attack has drawn its attention away. A map without anything bright says that nothing in the "
        "image speaks for that class any more. GradCAM is coarse: one value for each position of the layer.",
        _SIDE,
    )
    similar, vanished, n = _similarity(space, layer)
    result, said = _told(space, similar, vanished, n)
    return Section("attention", "Where it looks", said, (gallery,), results=(result,))


def _maps(space: AdversarialWorkspace, layer: str, images: Tensor, classes: Tensor) -> Tensor:
    """Return GradCAM maps (N, 1, h, w) in the layer's own resolution."""
    module = shared_copy(space.model.module)
    with torch.inference_mode(False), torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        cam = LayerGradCam(module, module.get_submodule(layer)).attribute(
            inputs, classes, relu_attributions=True
        )
    found: Tensor = cam.detach()
    return found


def _row(
    space: AdversarialWorkspace, layer: str, row: int, place: int, image: Tensor, verdict: Judgement
) -> Strip:
    label, answer = space.labels([place]), verdict.predictions[row : row + 1]
    moved = verdict.images[row : row + 1]
    maps = [
        (image, label, "before", "clean image"),
        (moved, label, "after, the old class", "adversarial image"),
        (moved, answer, "after, the new answer", "adversarial image"),
    ]
    name = space.item_name(place)
    pictures = [Picture(magnified(image[0].cpu(), _SIDE), f"{name} without attack", "the image")]
    for pixels, wanted, when, what in maps:
        cam = _maps(space, layer, pixels, wanted)
        size = [int(pixels.shape[2]), int(pixels.shape[3])]
        wide = F.interpolate(cam.float(), size=size, mode="bilinear", align_corners=False)[0]
        told = space.class_name(int(wanted[0]))
        drawn = picture(wide.cpu(), pixels[0].cpu(), signed=False, overlay=True)
        pictures.append(Picture(drawn, f"GradCAM of the {what} for {told}", f"{when}: {told}"))
    note = f"Taken for {space.class_name(int(answer[0]))} with {percent(float(verdict.confidences[row]))}."
    return Strip(tuple(pictures), space.short_name(place), note)


def _similarity(space: AdversarialWorkspace, layer: str) -> tuple[list[float], int, int]:
    """Return the rank correlation of each map with itself under attack, how many vanished, and of how many.

    Over the sampled images whose map for the right class is not constant without attack.
    """
    images, labels, _ = space.sampled
    rows = torch.arange(len(labels), device=images.device)[:_MOST]
    found: list[float] = []
    vanished = n = 0
    for part in torch.split(rows, 8):
        before = _maps(space, layer, images[part], labels[part]).flatten(1).cpu()
        after = _maps(space, layer, space.sample_full[part], labels[part]).flatten(1).cpu()
        for one, other in zip(before, after, strict=True):
            if float(one.std()) == 0:
                continue
            n += 1
            if float(other.std()) == 0:
                vanished += 1
            else:
                found.append(float(spearmanr(one.numpy(), other.numpy()).statistic))
    return found, vanished, n


def _told(space: AdversarialWorkspace, similar: list[float], vanished: int, n: int) -> tuple[Result, str]:
    """Return the mean correlation as a result, and what is to be said of it."""
    said = f"In {vanished} of {n} images nothing speaks for the right class any more under attack. "
    if len(similar) < 2:
        return Result("gradcam_rank_correlation", None, len(similar)), said if n else ""
    mean = float(np.mean(similar))
    low, high = bootstrap(similar, lambda v: float(v.mean()), derive(space.config.seed, "attention"))
    said += (
        f"In the other {len(similar)} the map keeps a rank correlation of {mean:.2f} [{low:.2f}, {high:.2f}] with "
        f"itself without attack ({space.words(space.epsilon)}; 1: the same place, 0: no relation)."
    )
    return Result("gradcam_rank_correlation", mean, len(similar), (low, high)), said
