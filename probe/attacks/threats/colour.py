"""Hue and saturation of the whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from probe.attacks.threats import THREATS
from probe.attacks.threats._base import ThreatSubject
from probe.attacks.threats._grid import GridThreat
from probe.core.errors import NotApplicableError


@THREATS.register("colour", order=2)
@dataclass(frozen=True)
class Colour(GridThreat):
    """Hue and saturation of the whole image, the worst of a grid (Hosseini and Poovendran 2018).

    ``degrees``: the largest turn of the hue; ``saturation``: its largest relative change; ``hues`` and
    ``saturations``: points of the grid within each of four budgets, 93 by default. The value of HSV, brightness, stays.
    """

    degrees: float = 180.0
    saturation: float = 0.5
    hues: int = 31
    saturations: int = 3

    title: ClassVar[str] = "Hue and saturation"
    axis: ClassVar[str] = "part of the largest turn of hue and change of saturation"
    paper: ClassVar[str] = 'Hosseini and Poovendran, "Semantic Adversarial Examples", 2018'

    @property
    def counts(self) -> tuple[int, ...]:
        """Hues, saturations."""
        return self.hues, self.saturations

    def check(self, subject: ThreatSubject) -> None:
        """Refuse images that have no hue."""
        channels = subject.images.shape[1]
        if channels != 3:
            raise NotApplicableError(
                f"Hue and saturation need images of three channels; these have {channels}."
            )

    def change(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Turn the hue and scale the saturation of images (N, 3, H, W)."""
        hue, saturation, value = hsv(images)
        hue = (hue + parameters[:, 0, None, None] * self.degrees / 360) % 1
        saturation = (saturation * (1 + self.saturation * parameters[:, 1, None, None])).clamp(0, 1)
        return rgb(hue, saturation, value)

    def describe(self, budget: float) -> str:
        """Write the largest turn and change."""
        return (
            f"hues turned by up to {budget * self.degrees:.3g}° and saturation changed by up to "
            f"{budget * self.saturation:.0%}"
        )

    @property
    def how(self) -> str:
        """How the worst one was looked for."""
        return (
            f"Within each budget all {self.hues * self.saturations} combinations of {self.hues} hues and {self.saturations} saturations of "
            "the whole image were tried. The control is one drawn evenly within the budget for each image; one that is wrong without "
            "counts as broken."
        )


def hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue, saturation and value of images (N, 3, H, W), each (N, H, W) in [0, 1]; the hue of grey is 0."""
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    spread = value - least
    safe = torch.where(spread > 0, spread, 1)
    sector = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    saturation = spread / torch.where(value > 0, value, 1)
    return torch.where(spread > 0, sector / 6, 0), saturation, value


def rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return images (N, 3, H, W) of hue, saturation and value, (N, H, W) each in [0, 1]."""
    # Each channel falls linearly with the distance of the hue from its own third of the circle.
    places = torch.stack([hue * 6 + shift for shift in (5, 3, 1)], 1) % 6
    weight = torch.minimum(places, 4 - places).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * weight)
