"""Make the gallery: real reports in build/site/gallery, linked from the site (``make gallery``, many minutes)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

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


def reports() -> Iterator[tuple[str, probe.Report]]:
    """Yield the names of folders and their reports."""
    digits = probe.load_images("digits", n=100)
    plain = load_model("zoo:lenet", weights="digits")
    weights = FOLDER.parent / "robust.safetensors"
    train("zoo:lenet", "digits", TrainOptions(adversarial="pgd", out=weights, force=True))
    robust = load_model("zoo:lenet", weights=weights)
    broken = probe.wrap(Quantised(plain.network), input_size=(1, 32, 32))
    yield "filters", probe.filters()
    yield "adversarial", probe.adversarial(eps=0.03)
    yield "ablation", probe.ablate(remove="shortcut")
    yield "dossier", probe.dossier("zoo:resnet20", "digits")
    yield "defended", probe.adversarial(robust, digits, eps=EPSILON, against=plain)
    yield "broken", probe.adversarial(broken, digits, eps=0.1, adapt=True)


def main() -> None:
    """Write every report into its folder."""
    for name, report in reports():
        print(report.save(FOLDER / name), file=sys.stderr)


if __name__ == "__main__":
    main()
