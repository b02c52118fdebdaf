"""The attribution view on hand-made models: the blocks it promises, and what it says when something does not apply."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.attribution_networks import Moody, Residual
from PIL import Image
from torch import nn

from probe.core.blocks import Figure, Gallery, Note, Table
from probe.core.document import Section
from probe.core.errors import CannotRunError
from probe.core.progress import SILENT, Advance, Progress
from probe.core.seeds import generator, scoped
from probe.core.state import fingerprint
from probe.data.images import ImageSet, InputSpec, Item
from probe.models.loaded import LoadedModel, PixelModel, Provenance
from probe.report import raster as heat
from studies.filters.attribution.attribute import METHODS
from studies.filters.config import FiltersConfig
from studies.filters.registries import VIEWS
from studies.filters.study import prepare
from studies.filters.views import attribution as view
from studies.filters.workspace import FiltersWorkspace

SIDE = 14
CLASSES = ("ant", "bee", "cat", "dog")


class Gelu(nn.Module):
    """No ReLU anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3), nn.GELU(), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.act(self.conv(x)).mean((2, 3)))
        return logits


def loaded(make: Callable[[], nn.Module] = Residual, weights: str = "learned") -> LoadedModel:
    with scoped(0):
        network = make()
    module = PixelModel(network, (0.5,) * 3, (0.5,) * 3).eval().requires_grad_(False)
    return LoadedModel(
        name="small",
        module=module.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        input=InputSpec((3, SIDE, SIDE), crop=1.0),
        num_classes=4,
        class_names=CLASSES,
        domain="unknown",
        device=torch.device("cpu"),
        memory_format=torch.channels_last,
        provenance=Provenance("test", weights),
        factory=make,
    )


def photographs(labels: list[int | None]) -> ImageSet:
    noise = torch.rand((len(labels), SIDE, SIDE, 3), generator=generator(1, "photographs"))
    pixels = (noise * 255).byte().numpy().astype(np.uint8)

    def item(i: int) -> Item:
        return Item(f"photo {i}", labels[i], lambda: Image.fromarray(pixels[i]))

    return ImageSet("noise", [item(i) for i in range(len(labels))], CLASSES, "unknown", framed=True)


def workspace(model: LoadedModel, wrong: int = 1, progress: Progress = SILENT) -> FiltersWorkspace:
    """Three images, all shown, of which the network calls ``wrong`` by another name than their label."""
    blank = photographs([None] * 3)
    images = torch.stack([blank.get(i, model.input) for i in range(3)])
    answers = model.logits(images).argmax(1).tolist()
    labels: list[int | None] = [(a + (i < wrong)) % 4 for i, a in enumerate(answers)]
    config = FiltersConfig(images=(0, 1, 2))
    return prepare(model, photographs(labels), config, progress)


def block(section: Section, kind: type) -> list[object]:
    return [block for block in section.blocks if isinstance(block, kind)]


def column(section: Section, name: str) -> dict[str, object]:
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    place = [column.name for column in table.columns].index(name)
    return {str(row[0]): row[place] for row in table.rows}


@pytest.fixture(scope="module")
def section() -> Section:
    return VIEWS.get("attribution")(workspace(loaded()))


def test_the_section_has_what_it_promises(section: Section) -> None:
    assert section.id == "attribution"
    assert not section.reason
    assert [type(block) for block in section.blocks] == [Gallery, Table, Figure, Note]
    assert column(section, "Verdict").keys() == {method.title for method in METHODS}
    assert all(str(text).endswith(".") for text in column(section, "Verdict").values())
    assert section.findings


def test_every_image_has_a_strip_and_a_mistake_a_second_one(section: Section) -> None:
    (gallery,) = (block for block in section.blocks if isinstance(block, Gallery))
    assert [strip.label.partition(":")[0] for strip in gallery.strips] == [
        "photo 0",
        "photo 0",
        "photo 1",
        "photo 2",
    ]
    assert "true class" in gallery.strips[0].note
    assert "true class" in gallery.strips[1].note
    assert gallery.strips[2].note == "predicted, correct"
    true = gallery.strips[0].note.removeprefix("predicted, true class ")
    assert gallery.strips[1].label == f"photo 0: {true}"
    for strip in gallery.strips:
        assert [picture.caption for picture in strip.pictures] == ["image", *(m.title for m in METHODS)]
        for picture in strip.pictures:
            assert picture.alt
            assert picture.pixels.dtype == np.uint8
            assert picture.pixels.shape == (SIDE, SIDE, 3)
            assert picture.pixelated
    anchors = [picture.anchor for strip in gallery.strips for picture in strip.pictures if picture.anchor]
    assert len(anchors) == len(set(anchors))


def test_the_maps_are_different_pictures(section: Section) -> None:
    (gallery,) = (block for block in section.blocks if isinstance(block, Gallery))
    seen = {picture.pixels.tobytes() for picture in gallery.strips[0].pictures}
    assert len(seen) == 1 + len(METHODS)
    # The other class of the same image gives other maps.
    second = {picture.pixels.tobytes() for picture in gallery.strips[1].pictures}
    assert len(seen & second) == 1


def test_results_are_the_numbers_of_the_table(section: Section) -> None:
    found = {result.name: result for result in section.results}
    for method in METHODS:
        for part, name in (("classifier", "ρ classifier"), ("random", "ρ all layers")):
            result = found[f"attribution.{method.key}.spearman_{part}"]
            assert result.value == column(section, name)[method.title]
            assert result.n == 3
            assert isinstance(result.value, float)
            assert result.ci is not None
            assert -1 <= result.ci[0] <= result.value <= result.ci[1] <= 1
        assert (f"attribution.{method.key}.completeness_error" in found) == method.complete
    assert len(found) == len(section.results)
    json.dumps([(r.name, r.value, r.n, r.ci) for r in section.results], allow_nan=False)
    deeplift = found["attribution.deeplift.completeness_error"].value
    assert isinstance(deeplift, float)
    assert deeplift < 1e-3


def test_checks_say_how_far_the_maps_can_be_trusted(section: Section) -> None:
    completeness, randomisation = section.checks
    assert completeness.status in ("pass", "warn")
    assert "DeepLIFT" in completeness.detail
    assert randomisation.status in ("pass", "warn")


def test_the_view_leaves_the_model_and_the_generators_alone() -> None:
    model = loaded()
    space = workspace(model)
    before, state = fingerprint(model.module), torch.get_rng_state()
    first = VIEWS.get("attribution")(space)
    assert fingerprint(model.module) == before
    assert torch.equal(torch.get_rng_state(), state)
    again = VIEWS.get("attribution")(space)
    timed = [(r.name, r.value, r.ci) for r in first.results if not r.name.endswith("seconds")]
    assert timed == [(r.name, r.value, r.ci) for r in again.results if not r.name.endswith("seconds")]


@pytest.mark.parametrize("make", [Residual, Moody])
@pytest.mark.parametrize("weights", ["learned", "random, seed 0"])
def test_progress_ends_where_it_was_announced_to_end(make: Callable[[], nn.Module], weights: str) -> None:
    done: list[float] = []
    announced: list[float] = []

    class Recording:
        @contextmanager
        def task(self, label: str, total: float | None) -> Iterator[Advance]:
            assert total is not None
            if label == "Attribution":
                announced.append(total)
                yield done.append
            else:
                yield lambda _units: None

        def say(self, text: str) -> None:
            raise AssertionError(text)

    VIEWS.get("attribution")(workspace(loaded(make, weights), progress=Recording()))
    assert sum(done) == pytest.approx(announced[0])


def test_random_weights_get_maps_but_no_check() -> None:
    section = VIEWS.get("attribution")(workspace(loaded(weights="random, seed 3")))
    note = section.blocks[0]
    assert isinstance(note, Note)
    assert note.tone == "warning"
    assert "random already" in note.text
    assert not block(section, Figure)
    assert set(column(section, "ρ all layers").values()) == {None}
    assert not any("spearman" in result.name for result in section.results)
    assert section.checks[1].status == "not applicable"
    assert len([result for result in section.results if result.name.endswith("seconds")]) == len(METHODS)


def test_a_network_that_no_graph_can_follow_keeps_the_other_methods() -> None:
    section = VIEWS.get("attribution")(workspace(loaded(Moody)))
    verdicts = column(section, "Verdict")
    refused = {title for title, text in verdicts.items() if str(text).startswith("Not applicable")}
    assert refused == {"Guided backprop", "DeepLIFT"}
    assert "cannot be rewritten" in str(verdicts["DeepLIFT"])
    assert isinstance(column(section, "ρ all layers")["Gradient"], float)
    (gallery,) = (block for block in section.blocks if isinstance(block, Gallery))
    assert len(gallery.strips[0].pictures) == 1 + len(METHODS) - 2


def test_guided_backprop_does_not_apply_without_relu() -> None:
    section = VIEWS.get("attribution")(workspace(loaded(Gelu)))
    verdicts = column(section, "Verdict")
    assert str(verdicts["Guided backprop"]).startswith("Not applicable")
    assert "GELU" in str(verdicts["Guided backprop"])
    assert column(section, "Completeness error")["DeepLIFT"] == pytest.approx(0.0, abs=1e-3)


def test_weights_that_cannot_be_redrawn_are_a_reason_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fresh(self: LoadedModel, seed: int) -> LoadedModel:
        raise CannotRunError("the factory always gives the same weights")

    space = workspace(loaded())
    monkeypatch.setattr(LoadedModel, "fresh", fresh)
    section = VIEWS.get("attribution")(space)
    note = section.blocks[0]
    assert isinstance(note, Note)
    assert "always gives the same weights" in note.text
    assert section.checks[1].status == "not applicable"


def test_without_labels_only_the_predicted_class_is_explained() -> None:
    space = prepare(loaded(), photographs([None] * 3), FiltersConfig(images=(0, 2)), SILENT)
    section = VIEWS.get("attribution")(space)
    (gallery,) = (block for block in section.blocks if isinstance(block, Gallery))
    assert [strip.note for strip in gallery.strips] == ["predicted", "predicted"]


def test_one_image_has_no_interval() -> None:
    space = prepare(loaded(), photographs([None] * 3), FiltersConfig(images=(1,)), SILENT)
    section = VIEWS.get("attribution")(space)
    assert set(column(section, "95% interval").values()) == {None}
    assert block(section, Figure)


def test_a_large_network_is_explained_with_coarser_options() -> None:
    model = loaded()
    small = workspace(model)
    large = workspace(replace(model, macs=int(2 * view.EXPENSIVE_MACS)))
    notes = [
        str(VIEWS.get("attribution")(space).blocks[-1].text)  # type: ignore[union-attr]
        for space in (small, large)
    ]
    assert "use 32 Gauss–Legendre steps" in notes[0]
    assert "use 8 Gauss–Legendre steps" in notes[1]


# --- pictures -------------------------------------------------------------------------------------------------


def test_signed_maps_are_red_for_and_blue_against() -> None:
    values = torch.zeros(1, 4, 4)
    values[0, 0, 0], values[0, 3, 3] = 1.0, -1.0
    drawn = heat.picture(values, torch.zeros(3, 4, 4), signed=True, overlay=False).astype(int)
    red, blue, nothing = drawn[0, 0], drawn[3, 3], drawn[1, 1]
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    assert nothing.min() > 240


def test_positive_maps_are_dark_where_nothing_is() -> None:
    values = torch.zeros(1, 4, 4)
    values[0, 0, 0] = 5.0
    drawn = heat.picture(values, torch.zeros(3, 4, 4), signed=False, overlay=False).astype(int)
    assert drawn[0, 0].sum() > 400
    assert drawn[1, 1].sum() < 20


def test_the_scale_is_the_99th_percentile_of_the_channel_sum() -> None:
    values = torch.arange(-100.0, 101.0).view(1, 3, 67)
    scaled = heat.scaled(values[0])
    size = np.percentile(np.abs(np.arange(-100, 101)), 99)
    np.testing.assert_allclose(scaled.ravel(), (np.arange(-100, 101) / size).clip(-1, 1))


@pytest.mark.parametrize("shape", [(3, 300, 200), (1, 7, 5)])
def test_maps_are_shown_at_most_as_large_as_agreed(shape: tuple[int, int, int]) -> None:
    image = torch.rand(shape, generator=generator(0, "shown"))
    drawn = heat.picture(image - 0.5, image, signed=True, overlay=True)
    assert max(drawn.shape[:2]) == min(heat.SIDE, max(shape[1:]))
    assert drawn.shape[0] / drawn.shape[1] == pytest.approx(shape[1] / shape[2], rel=0.02)


def test_a_map_of_zeros_or_nan_is_drawn_neutral() -> None:
    for value in (0.0, float("nan")):
        drawn = heat.picture(torch.full((3, 4, 4), value), torch.zeros(3, 4, 4), signed=True, overlay=False)
        assert drawn.min() > 240


def test_an_overlay_keeps_the_image_where_the_map_is_silent() -> None:
    image = torch.zeros(3, 4, 4)
    image[:, :2] = 1.0
    drawn = heat.picture(torch.zeros(1, 4, 4), image, signed=False, overlay=True).astype(int)
    assert drawn[0].min() > drawn[3].max() + 100
