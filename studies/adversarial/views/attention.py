"""Where the network looked, before and after the attack."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from scipy.stats import spearmanr
from torch import Tensor

from probe.core.errors import NotApplicableError
from probe.core.report import Gallery, Picture, Result, Section, Strip, percent
from probe.core.seeds import derive
from probe.core.stats import bootstrap
from probe.graph.layers import last_map_layer
from probe.graph.shell import shell
from probe.report.heat import picture
from probe.report.raster import magnified
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import Workspace

_SIDE = 176


@VIEWS.register("attention")
def attention(space: Workspace) -> Section:
    """Compare GradCAM maps before and after the attack: did the network look elsewhere?"""
    if not space.sample:
        raise NotApplicableError("No image is right without attack, so there is nothing to compare.")
    layer = last_map_layer(space.model.module, space.sampled[0][:1])
    if not layer:
        raise NotApplicableError("GradCAM needs a layer whose output is a map larger than 1 × 1.")
    places = [place for place in space.shown if space.results.right[place]] or list(space.sample[:1])
    rows = tuple(_row(space, layer, place) for place in places)
    similar, names = _similarity(space, layer)
    gallery = Gallery(
        f"GradCAM at {layer.removeprefix('network.')}",
        rows,
        "Bright: what raised the class named under the picture (Selvaraju et al. 2017). If the maps "
        "for the old class before "
        "and after are alike, the network still looks at the same place and reads it differently; if the map has "
        "moved, the attack has drawn its attention away. GradCAM is coarse: one value for each position of the layer.",
        _SIDE,
    )
    mean = float(np.mean(similar)) if len(similar) else float("nan")
    ci = (
        bootstrap(list(similar), lambda v: float(v.mean()), derive(space.config.seed, "attention"))
        if len(similar) > 1
        else None
    )
    result = Result("gradcam_rank_correlation", mean if len(similar) else None, len(similar), ci)
    said = ""
    if len(similar) > 1 and ci is not None:
        said = (
            f"Over {len(similar)} images the map for the right class keeps a rank correlation of {mean:.2f} "
            f"[{ci[0]:.2f}, {ci[1]:.2f}] with itself under attack ({names})."
        )
    return Section("attention", "Where it looks", said, (gallery,), results=(result,))


def _maps(space: Workspace, layer: str, images: Tensor, classes: Tensor) -> Tensor:
    """Return GradCAM maps (N, 1, h, w) in the layer's own resolution."""
    module = shell(space.model.module)
    with torch.inference_mode(False), torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        cam = LayerGradCam(module, module.get_submodule(layer)).attribute(
            inputs, classes, relu_attributions=True
        )
    found: Tensor = cam.detach()
    return found


def _row(space: Workspace, layer: str, place: int) -> Strip:
    image, label = space.pixels([place]), space.labels([place])
    verdict = space.full(image, label, space.targets([place]), space.epsilon)
    answer = verdict.predictions
    maps = [
        (image, label, "before", "clean image"),
        (verdict.images, label, "after, the old class", "adversarial image"),
        (verdict.images, answer, "after, the new answer", "adversarial image"),
    ]
    pictures = [
        Picture(magnified(image[0].cpu(), _SIDE), f"{space.item_name(place)} without attack", "the image")
    ]
    for pixels, wanted, when, what in maps:
        cam = _maps(space, layer, pixels, wanted)
        size = [int(pixels.shape[2]), int(pixels.shape[3])]
        wide = F.interpolate(cam.float(), size=size, mode="bilinear", align_corners=False)[0]
        name = space.class_name(int(wanted[0]))
        pictures.append(
            Picture(
                picture(wide.cpu(), pixels[0].cpu(), signed=False, overlay=True),
                f"GradCAM of the {what} for {name}",
                f"{when}: {name}",
            )
        )
    note = f"Taken for {space.class_name(int(answer[0]))} with {percent(float(verdict.confidences[0]))}."
    return Strip(tuple(pictures), space.item_name(place), note)


def _similarity(space: Workspace, layer: str) -> tuple[list[float], str]:
    """Return the rank correlation of each sampled image's map with its map under attack, constant maps left out."""
    images, labels, _ = space.sampled
    rows = torch.arange(len(labels), device=images.device)
    found: list[float] = []
    for part in torch.split(rows, min(8, space.config.batch_size)):
        before = _maps(space, layer, images[part], labels[part])
        after = _maps(space, layer, space.sample_full[part], labels[part])
        for one, other in zip(before.flatten(1).cpu(), after.flatten(1).cpu(), strict=True):
            if float(one.std()) > 0 and float(other.std()) > 0:
                found.append(float(spearmanr(one.numpy(), other.numpy()).statistic))
    return found, space.words(space.epsilon)
