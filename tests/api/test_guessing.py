"""A trained network whose labels or pixels are not those of its training is not studied in silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import probe
from probe.models.load import load_model

STUDIES: dict[str, Callable[..., probe.Report]] = {
    "filters": lambda model, data: probe.filters(model, data, views="weights"),
    "adversarial": lambda model, data: probe.adversarial(
        model, data, eps=0.01, attacks="fgsm", views="curve", checks=()
    ),
    "ablate": lambda model, data: probe.ablate(model, data, remove="relu", mode="lesion"),
}


class Brightest(nn.Module):
    """Names the brightest quarter of an image, without an error: its answer is the mean of each."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Conv2d(1, 1, 4, 4, bias=False)
        nn.init.constant_(self.mean.weight, 1 / 16)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.mean(x)).flatten(1)


def quarters(n: int) -> tuple[Tensor, Tensor]:
    """Noise with one bright quarter, and which it is."""
    draws = torch.Generator().manual_seed(0)
    images, labels = 0.2 * torch.rand(n, 1, 8, 8, generator=draws), torch.arange(n) % 4
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label, 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.7
    return images, labels


def cautions(report: probe.Report) -> list[str]:
    return [text for text in report.warnings if "guessing" in text]


@pytest.mark.parametrize("study", STUDIES)
def test_labels_in_another_order_are_named(study: str) -> None:
    images, labels = quarters(24)
    model = probe.wrap(Brightest(), mean=[0.0], std=[1.0])
    assert not cautions(STUDIES[study](model, (images, labels)))
    (text,) = cautions(STUDIES[study](model, (images, (labels + 1) % 4)))
    assert text.startswith("0 of 24 images")
    assert "4 classes would (25%)" in text
    assert "--mean" in text
    assert "--class-map" in text


def test_the_limit_is_wilsons_lower_end() -> None:
    """12 of 24 have the interval 31% to 69%; 10 of 24 have 24% to 61%, which contains a quarter."""
    images, labels = quarters(24)
    model = probe.wrap(Brightest(), mean=[0.0], std=[1.0])
    for right, cautioned in ((12, False), (10, True)):
        moved = torch.where(torch.arange(24) < right, labels, (labels + 1) % 4)
        found = cautions(probe.filters(model, (images, moved), views="weights"))
        assert bool(found) is cautioned


def test_what_is_known_to_be_untrained_is_not_suspected() -> None:
    assert not cautions(probe.filters(load_model("zoo:lenet", weights="none"), "digits", views="weights"))
