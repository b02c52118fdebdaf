"""The features view: every number belongs to its picture, and what cannot be shown says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.filters_models import SmallNet, loaded, pictures
from torch import Tensor, nn

import probe
from probe.core.blocks import Gallery, Note, Strip, Table
from probe.core.document import Section
from probe.core.errors import UsageError
from probe.core.progress import SILENT, Advance, Progress
from probe.core.seeds import scoped
from probe.core.state import fingerprint
from probe.models.loaded import LoadedModel, random_provenance
from studies.filters.config import FiltersConfig
from studies.filters.optimise.report import OptimisedValue, checks, findings, results, table
from studies.filters.study import prepare
from studies.filters.views.features import CLASSES, features
from studies.filters.workspace import FiltersWorkspace

LAYERS = ("norm1", "pool", "relu")


def space_of(
    model: LoadedModel | None = None, progress: Progress = SILENT, **options: object
) -> FiltersWorkspace:
    config = FiltersConfig(**{"layers": LAYERS, "channels": (0, 3), "steps": 6, "images": 3, **options})  # type: ignore[arg-type]
    model = model or loaded()
    return prepare(model, pictures(6, model.input.size[1]), config, progress)


@pytest.fixture(scope="module")
def space() -> FiltersWorkspace:
    return space_of(steps=24)


@pytest.fixture(scope="module")
def section(space: FiltersWorkspace) -> Section:
    return features(space)


def galleries(section: Section) -> list[Gallery]:
    return [block for block in section.blocks if isinstance(block, Gallery)]


def tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def as_input(strip: Strip) -> Tensor:
    pixels = np.stack([picture.pixels for picture in strip.pictures]).astype(np.float32) / 255
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def number(caption: str) -> float:
    return float(caption.rpartition("· ")[2])


def map_of(model: LoadedModel, layer: str, images: Tensor) -> Tensor:
    """The layer's output by hand; ``relu`` runs twice and its last call counts."""
    network = model.network
    x = network.norm1(network.conv1(model.module.normalise(images)))
    if layer == "norm1":
        return x
    x = network.pool(x.clamp_min(0))
    if layer == "pool":
        return x
    return network.conv2(x).clamp_min(0)


def test_every_layer_shows_its_channels_three_ways(space: FiltersWorkspace, section: Section) -> None:
    shown = galleries(section)
    assert len(shown) == len(LAYERS) + 1
    assert section.id == "features"
    for gallery, layer in zip(shown, LAYERS, strict=False):
        assert gallery.title.startswith(f"{layer}:")
        assert len(gallery.strips) == 3
        for strip in gallery.strips:
            assert [p.caption.partition(" ·")[0] for p in strip.pictures] == ["ch 0", "ch 3"]
            assert all(p.pixels.shape == (16, 16, 3) for p in strip.pictures)
    anchors = [p.anchor for gallery in shown for strip in gallery.strips for p in strip.pictures]
    assert len(set(anchors)) == len(anchors)
    assert "pool/ch3" in anchors


def test_the_numbers_are_those_of_the_pictures(space: FiltersWorkspace, section: Section) -> None:
    rows = {(row[0], row[1]): row for row in tables(section)[-1].rows}
    for gallery, layer in zip(galleries(section), LAYERS, strict=False):
        most, least, middle = gallery.strips
        with torch.no_grad():
            high, unit_maps = (
                map_of(space.model, layer, as_input(most)),
                map_of(space.model, layer, as_input(middle)),
            )
        for at, channel in enumerate((0, 3)):
            # Pictures are rounded to 8 bits, captions to three digits.
            close = {"rel": 0.02, "abs": 0.02}
            assert number(most.pictures[at].caption) == pytest.approx(high[at, channel].max().item(), **close)
            assert number(middle.pictures[at].caption) == pytest.approx(
                unit_maps[at, channel].max().item(), **close
            )
            row = rows[layer, channel]
            assert row[2] == pytest.approx(high[at, channel].max().item(), **close)
            assert row[3] == pytest.approx(unit_maps[at, channel].max().item(), **close)
            assert row[4] == pytest.approx(space.best[layer][channel])
            assert row[5] == pytest.approx(max(row[2], row[3]) / row[4])
            assert number(least.pictures[at].caption) < number(most.pictures[at].caption)


def test_lowest_values_are_taken_before_the_activation(space: FiltersWorkspace, section: Section) -> None:
    least = galleries(section)[2].strips[1]
    x = map_of(space.model, "pool", as_input(least))
    with torch.no_grad():
        below = space.model.network.conv2(x)
    for at, channel in enumerate((0, 3)):
        assert number(least.pictures[at].caption) == pytest.approx(
            below[at, channel].min().item(), rel=0.02, abs=0.02
        )
        assert number(least.pictures[at].caption) < 0


def test_classes_are_those_of_the_shown_images(space: FiltersWorkspace, section: Section) -> None:
    with torch.no_grad():
        logits = space.model.module(space.pixels(space.shown))
    named = list(dict.fromkeys(logits.argmax(1).tolist()))[:CLASSES]
    gallery, values = galleries(section)[-1], tables(section)[0]
    assert [row[0] for row in values.rows] == [f"class {index}" for index in named]
    with torch.no_grad():
        reached = space.model.module(as_input(gallery.strips[0]))
    for at, (index, row) in enumerate(zip(named, values.rows, strict=True)):
        assert row[1] == pytest.approx(reached[at, index].item(), rel=0.02, abs=0.02)
        assert row[2] == pytest.approx(reached[at].softmax(0)[index].item(), abs=0.02)
        assert row[3] == pytest.approx(logits[:, index].max().item(), abs=1e-4)


def test_the_model_is_left_alone_and_the_seed_decides(space: FiltersWorkspace, section: Section) -> None:
    before, state = fingerprint(space.model.module), torch.get_rng_state()
    again = features(space)
    assert fingerprint(space.model.module) == before
    assert torch.equal(torch.get_rng_state(), state)
    other = features(replace(space, config=replace(space.config, seed=7)))

    def pixels(section: Section) -> list[bytes]:
        return [p.pixels.tobytes() for g in galleries(section) for strip in g.strips for p in strip.pictures]

    assert pixels(again) == pixels(section)
    assert not set(pixels(other)) & set(pixels(section))


def test_a_channel_looks_the_same_whatever_else_is_shown() -> None:
    alone = galleries(features(space_of(channels=(3,), layers=("pool",))))[0]
    together = galleries(features(space_of(channels=(0, 3, 5), layers=("norm1", "pool"))))[1]
    for single, other in zip(alone.strips, together.strips, strict=True):
        difference = single.pictures[0].pixels.astype(int) - other.pictures[1].pixels
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("domain", "grey"), [("digits", True), ("fashion-mnist", True), ("imagenet", False)])
def test_networks_for_grey_images_get_grey_pictures(domain: str, grey: bool) -> None:
    found = features(space_of(replace(loaded(), domain=domain), steps=2))
    for gallery in galleries(found):
        for picture in (p for strip in gallery.strips for p in strip.pictures):
            assert bool((picture.pixels == picture.pixels[..., :1]).all()) == grey


def test_networks_with_one_channel_get_grey_pictures() -> None:
    found = features(space_of(loaded(size=(1, 16, 12)), steps=2))
    assert all(p.pixels.shape == (16, 12) for g in galleries(found) for s in g.strips for p in s.pictures)


def test_of_five_channels_three_are_shown() -> None:
    network = nn.Sequential(
        nn.Conv2d(5, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    model = probe.wrap(network, input_size=(5, 16, 16), mean=0, std=1)
    pixels = torch.rand(6, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    report = probe.filters(model, pixels, views=["features"], steps=2)
    shown = [p for s in report.sections for g in galleries(s) for strip in g.strips for p in strip.pictures]
    assert shown
    assert all(picture.pixels.shape == (16, 16, 3) for picture in shown)
    assert any("first 3 of the 5" in warning for warning in report.warnings)


@pytest.mark.parametrize("steps", [0, -2])
def test_no_steps_are_refused(steps: int) -> None:
    with pytest.raises(UsageError, match="at least 1 step"):
        features(space_of(steps=steps))


def test_random_weights_are_said_aloud(space: FiltersWorkspace) -> None:
    learned = replace(space.model, provenance=replace(space.model.provenance, weights="trained"))
    drawn = replace(space.model, provenance=random_provenance("zoo:small", 0))
    for model, said in ((learned, False), (drawn, True)):
        quick = replace(space, model=model, config=replace(space.config, steps=1))
        warnings = [b.text for b in features(quick).blocks if isinstance(b, Note) and b.tone == "warning"]
        assert bool(warnings) == said
        assert all("random" in text for text in warnings)


class Counting:
    """Progress that adds up."""

    def __init__(self) -> None:
        self.done: dict[str, float] = {}
        self.totals: dict[str, float | None] = {}

    @contextmanager
    def task(self, label: str, total: float | None) -> Iterator[Advance]:
        self.totals[label], self.done[label] = total, 0

        def advance(units: float) -> None:
            self.done[label] += units

        yield advance

    def say(self, text: str) -> None:
        raise AssertionError(text)


def test_progress_ends_at_its_total() -> None:
    progress = Counting()
    features(space_of(progress=progress, steps=5))
    assert progress.totals["Features"] == progress.done["Features"]
    assert progress.done["Features"] >= 3 * 2 * len(LAYERS) * 5


class Untraceable(SmallNet):
    """A graph cannot follow it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 2 if float(x.detach().mean()) > 1e6 else x)


def test_networks_that_cannot_be_traced_get_the_same_pictures(section: Section) -> None:
    with scoped(0):
        network = Untraceable()
    found = galleries(features(space_of(loaded(network), steps=24)))
    for mine, other in zip(galleries(section), found, strict=True):
        for a, b in zip(mine.strips, other.strips, strict=True):
            for picture, twin in zip(a.pictures, b.pictures, strict=True):
                # Folding changes the last bits, and they grow along the optimisation.
                assert np.abs(picture.pixels.astype(int) - twin.pixels).mean() < 8


class FixedSize(nn.Module):
    """Its head and its second layer take one input size only."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Linear(48 * 48, 16)
        self.fc = nn.Linear(4 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).flatten(2)).view(-1, 4, 4, 4).relu()
        return self.fc(x.flatten(1))


def test_small_pictures_where_the_network_allows_them() -> None:
    with scoped(0):
        model = loaded(FixedSize(), (3, 96, 96))
    found = galleries(features(space_of(model, layers=("first",), steps=1)))
    assert found[0].strips[0].pictures[0].pixels.shape == (64, 64, 3)
    assert found[-1].strips[0].pictures[0].pixels.shape == (96, 96, 3)


FAR, NEAR = OptimisedValue("a", 1, 2.0, 6.0, 3.0), OptimisedValue("a", 2, 1.0, 0.5, 4.0)
SILENT_CHANNEL, NOT_A_NUMBER = (
    OptimisedValue("b", 0, 0.5, 0.1, 0.0),
    OptimisedValue("b", 1, float("nan"), 1.0, 2.0),
)


def test_the_report_compares_with_the_best_image() -> None:
    assert (FAR.ratio, NEAR.ratio, SILENT_CHANNEL.ratio) == (2.0, 0.25, None)
    assert (FAR.exceeds, NEAR.exceeds, SILENT_CHANNEL.exceeds) == (True, False, True)
    median, share = results([FAR, NEAR, SILENT_CHANNEL])
    assert (median.value, median.n) == (1.125, 2)
    assert (share.value, share.n) == (pytest.approx(2 / 3), 3)
    assert table([FAR, SILENT_CHANNEL], 20).rows == (
        ("a", 1, 2.0, 6.0, 3.0, 2.0),
        ("b", 0, 0.5, 0.1, 0.0, None),
    )
    assert "2 of 3" in findings([FAR, NEAR, SILENT_CHANNEL])[0]


def test_too_few_steps_are_a_warning() -> None:
    (good,), (bad,) = checks([FAR]), checks([FAR, NEAR])
    assert good.status == "pass"
    assert bad.status == "warn"
    assert "a/ch2" in bad.detail
    assert "--steps" in bad.detail


def test_values_that_are_no_numbers_do_not_reach_the_report() -> None:
    assert table([NOT_A_NUMBER], 1).rows[0][2] is None
    assert all(not isinstance(r.value, float) or np.isfinite(r.value) for r in results([NOT_A_NUMBER]))


def test_nothing_reached_says_nothing() -> None:
    assert (results([]), checks([]), findings([])) == ((), (), ())
