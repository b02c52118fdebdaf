"""Make the gallery: real reports in build/site/gallery, linked from the site (``make gallery``, some ten minutes on two cores)."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import probe
from probe.models.load import load_model
from probe.train.trainer import TrainOptions, train

FOLDER = Path(__file__).parents[1] / "build" / "site" / "gallery"
EPSILON = 0.2


class Quantised(nn.Module):
    """A network behind rounded pixels, which hide its gradients."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.net(((15 * x).round() / 15 - 0.5) / 0.5)
        return logits


def reports() -> dict[str, probe.Report]:
    """Return the reports by the names of their folders."""
    digits = probe.load_images("digits", n=100)
    plain = load_model("zoo:lenet", weights="digits")
    torch.manual_seed(0)
    weights = FOLDER.parent / "robust.safetensors"
    train("zoo:lenet", "digits", TrainOptions(adversarial="pgd", out=weights, force=True))
    robust = load_model("zoo:lenet", weights=weights)
    broken = probe.wrap(Quantised(plain.network), input_size=(1, 32, 32))
    return {
        "filters": probe.filters(),
        "adversarial": probe.adversarial(eps=0.03),
        "ablation": probe.ablate(remove="shortcut"),
        "dossier": probe.dossier("zoo:resnet20", "digits"),
        "defended": probe.adversarial(robust, digits, eps=EPSILON, against=plain),
        "broken": probe.adversarial(broken, digits, eps=0.1, adapt=True),
    }


def main() -> None:
    """Write every report into its folder."""
    for name, report in reports().items():
        print(report.save(FOLDER / name), file=sys.stderr)


if __name__ == "__main__":
    main()
