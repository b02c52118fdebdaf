"""Concept directions and TCAV scores: closed forms, planted concepts, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.filters_models import loaded
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from probe.core.blocks import Table
from probe.core.document import Report, Section
from probe.core.errors import UsageError
from probe.core.state import fingerprint
from probe.data.images import ImageSet, Item
from probe.models.loaded import LoadedModel
from studies.filters import FiltersConfig, run
from studies.filters.concepts import against, counter_sets, direction, held_out, score, sensitivities
from studies.filters.made import TEXTURES, texture


class Reddish(nn.Module):
    """Channel 0 is red less green, channel 1 blue; class 0 grows with red, class 1 falls, class 2 grows with blue."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 2, 1, bias=False)
        self.last = nn.Linear(2, 3, bias=False)
        with torch.no_grad():
            self.colours.weight.copy_(torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]])[:, :, None, None])
            self.last.weight.copy_(torch.tensor([[2.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.colours(x).mean((2, 3)))
        return logits


def noise(
    count: int, tint: tuple[float, float, float] = (0, 0, 0), seed: int = 0, labels: bool = True
) -> ImageSet:
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.uniform(0.2, 0.6, (count, 16, 16, 3)) + np.array(tint), 0, 1)
    frames = [Image.fromarray((one * 255).astype(np.uint8)) for one in pixels]

    def item(i: int) -> Item:
        return Item(f"noise {i}", i % 3 if labels else None, lambda: frames[i])

    names = ("zero", "one", "two") if labels else None
    return ImageSet("noise", [item(i) for i in range(count)], names, "unknown", framed=True)


def reddish() -> LoadedModel:
    model = loaded(Reddish())
    return dataclasses.replace(model, class_names=("zero", "one", "two"))


def folder(place: Path) -> Path:
    for name, tint in (("red", (0.4, -0.2, 0.0)), ("bluish", (0.0, 0.0, 0.4)), ("plain", (0.0, 0.0, 0.0))):
        (place / name).mkdir(parents=True)
        images = noise(12, tint, seed=hash_of(name))
        for index in range(12):
            images.items[index].read().save(place / name / f"{index}.png")  # type: ignore[union-attr]
    return place


def hash_of(name: str) -> int:
    return sum(map(ord, name))


def section(report: Report) -> Section:
    return next(part for part in report.sections if part.id == "concepts")


def test_sensitivities_of_a_linear_network_are_its_weights() -> None:
    model = reddish()
    before = fingerprint(model.module)
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 2, 0, 1])
    found = sensitivities(model, iter([(images, classes)]), ["colours"], lambda _: None)["colours"]
    np.testing.assert_allclose(found, model.network.last.weight[classes].numpy(), atol=1e-6)  # type: ignore[union-attr, index, operator]
    assert fingerprint(model.module) == before


def test_a_direction_is_the_normal_of_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    concept, others = (
        rng.normal(size=(30, 4)) * [1, 5, 0.1, 2] + [1, 0, 0.2, 0],
        rng.normal(size=(40, 4)) * [1, 5, 0.1, 2],
    )
    scaler = StandardScaler().fit(np.concatenate([concept, others]))
    labels = np.r_[np.ones(30), np.zeros(40)]
    fitted = LogisticRegression(C=0.1).fit(scaler.transform(np.concatenate([concept, others])), labels)
    normal = fitted.coef_[0] / scaler.scale_
    np.testing.assert_allclose(direction(concept, others), normal / np.linalg.norm(normal), atol=1e-4)
    np.testing.assert_allclose(direction(others, concept), -normal / np.linalg.norm(normal), atol=1e-4)
    assert not direction(np.ones((6, 2)), np.ones((7, 2))).any()


def test_a_score_is_the_part_that_grows() -> None:
    gradients = np.array([[1.0, 0.0], [2.0, 5.0], [-1.0, 0.0], [0.0, 3.0]])
    assert score(gradients, np.array([1.0, 0.0])) == (2 + 0.5) / 4
    assert score(gradients, np.array([-1.0, 0.0])) == (1 + 0.5) / 4
    assert score(gradients, np.zeros(2)) == 0.5


def test_images_of_a_set_are_told_apart_by_chance_only() -> None:
    rng = np.random.default_rng(1)
    found = [held_out(rng.normal(size=(40, 3)), rng.normal(size=(40, 3))) for _ in range(20)]
    assert abs(np.mean(found) - 0.5) < 0.05
    assert held_out(rng.normal(size=(20, 3)) + 9, rng.normal(size=(20, 3))) == 1


def test_the_two_sets_of_a_pair_share_no_image() -> None:
    for first, second in counter_sets(11, 5, 30, np.random.default_rng(0)):
        assert len({*first.tolist(), *second.tolist()}) == 10
    assert against([0.5, 0.5], [0.5, 0.5]) == 1
    assert against([1, 1], [0, 0]) == 0


def test_a_planted_concept_is_found_and_its_sign(tmp_path: Path) -> None:
    model = reddish()
    before = fingerprint(model.module)
    config = FiltersConfig(views=("concepts",), concepts=str(folder(tmp_path / "concepts")))
    report = run(model, noise(60), config)
    assert fingerprint(model.module) == before
    for concept, cls, value in (
        ("red", "zero", 1),
        ("red", "one", 0),
        ("bluish", "two", 1),
    ):
        assert report[f"concepts.colours.{concept}.{cls}"].value == value
    table = next(block for block in section(report).blocks if isinstance(block, Table))
    named = [column.name for column in table.columns]
    rows = {(row[1], row[2]): dict(zip(named, row, strict=True)) for row in table.rows}
    assert rows["red", "zero"]["p"] < 0.01
    assert rows["red", "zero"]["told apart"] == 1
    assert rows["red", "zero"]["images"] == 20
    assert 0.2 < rows["red", "zero"]["random"] < 0.8
    assert 0.2 < rows["plain", "two"]["told apart"] < 0.8
    assert repr(run(model, noise(60), config).all_results) == repr(report.all_results)


def test_without_a_folder_textures_are_made() -> None:
    report = run(reddish(), noise(30), FiltersConfig(views=("concepts",)))
    assert all(kind in section(report).summary for kind in TEXTURES)
    for kind in TEXTURES:
        made = texture(kind, (3, 20, 30), np.random.default_rng(0))
        assert made.shape == (3, 20, 30)
        assert 0 <= made.min() < 0.45 < made.max() <= 1
        assert len(np.unique(made[0].round(4))) == 2


@pytest.mark.parametrize("channels", [1, 6])
def test_any_number_of_channels(channels: int) -> None:
    model = loaded(size=(channels, 16, 16))
    pixels = torch.rand(24, channels, 16, 16, generator=torch.Generator().manual_seed(0)).numpy()
    images = ImageSet(
        "arrays",
        [Item(str(i), i % 3, lambda i=i: pixels[i]) for i in range(24)],  # type: ignore[misc]
        model.class_names,
        "unknown",
        shape=(channels, 16, 16),
    )
    assert not section(run(model, images, FiltersConfig(views=("concepts",)))).reason


def test_what_cannot_be_tested_is_refused_in_one_line(tmp_path: Path) -> None:
    few = section(run(reddish(), noise(8), FiltersConfig(views=("concepts",))))
    assert "10 images" in few.reason
    place = folder(tmp_path / "concepts")
    (place / "empty").mkdir()
    Image.new("RGB", (8, 8)).save(place / "empty" / "one.png")
    with pytest.raises(UsageError, match="'empty'"):
        run(reddish(), noise(30), FiltersConfig(concepts=str(place)))
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGB", (8, 8)).save(flat / "one.png")
    with pytest.raises(UsageError, match="subfolder"):
        run(reddish(), noise(30), FiltersConfig(concepts=str(flat)))
    with pytest.raises(UsageError, match="nowhere"):
        run(reddish(), noise(30), FiltersConfig(concepts=str(tmp_path / "nowhere")))
    with pytest.raises(UsageError, match="view 'concepts'"):
        run(reddish(), noise(30), FiltersConfig(views=("weights",), concepts=str(place)))


def test_pictures_are_no_concepts_of_a_network_with_six_channels(tmp_path: Path) -> None:
    pixels = torch.rand(24, 6, 16, 16, generator=torch.Generator().manual_seed(0)).numpy()
    items = [Item(str(i), None, lambda i=i: pixels[i]) for i in range(24)]  # type: ignore[misc]
    images = ImageSet("arrays", items, None, "unknown", shape=(6, 16, 16))
    config = FiltersConfig(views=("concepts",), concepts=str(folder(tmp_path / "concepts")))
    refused = section(run(loaded(size=(6, 16, 16)), images, config))
    assert not refused.failed
    assert "6 input channels" in refused.reason
