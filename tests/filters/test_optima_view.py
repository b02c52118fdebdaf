"""The view of several optima: every number belongs to its picture, and what cannot be shown says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.filters_models import loaded, pictures
from torch import Tensor, nn

import probe
from probe.core.blocks import Gallery, Note, Strip, Table
from probe.core.document import Report, Section
from probe.core.journal import FileJournal
from probe.core.progress import SILENT
from probe.core.seeds import scoped
from probe.core.state import fingerprint
from probe.models.loaded import LoadedModel
from studies.filters import FiltersConfig, run
from studies.filters.optima import PASSES, VARIANTS, earlier_layer
from studies.filters.study import prepare
from studies.filters.views import optima as view

LAYERS = ("norm1", "pool", "conv2")
SHOWN = ["image", "fourier", "maco", "important", "diverse", "diverse", "diverse", "accentuated"]


def made(model: LoadedModel | None = None, count: int = 6, **options: Any) -> Report:
    chosen = {"views": ("optima",), "layers": LAYERS, "channels": (0, 3), "steps": 8, **options}
    model = model or loaded(size=(3, 80, 80))
    return run(model, pictures(count, model.input.size[1]), FiltersConfig(**chosen))


@pytest.fixture(scope="module")
def report() -> Report:
    return made(steps=24)


def section(report: Report) -> Section:
    return report.sections[0]


def strips(report: Report) -> dict[str, Strip]:
    galleries = [block for block in section(report).blocks if isinstance(block, Gallery)]
    return {strip.anchor: strip for gallery in galleries for strip in gallery.strips}


def rows(report: Report, number: int) -> list[dict[str, Any]]:
    table = [block for block in section(report).blocks if isinstance(block, Table)][number]
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def value(layer: str, channel: int, images: Tensor) -> Tensor:
    """The mean of the channel before the activation, by hand."""
    model = loaded(size=(3, 80, 80))
    network = model.network
    with torch.no_grad():
        x = network.norm1(network.conv1(model.module.normalise(images)))
        if layer == "pool":
            x = network.pool(x.clamp_min(0))
        if layer == "conv2":
            x = network.conv2(network.pool(x.clamp_min(0)))
    return x[:, channel].mean((1, 2))


def test_each_channel_has_a_card_with_an_anchor(report: Report) -> None:
    found = strips(report)
    assert list(found) == [f"{layer}/ch{channel}" for layer in LAYERS for channel in (0, 3)]
    for strip in found.values():
        assert len(strip.pictures) == len(SHOWN)
        assert strip.compare == (0, len(SHOWN) - 1)
        assert len({picture.pixels.tobytes() for picture in strip.pictures}) == len(SHOWN)
        assert all(picture.alt for picture in strip.pictures)


def test_the_numbers_are_those_of_the_pictures(report: Report) -> None:
    cells = rows(report, 0)
    images = pictures(6, 80)
    model = loaded(size=(3, 80, 80))
    for anchor, strip in strips(report).items():
        layer, channel = anchor.split("/ch")[0], int(anchor.split("/ch")[1])
        own = [row for row in cells if (row["layer"], row["channel"]) == (layer, channel)]
        assert len(own) == PASSES + 1
        pixels = np.stack(
            [p.pixels for p, kind in zip(strip.pictures, SHOWN, strict=True) if kind != "important"]
        )
        given = torch.from_numpy(pixels.astype(np.float32) / 255).permute(0, 3, 1, 2)
        assert given.shape[2:] == (64, 64)
        values = value(layer, channel, given)
        large = value(layer, channel, F.interpolate(given, (80, 80), mode="bilinear"))
        whole = value(layer, channel, torch.stack([images.get(i, model.input) for i in range(6)]))
        for row, small, enlarged in zip(own, values, large, strict=True):
            # Pictures are rounded to 8 bits.
            assert row["value"] == pytest.approx(small.item(), abs=0.01)
            assert row["value at 80×80"] == pytest.approx(enlarged.item(), abs=0.01)
            assert row["best image at 80×80"] == pytest.approx(whole.max().item(), abs=1e-4)
            assert row["side"] == 64
        assert own[0]["picture"] == "strongest patch"
        assert own[0]["best image"] >= own[0]["value"] - 1e-6
        accentuated = own[-1]
        assert accentuated["value"] > own[0]["value"]


def test_differences_name_the_layer_and_the_distance(report: Report) -> None:
    found = rows(report, 1)
    assert [row["held in"] for row in found] == ["conv1", "conv1", "norm1", "norm1", "pool", "pool"]
    for row in found:
        assert 0 < row["cosine, diverse"] <= 1
        assert 0 < row["cosine, images"] <= 1
        assert row["patches"] == 6
        assert row["after"] > row["before"]
        assert 0 < row["distance there"] < 1
        assert 0 < row["distance in pixels"] < 1


def test_the_first_layer_is_held_in_pixels_and_others_in_one_half_way() -> None:
    space = prepare(loaded(), pictures(4), FiltersConfig(layers=("conv1",), images=2), SILENT)
    assert earlier_layer(space, "conv1") is None
    found = rows(made(layers=("conv1",), channels=(1,)), 1)
    assert found[0]["held in"] == "pixels"
    assert found[0]["distance there"] == found[0]["distance in pixels"]


def test_results_and_words_say_what_was_done(report: Report) -> None:
    names = {result.name: result for result in section(report).results}
    for kind in ("fourier", "maco", "diverse", "accentuated"):
        assert names[f"optima.{kind}.reach_best_image"].n == 6
    assert names["optima.diverse.median_cosine"].n == 6
    limits = next(
        block.text for block in section(report).blocks if isinstance(block, Note) and "cannot" in block.text
    )
    assert "not what the channel is used for" in limits
    assert "magnitude of the images by construction" in limits
    assert "6 images" in section(report).summary
    for block in section(report).blocks:
        if isinstance(block, Table):
            assert all(column.help for column in block.columns)
        if isinstance(block, Gallery):
            assert block.reading


def test_the_seed_decides_also_among_workers() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first, again, spread, other = (
            made(steps=3, layers=("norm1", "pool"), **options)
            for options in ({}, {}, {"jobs": 2}, {"seed": 3})
        )
    finally:
        torch.set_num_threads(threads)

    def pixels(report: Report) -> list[bytes]:
        return [p.pixels.tobytes() for strip in strips(report).values() for p in strip.pictures]

    assert pixels(first) == pixels(again) == pixels(spread)
    assert section(first).results == section(again).results == section(spread).results
    shared = set(pixels(other)) & set(pixels(first))
    # The images are the same.
    assert {strip.pictures[0].pixels.tobytes() for strip in strips(first).values()} <= shared
    assert not shared & {p.pixels.tobytes() for strip in strips(first).values() for p in strip.pictures[1:7]}


def test_a_run_that_was_interrupted_goes_on_with_what_it_has(tmp_path: Path) -> None:
    config = FiltersConfig(views=("optima",), layers=("norm1", "pool"), channels=(0,), steps=2)
    first, second = (
        run(loaded(), pictures(4), config, journal=FileJournal(tmp_path, {}, resume=resume))
        for resume in (False, True)
    )
    assert section(first).results == section(second).results
    assert repr(section(first).blocks) == repr(section(second).blocks)


def test_two_layers_and_two_channels_are_enough_unless_more_are_named() -> None:
    space = prepare(loaded(), pictures(4), FiltersConfig(images=2), SILENT)
    space = replace(space, layers=LAYERS, channels=dict.fromkeys(LAYERS, (0, 2, 3, 5)))
    assert view._chosen(space) == [("pool", (0, 2)), ("conv2", (0, 2))]
    named = replace(space, config=replace(space.config, layers=LAYERS, channels=(0, 2, 3)))
    assert [layer for layer, _ in view._chosen(named)] == list(LAYERS)
    assert all(len(channels) == 4 for _, channels in view._chosen(named))


@pytest.mark.parametrize("channels", [1, 6])
def test_images_of_one_and_six_channels(channels: int) -> None:
    network = nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )
    model = probe.wrap(network, input_size=(channels, 16, 16), mean=0, std=1)
    pixels = torch.rand(6, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    report = probe.filters(model, pixels, views=["optima"], layers=["2"], channels=[1], steps=3)
    (strip,) = strips(report).values()
    shape = (16, 16) if channels == 1 else (16, 16, 3)
    assert all(picture.pixels.shape == shape for picture in strip.pictures)
    assert len(rows(report, 0)) == PASSES + 1


def test_networks_for_digits_get_grey_pictures() -> None:
    found = strips(made(replace(loaded(), domain="digits"), layers=("pool",), steps=2))
    for strip in found.values():
        for picture in strip.pictures[1:]:
            assert bool((picture.pixels == picture.pixels[..., :1]).all())


def test_one_image_has_no_pair_to_compare() -> None:
    found = rows(made(count=1, layers=("pool",), steps=2), 1)
    assert all(row["cosine, images"] is None for row in found)
    assert all(row["cosine, diverse"] > 0 for row in found)


def test_without_gradients_there_are_no_pictures() -> None:
    model = loaded()
    model.module.differentiable = False
    found = section(made(model, layers=("pool",)))
    assert "gradient" in found.reason
    assert not found.failed


def test_layers_that_cannot_be_cut_give_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from probe.core.errors import NotApplicableError
    from studies.filters import optima

    whole = optima.layer_subject

    def refuses(model: LoadedModel, traced: nn.Module, layer: str, example: Tensor) -> object:
        if layer != "pool" or everywhere:
            raise NotApplicableError("It returns two tensors.")
        return whole(model, traced, layer, example)

    monkeypatch.setattr(optima, "layer_subject", refuses)
    everywhere = False
    found = made(steps=2)
    assert list(strips(found)) == ["pool/ch0", "pool/ch3"]
    notes = [block.text for block in section(found).blocks if isinstance(block, Note)]
    assert sum("two tensors" in note for note in notes) == 2
    everywhere = True
    refused = section(made(steps=2))
    assert "conv2: It returns two tensors" in refused.reason
    assert not refused.failed


def test_the_network_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with scoped(0):
        model = loaded(size=(3, 80, 80))
    space = prepare(
        model, pictures(4, 80), FiltersConfig(layers=("pool",), channels=(0,), steps=2, images=2), SILENT
    )
    before, state = fingerprint(space.model.module), torch.get_rng_state()
    view.optima(space)
    assert fingerprint(space.model.module) == before
    assert torch.equal(torch.get_rng_state(), state)

    def fails(*_: object) -> None:
        raise RuntimeError("stopped")

    monkeypatch.setattr("studies.filters.optimise.rendering._pulls", fails)
    with pytest.raises(RuntimeError, match="stopped"):
        view.optima(space)
    assert fingerprint(space.model.module) == before
    assert not any(parameter.requires_grad for parameter in space.model.module.parameters())


def test_unimportant_pixels_fade_to_grey() -> None:
    picture, importance = torch.rand(3, 10, 10), torch.arange(100.0).view(10, 10)
    found = view.weighed(picture, importance)
    torch.testing.assert_close(found[:, 8:], picture[:, 8:])
    assert found[:, 0, 0].tolist() == [0.5] * 3
    share = 40 / torch.quantile(importance, 0.8)
    torch.testing.assert_close(found[:, 4, 0], picture[:, 4, 0] * share + 0.5 * (1 - share))
    assert torch.isfinite(view.weighed(picture, torch.zeros(10, 10))).all()
    assert VARIANTS == 3
