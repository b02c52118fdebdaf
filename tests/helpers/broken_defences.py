"""Defences that hide a network's gradients instead of making it robust, of the kinds that were broken in the literature."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import median_filter
from torch import Tensor, nn


class Before(nn.Module):
    """A network behind something that is done to its images."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


class Quantised(Before):
    """Pixels are rounded to 16 values (feature squeezing, Xu et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.net((15 * x).round() / 15)
        return logits


class Thermometer(Before):
    """Pixels are coded by 10 thresholds (Buckman et al. 2018), and a layer decodes them."""

    LEVELS = 10

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.decode = nn.Conv2d(self.LEVELS, 1, 1)
        nn.init.constant_(self.decode.weight, 1 / self.LEVELS)
        nn.init.constant_(self.decode.bias, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        levels = (
            torch.arange(self.LEVELS, device=x.device).view(1, -1, 1, 1) / self.LEVELS + 0.5 / self.LEVELS
        )
        logits: Tensor = self.net(self.decode((x > levels).float()))
        return logits


class Jpeg(Before):
    """Images are compressed and read again (Guo et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.net(torch.stack([_jpeg(image) for image in x.detach()]))
        return logits


def _jpeg(image: Tensor) -> Tensor:
    buffer = io.BytesIO()
    Image.fromarray((255 * image[0].numpy()).round().astype(np.uint8)).save(buffer, "JPEG", quality=75)
    return torch.from_numpy(np.asarray(Image.open(buffer), dtype=np.float32) / 255)[None]


class Median(Before):
    """A median filter of 2 × 2 pixels, in NumPy."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        filtered = median_filter(x.detach().numpy(), size=(1, 1, 2, 2))
        logits: Tensor = self.net(torch.from_numpy(filtered))
        return logits


class Resized(Before):
    """Images get a random size and place (Xie et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        side = x.shape[-1]
        size = int(torch.randint(side - 4, side + 1, ()))
        top, left = (int(torch.randint(0, side - size + 1, ())) for _ in range(2))
        small = F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
        logits: Tensor = self.net(F.pad(small, (left, side - size - left, top, side - size - top)))
        return logits


class Noisy(Before):
    """Normal noise is added to the image at every pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.net(x + 0.1 * torch.randn_like(x))
        return logits


class Distilled(Before):
    """Logits that are so large that the softmax is exactly 1 (defensive distillation, Papernot et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = 100 * self.net(x)
        return logits


class Saturated(Before):
    """Probabilities of such logits."""

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities."""
        return (30 * self.net(x)).softmax(1)


class Gated(Before):
    """A detector of images between black and white: what it flags is answered by a table, without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits = self.net(x)
        answer = F.one_hot(logits.argmax(1), logits.shape[1]).float()
        certain = logits.softmax(1).amax(1, keepdim=True) > 0.5
        return torch.where(certain, answer, 0.5 * answer)


class Stepped(nn.Module):
    """An activation in steps of 0.1, whose gradient is 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        return (10 * F.relu(x)).round() / 10


class Winners(nn.Module):
    """Only the largest half of a layer's activations stay (k-winners-take-all, Xiao et al. 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        flat = x.flatten(1)
        least = flat.topk(flat.shape[1] // 2, 1).values[:, -1:]
        return (flat * (flat >= least)).view_as(x)


class Pruned(nn.Module):
    """Activations stay with a probability that grows with their size (Dhillon et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations."""
        x = F.relu(x)
        share = x.flatten(1) / x.flatten(1).sum(1, keepdim=True).clamp_min(1e-9)
        keep = 1 - (1 - share) ** (0.7 * share.shape[1])
        mask = (torch.rand_like(keep) < keep).view_as(x)
        return torch.where(mask, x / keep.view_as(x).clamp_min(1e-3), 0.0)


class Hidden(nn.Module):
    """A network in whose code something is done, with no module of torch in sight."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.nets = [net.requires_grad_(False)]


class Rounding(Hidden):
    """Pixels become integers and lose four bits."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.nets[0](((255 * x).to(torch.uint8) >> 4).float() / 15)
        return logits


class Levels(Hidden):
    """Pixels are the share of thresholds that they pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        passed = [torch.where(x > (level + 0.5) / 10, 0.1, 0.0) for level in range(10)]
        logits: Tensor = self.nets[0](torch.stack(passed).sum(0))
        return logits


class Unwatched(Hidden):
    """Pixels are stretched where torch does not follow."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        with torch.no_grad():
            stretched = (1.1 * x - 0.05).clamp(0, 1)
        logits: Tensor = self.nets[0](stretched.detach())
        return logits


class Softened(Hidden):
    """Probabilities that are exactly 0 and 1, made in the code itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities."""
        return F.softmax(30 * self.nets[0](x), 1)


def with_activations(net: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """Return the network with other activations in place of its ReLUs or hyperbolic tangents."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.Tanh):
                setattr(module, name, kind())
    return net


WRAPPED: dict[str, type[Before]] = {
    "quantised": Quantised,
    "thermometer": Thermometer,
    "jpeg": Jpeg,
    "median": Median,
    "resized": Resized,
    "noisy": Noisy,
    "distilled": Distilled,
    "saturated": Saturated,
    "gated": Gated,
}
INSIDE: dict[str, type[nn.Module]] = {"stepped": Stepped, "winners": Winners, "pruned": Pruned}
NAMES = (*WRAPPED, *INSIDE)
CODED: dict[str, type[Hidden]] = {
    "rounding": Rounding,
    "levels": Levels,
    "unwatched": Unwatched,
    "softened": Softened,
}
"""Those that no module shows."""


def defended(net: nn.Module, name: str) -> nn.Module:
    """Return the network with one of the defences; ``net`` itself may be changed."""
    whole = {**WRAPPED, **CODED}
    return whole[name](net).eval() if name in whole else with_activations(net, INSIDE[name]).eval()
