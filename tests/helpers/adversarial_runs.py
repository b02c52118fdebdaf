"""Runs of the adversarial study on a small network that has learned the digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import nn

from helpers.adversarial_networks import batch, trained
from probe.core.document import Report
from probe.data.images import ImageSet, InputSpec, Item
from probe.models.loaded import LoadedModel, PixelModel, Provenance
from studies.adversarial import AdversarialConfig, run

QUICK = AdversarialConfig(epsilons=(0.1,), steps=10, images=2, batch_size=8)
NONE: tuple[str, ...] = ()


def model_of(network: nn.Module | None = None, name: str = "digits network") -> LoadedModel:
    network = trained() if network is None else network
    module = PixelModel(network, (0.0,), (1.0,)).eval().requires_grad_(False)
    return LoadedModel(
        name=name,
        module=module,
        input=InputSpec((1, 8, 8), crop=1.0),
        num_classes=10,
        class_names=tuple("0123456789"),
        domain="digits",
        device=torch.device("cpu"),
        memory_format=torch.contiguous_format,
        provenance=Provenance("test", "trained in the test"),
        factory=lambda: network,
    )


def image_set(n: int = 20, labelled: bool = True, order: Sequence[int] | None = None) -> ImageSet:
    """The first ``n`` held-out digits, or of these the ones in ``order``."""
    images, labels = batch(n=n)
    if order is not None:
        images, labels = images[list(order)], labels[list(order)]
    pixels = (images * 255).round().byte().numpy()[:, 0]

    def item(i: int) -> Item:
        return Item(f"digit {i}", int(labels[i]) if labelled else None, lambda: Image.fromarray(pixels[i]))

    names = tuple("0123456789") if labelled else None
    return ImageSet("digits", [item(i) for i in range(len(pixels))], names, "digits", framed=True)


def study(config: AdversarialConfig = QUICK, images: ImageSet | None = None, **how: Any) -> Report:
    return run(how.pop("model", None) or model_of(), images or image_set(), config, **how)


def value(report: Report, name: str) -> Any:
    return next(result.value for result in report.all_results if result.name == name)
