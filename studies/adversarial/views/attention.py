"""GradCAM maps before and after the attack."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from probe.attacks.judge import Judgement
from probe.core.blocks import Gallery, Picture, Strip
from probe.core.document import Result, Section, percent
from probe.core.errors import NotApplicableError
from probe.core.seeds import derive
from probe.core.stats import bootstrap_mean
from probe.graph.trace.class_activation import gradcam
from probe.graph.trace.layers import last_map_layer
from probe.graph.trace.trace import shared_copy
from probe.report.raster import magnified, picture
from studies.adversarial.registries import VIEWS
from studies.adversarial.workspace import AdversarialWorkspace
from studies.checks import check_gradients

_SIDE = 176
_MOST = 16


@VIEWS.register("attention", order=5)
def attention(space: AdversarialWorkspace) -> Section:
    """Compare GradCAM maps before and after the attack: did the network look elsewhere?"""
    if not space.sample:
        raise NotApplicableError(f"{space.phrases.nobody}, so there is nothing to compare.")
    places = space.look()
    layer = last_map_layer(space.spelled, space.sampled[0][:1])
    if not layer:
        raise NotApplicableError("GradCAM needs a layer whose output is a map larger than 1 × 1.")
    images, steps, verdicts = space.pictured
    if not steps:
        raise NotApplicableError("At epsilon 0 there is nothing to compare.")
    if check_gradients(space.model, images[:1], space.config.seed).status != "pass":
        raise NotApplicableError(
            "No gradient reaches the pixels, so GradCAM has nothing to weight the maps with."
        )
    rows = tuple(
        _row(space, layer, row, place, images[row : row + 1], verdicts[-1])
        for row, place in enumerate(places)
        if space.results.correct[place]
    )
    gallery = Gallery(
        f"GradCAM at {layer.removeprefix('network.')}",
        rows,
        "Bright: regions that raised the score of the class named below the picture (Selvaraju et al. 2017). If "
        "the maps for the old class before and after the attack are similar, the same regions raise its score; if the "
        "map has moved, other regions do. A map without anything bright means that no region raises that score. GradCAM is "
        "coarse: one value for each position of the layer.",
        _SIDE,
    )
    similar, vanished, n = _similarity(space, layer)
    result, text = _similarity_result(space, similar, vanished, n)
    return Section("attention", "Where it looks", text, (gallery,), results=(result,))


def _maps(space: AdversarialWorkspace, layer: str, images: Tensor, classes: Tensor) -> Tensor:
    """Return GradCAM maps (N, 1, h, w) in the layer's own resolution."""
    module = shared_copy(space.spelled)
    with torch.inference_mode(False), torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        return gradcam(module, layer, inputs, classes)


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
    for pixels, classes, when, kind in maps:
        cam = _maps(space, layer, pixels, classes)
        size = [int(pixels.shape[2]), int(pixels.shape[3])]
        wide = F.interpolate(cam.float(), size=size, mode="bilinear", align_corners=False)[0]
        class_name = space.class_name(int(classes[0]))
        overlay_picture = picture(wide.cpu(), pixels[0].cpu(), signed=False, overlay=True)
        pictures.append(
            Picture(overlay_picture, f"GradCAM of the {kind} for {class_name}", f"{when}: {class_name}")
        )
    note = f"Classified as {space.class_name(int(answer[0]))} with {percent(float(verdict.confidences[row]))} confidence."
    return Strip(tuple(pictures), space.short_name(place), note)


_FLAT = 1e-6
"""A map whose values differ by less than this part of the largest is the same everywhere, but for rounding."""


def _similarity(space: AdversarialWorkspace, layer: str) -> tuple[list[float], int, int]:
    """Return each clean map's rank correlation with the map under attack, the number that vanished, and of how many.

    Only sampled images whose clean map for the original class is not constant are compared.
    """
    images, labels, _ = space.sampled
    rows = torch.arange(len(labels), device=images.device)[:_MOST]
    similar: list[float] = []
    vanished = n = 0
    for part in torch.split(rows, 8):
        before = _maps(space, layer, images[part], labels[part]).flatten(1).cpu()
        after = _maps(space, layer, space.sample_full[part], labels[part]).flatten(1).cpu()
        for clean, attacked in zip(before, after, strict=True):
            if not float(clean.std()) > _FLAT * float(clean.abs().max()):
                continue
            n += 1
            if not float(attacked.std()) > _FLAT * float(attacked.abs().max()):
                vanished += 1
            else:
                similar.append(float(spearmanr(clean.numpy(), attacked.numpy()).statistic))
    return similar, vanished, n


def _similarity_result(
    space: AdversarialWorkspace, similar: list[float], vanished: int, n: int
) -> tuple[Result, str]:
    """Return the mean correlation as a result, and the sentences that describe it."""
    text = (
        f"For {vanished} of {n} images no region raises the score of the original class under attack. "
        if vanished
        else ""
    )
    if len(similar) < 2:
        return Result("gradcam_rank_correlation", None, len(similar)), text
    mean = float(np.mean(similar))
    low, high = bootstrap_mean(similar, derive(space.config.seed, "attention"))
    text += (
        f"For {'the other ' if vanished else ''}{len(similar)} images the map under attack has a rank correlation of "
        f"{mean:.2f} [{low:.2f}, {high:.2f}] (mean, 95% bootstrap interval over images) with the clean map "
        f"({space.words(space.epsilon)}; 1: the same place, 0: no relation)."
    )
    return Result("gradcam_rank_correlation", mean, len(similar), (low, high)), text
