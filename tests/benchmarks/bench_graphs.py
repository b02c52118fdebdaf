"""How many published networks can be cut as graphs: all torchvision classifiers and timm's CNN families.

Run with ``make bench`` or ``python tests/benchmarks/bench_graphs.py [NAME …]``. Prints the failures by name with the
reason, and the share that is traced with the network's own logits. One network a timm family, the smallest by name.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from probe.core.seeds import generator, scoped
from probe.graph.edit.cut import prepare

TIMM_FAMILIES = (
    "byoanet", "byobnet", "convmixer", "convnext", "cspnet", "cspnext", "densenet", "dla", "dpn", "edgenext",
    "efficientnet", "efficientvit_mit", "fasternet", "fastvit", "ghostnet", "hardcorenas", "hgnet", "hrnet",
    "inception_next", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2", "mambaout", "mobilenetv3",
    "mobilenetv5", "nasnet", "nfnet", "pnasnet", "rdnet", "regnet", "repghost", "repvit", "res2net", "resnest",
    "resnet", "resnetv2", "rexnet", "selecsls", "senet", "sknet", "starnet", "tresnet", "vgg", "vovnet", "xception",
    "xception_aligned",
)  # fmt: skip
"""Families that are made of convolutions, mostly or wholly."""

LARGEST = 256
"""Side of the images at most: a graph does not depend on it, the time does."""


def torchvision_networks() -> Iterator[tuple[str, nn.Module, int]]:
    """Yield (name, network, input side) of every torchvision classifier."""
    from torchvision import models

    for name in models.list_models(module=models):
        with scoped(0, "bench"):
            quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            network = models.get_model(name, weights=None, **quick)
        yield f"torchvision:{name}", network.eval(), 299 if name == "inception_v3" else 224


def timm_networks() -> Iterator[tuple[str, nn.Module, int]]:
    """Yield one network of each of timm's convolutional families, with its own input side."""
    import timm

    for family in TIMM_FAMILIES:
        names = timm.list_models(module=family)
        if not names:
            continue
        name = min(names, key=lambda text: (len(text), text))
        with scoped(0, "bench"):
            network = timm.create_model(name).eval()
        side = min(LARGEST, network.default_cfg["input_size"][1])
        yield f"timm:{name}", network, side


def main(wanted: list[str]) -> None:
    """Try every network and print what came of it."""
    warnings.simplefilter("ignore")
    for source in (torchvision_networks(), timm_networks()):
        tried, failed, exported, untrainable = 0, [], [], []
        library = ""
        for name, network, side in source:
            library = name.partition(":")[0]
            if wanted and name not in wanted:
                continue
            tried += 1
            example = torch.rand((2, 3, side, side), generator=generator(0, "example"))
            subject = prepare(network, example)
            if subject.reason:
                failed.append(f"{name}: {subject.reason}")
            elif subject.graph.meta["exported"]:
                exported.append(name)
            elif subject.trains:
                untrainable.append(f"{name}: {subject.trains}")
        if tried:
            print(
                f"{library}: {tried - len(failed)} of {tried} networks as graphs with their own logits, "
                f"{len(exported)} of them through torch.export {exported or ''}"
            )
            for line in (*failed, *untrainable):
                print(f"  {line}")


if __name__ == "__main__":
    main(sys.argv[1:])
