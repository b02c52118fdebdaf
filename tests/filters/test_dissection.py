"""Network dissection: thresholds and overlaps against plain loops, planted detectors, and folders of masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.filters_models import loaded, pictures
from PIL import Image
from torch import Tensor, nn

from probe.core.blocks import Table
from probe.core.document import Report, Section
from probe.core.errors import NotApplicableError, UsageError
from probe.core.state import fingerprint
from probe.models.loaded import LoadedModel
from studies.filters import FiltersConfig, run
from studies.filters.dissect import Detectors, Overlaps, grid_of, load_masks, on_grid, overlaps, thresholds
from studies.filters.made import COLOURS, SHAPES, scene


class Channels(nn.Module):
    """Channel 0 fires at red, channel 1 at blue, channel 2 nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 3, 1)
        self.last = nn.Linear(3, 3)
        with torch.no_grad():
            self.colours.weight.copy_(
                torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0], [0.0, 0.0, 0.0]])[:, :, None, None]
            )
            self.colours.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.colours(x).relu().mean((2, 3)))
        return logits


def coloured() -> LoadedModel:
    return dataclasses.replace(loaded(Channels(), (3, 32, 32)), factory=Channels)


def section(report: Report) -> Section:
    return next(part for part in report.sections if part.id == "dissection")


def test_a_threshold_leaves_a_200th_of_all_positions_above() -> None:
    model = loaded(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    images = torch.rand(30, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def batches() -> Iterator[Tensor]:
        return iter(images.split(7))

    limits = thresholds(model, batches, ["0"], 30, lambda _: None)["0"]
    maps = model.network[0](model.module.normalise(images)).detach().transpose(0, 1).flatten(1)  # type: ignore[index]
    # The one value that is the threshold may round to the other side in another batch.
    above = (maps > limits[:, None] + 1e-6).sum(1)
    assert above.tolist() == [int(0.005 * 30 * 256)] * 4


def test_overlaps_are_those_of_plain_loops() -> None:
    model = loaded(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(9, 3, 16, 16, generator=generator)
    masks = torch.rand(9, 2, 256, generator=generator) < 0.3
    limits = {"0": torch.tensor([0.1, 0.2, -0.1, 99.0])}
    (found,) = overlaps(model, lambda: iter(images.split(4)), [masks], (16, 16), limits, lambda _: None)
    maps = model.network[0](model.module.normalise(images)).detach().flatten(2)  # type: ignore[index]
    iou = found["0"].iou()
    for channel in range(4):
        for concept in range(2):
            both = either = 0
            for image in range(9):
                fires = maps[image, channel] > limits["0"][channel]
                both += int((fires & masks[image, concept]).sum())
                either += int((fires | masks[image, concept]).sum())
            assert iou[channel, concept] == pytest.approx(both / either)
    assert (iou[3] == 0).all()
    some = np.array([0, 0, 5])
    again = Overlaps(found["0"].both[some], found["0"].firing[some], found["0"].inside[some])
    np.testing.assert_allclose(found["0"].iou(some), again.iou())


def test_detectors_are_counted_by_the_published_rule() -> None:
    found = Detectors.of(np.array([[0.5, 0.1], [0.03, 0.02], [0.05, 0.041], [0.0, 0.04]]))
    assert found.concept.tolist() == [0, 0, 0, 1]
    assert (found.count, found.unique) == (2, 1)


def test_planted_detectors_are_found_beside_their_controls() -> None:
    model = coloured()
    before = fingerprint(model.module)
    report = run(model, pictures(8, side=32), FiltersConfig(views=("dissection",)))
    assert fingerprint(model.module) == before
    tables = [block for block in section(report).blocks if isinstance(block, Table)]
    best = {row[1]: row[2] for row in reversed(tables[1].rows)}
    assert (best[0], best[1]) == ("red", "blue")
    assert report["dissection.colours.detectors"].value == pytest.approx(2 / 3)
    assert report["dissection.colours.unique"].value == 2
    named = dict(zip([column.name for column in tables[0].columns], tables[0].rows[0], strict=True))
    assert named["detectors, shuffled masks"] == 0
    value, low, high = tables[1].rows[0][3:]
    assert low < value < high
    assert repr(run(model, pictures(8, side=32), FiltersConfig(views=("dissection",))).all_results) == repr(
        report.all_results
    )


def test_scenes_have_the_masks_of_what_they_show() -> None:
    for number in range(20):
        image, masks = scene((3, 40, 60), np.random.default_rng(number))
        assert set(masks) <= {*SHAPES, *COLOURS}
        for name in set(masks) & set(COLOURS):
            colour = image[:, masks[name]].mean(1)
            assert np.corrcoef(colour, COLOURS[name])[0, 1] > 0.98
        shown = np.logical_or.reduce([masks[name] for name in masks if name in SHAPES])
        assert (shown == np.logical_or.reduce([masks[name] for name in masks if name in COLOURS])).all()
        image, masks = scene((1, 40, 60), np.random.default_rng(number))
        assert set(masks) <= set(SHAPES)


def masks_folder(place: Path, count: int = 6) -> Path:
    """Write images of a bright disc, with masks of the disc, and of nothing for every second one."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks/disc", "masks/left"):
        (place / name).mkdir(parents=True)
    rows, columns = np.mgrid[0:60, 0:90]
    for number in range(count):
        middle = rng.uniform(20, 40), rng.uniform(30, 60)
        inside = np.hypot(rows - middle[0], columns - middle[1]) < 12
        Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)).convert("RGB").save(
            place / "images" / f"{number}.png"
        )
        Image.fromarray(np.where(inside, 7, 0).astype(np.uint8)).save(place / "masks/disc" / f"{number}.png")
        if number % 2:
            left = np.where(columns < 45, 1, 0).astype(bool)
            Image.fromarray(left).save(place / "masks/left" / f"{number}.png")
    return place


def test_a_mask_is_cut_as_its_image_is(tmp_path: Path) -> None:
    masked = load_masks(masks_folder(tmp_path))
    model = loaded(size=(3, 32, 32))
    spec = dataclasses.replace(model.input, crop=0.8)
    found = masked.masks(spec, range(6))
    assert list(masked.files) == ["disc", "left"]
    for index in range(6):
        pixels = masked.images.get(index, spec)[0] > 0.5
        cells = on_grid(pixels.numpy(), grid_of(spec.size))
        assert (found[index, 0] == cells).float().mean() > 0.97
        assert found[index, 0].sum() > 20
        assert found[index, 1].any() == (index % 2 == 1)


def test_a_folder_of_masks_is_studied_and_what_is_wrong_is_named(tmp_path: Path) -> None:
    place = masks_folder(tmp_path / "good")
    report = run(loaded(size=(3, 32, 32)), pictures(8, side=32), FiltersConfig(masks=str(place), steps=1))
    assert "6 images with masks of 2 concepts (disc, left)" in section(report).summary
    Image.new("L", (5, 5)).save(place / "masks/disc/3.png")
    refused = section(
        run(
            loaded(size=(3, 32, 32)),
            pictures(8, side=32),
            FiltersConfig(views=("dissection",), masks=str(place)),
        )
    )
    assert not refused.failed
    assert "5 × 5" in refused.reason
    assert "90 × 60" in refused.reason
    (place / "masks/none").mkdir()
    with pytest.raises(UsageError, match="'none'"):
        load_masks(place)
    with pytest.raises(UsageError, match="images/NAME"):
        load_masks(tmp_path)
    (place / "masks/none").rmdir()
    (place / "masks/disc/3.png").write_bytes(b"no picture")
    with pytest.raises(NotApplicableError, match=r"3\.png"):
        load_masks(place).masks(loaded(size=(3, 32, 32)).input, range(6))
