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
from probe.graph.cut import prepare

TIMM_TRANSFORMERS = (
    "vit", "deit", "beit", "eva", "swin", "cait", "xcit", "volo", "twins", "pit", "tnt", "visformer", "crossvit", "coat",
    "levit", "mvitv2", "maxvit", "maxxvit", "gcvit", "davit", "hiera", "naflexvit", "mlp_mixer", "convit", "sequencer",
    "tiny_vit", "efficientformer", "efficientformer_v2", "efficientvit_msra", "vision_transformer", "nest", "edgenext",
    "fastvit", "focalnet", "metaformer", "mobilevit", "nextvit", "repvit", "shvit", "swiftformer", "vitamin", "rdnet",
    "vision_transformer_hybrid", "vision_transformer_relpos", "vision_transformer_sam", "swin_transformer",
    "swin_transformer_v2", "swin_transformer_v2_cr", "csatv2", "dinov3", "dpn_vit", "hieradet_sam2", "pvt_v2",
)  # fmt: skip


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
    from timm.models import list_modules

    for family in list_modules():
        if family in TIMM_TRANSFORMERS:
            continue
        names = timm.list_models(module=family)
        if not names:
            continue
        name = min(names, key=lambda text: (len(text), text))
        with scoped(0, "bench"):
            network = timm.create_model(name).eval()
        side = getattr(network, "default_cfg", {}).get("input_size", (3, 224, 224))[1]
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
