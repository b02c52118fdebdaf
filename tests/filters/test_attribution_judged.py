"""Which map to trust: what the view says of networks whose answer is known, and how methods are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers.filters_models import SmallNet, loaded, pictures
from torch import Tensor, nn

import probe
from probe.core.blocks import Figure, Note, Table
from probe.core.document import Report, Section
from probe.core.errors import NotApplicableError
from probe.core.progress import SILENT, Advance
from probe.core.seeds import generator
from probe.core.state import fingerprint
from studies.filters import FiltersConfig
from studies.filters.attribution.attribute import (
    FURTHER,
    METHODS,
    AttributionSubject,
    Gradient,
    IntegratedGradients,
    Occlusion,
)
from studies.filters.attribution.attribute import prepare as prepare_attribution
from studies.filters.attribution.bench import Bench
from studies.filters.attribution.controls import Centre, Edges, RandomMap
from studies.filters.attribution.judge import TESTS, JudgedMaps, MapScore, Verdicts, judge
from studies.filters.registries import VIEWS
from studies.filters.study import prepare

ROAD, POINTING, DELETION, INSERTION, INFIDELITY = TESTS
COLOURS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
SIDE = 24


class Patches(nn.Module):
    """Counts the pixels of four pure colours, whatever else there is: class k is the colour k."""

    def __init__(self) -> None:
        super().__init__()
        self.detect = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(4, 4)
        with torch.no_grad():
            self.detect.weight.copy_((2 * COLOURS - 1)[:, :, None, None])
            self.detect.bias.copy_(0.45 - COLOURS.sum(1))
            self.fc.weight.copy_(1.5 * torch.eye(4))
            self.fc.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.detect(x)).sum((2, 3)))


class Blind(nn.Module):
    """Ignores its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


class _Stopped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise RuntimeError("there is no backward pass here")


class OneWay(SmallNet):
    """Answers, but its backward pass fails."""

    def forward(self, x: Tensor) -> Tensor:
        stopped: Tensor = _Stopped.apply(x)
        return super().forward(stopped)


def patched(count: int) -> tuple[Tensor, Tensor]:
    """Dim noise with stripes, and one pure patch in the colour of its class."""
    source = generator(3, "patched")
    images = 0.35 + 0.2 * torch.rand(count, 3, SIDE, SIDE, generator=source)
    images += 0.1 * (torch.arange(SIDE) % 4 < 2)
    labels = torch.arange(count) % 4
    for image, label in zip(images, labels, strict=True):
        row, col = torch.randint(1, SIDE - 9, (2,), generator=source).tolist()
        image[:, row : row + 8, col : col + 8] = COLOURS[label][:, None, None]
    return images, labels


def judged(net: nn.Module, images: Tensor, labels: Tensor | None = None, **how: Any) -> Report:
    model = probe.wrap(net, mean=0, std=1, input_size=tuple(images.shape[1:]))
    data = images if labels is None else probe.images(images, labels)
    return probe.filters(model, data, views=["trust"], **how)


def only(report: Report) -> Section:
    (section,) = report.sections
    return section


def column(section: Section, name: str) -> dict[str, Any]:
    table, _ = (block for block in section.blocks if isinstance(block, Table))
    place = [column.name for column in table.columns].index(name)
    return {str(row[0]): row[place] for row in table.rows}


@pytest.fixture(scope="module")
def found() -> Report:
    return judged(Patches(), *patched(16))


# --- controls -------------------------------------------------------------------------------------------------


def test_what_finds_the_planted_patch_is_told_apart_from_chance(found: Report) -> None:
    assert float(found["accuracy"]) == 1.0
    for key in ("integrated_gradients", "gradient_shap", "occlusion", "deeplift", "layercam", "lrp"):
        pointing, chance = (found[f"trust.{name}.pointing"] for name in (key, "random"))
        assert pointing.ci is not None
        assert pointing.ci[0] > 0.6
        assert pointing.n == 16
        assert float(chance) < 0.27
        assert float(found[f"trust.{key}.deletion"]) < float(found["trust.random.deletion"]) - 0.2
        assert float(found[f"trust.{key}.insertion"]) > float(found["trust.random.insertion"])
        assert float(found[f"trust.{key}.road"]) > float(found["trust.random.road"]) + 0.2
    passed = column(only(found), "Passed")
    for title in ("Integrated gradients", "Occlusion", "DeepLIFT", "LayerCAM"):
        assert "Pointing game" in passed[title]
        assert "Deletion" in passed[title]
    assert any("which of several objects" in sentence for sentence in only(found).findings)


def test_controls_point_by_chance_exactly(found: Report) -> None:
    for key in ("random", "edges", "centre"):
        assert float(found[f"trust.{key}.pointing"]) == pytest.approx(0.25)
        assert found[f"trust.{key}.pointing"].n == 16


def test_a_network_that_ignores_its_input_leaves_no_map_to_trust() -> None:
    images, _ = patched(8)
    section = only(judged(Blind(), images, torch.arange(8) % 4))
    passed = column(section, "Passed")
    applied = {key: value for key, value in passed.items() if not str(value).startswith("Not applicable")}
    assert len(applied) >= 13
    assert {value for key, value in applied.items() if "control" not in key} == {"none"}
    assert "no map is shown to be better" in section.findings[0]
    assert "In no test better" in section.findings[-1]
    assert set(column(section, "Infidelity").values()) == {None}  # no logit drops
    for result in section.results:
        if result.name.endswith(".road"):
            assert result.value == pytest.approx(0.0, abs=1e-9)
    assert "four classes" in note(section)


def test_noise_and_smooth_noise_pass_no_test() -> None:
    """Maps that know nothing, judged as if they were methods."""

    @dataclass(frozen=True)
    class Noise(RandomMap):
        key: ClassVar[str] = "noise"
        cells: int = SIDE

        def attribute(self, subject: AttributionSubject, images: Tensor, targets: Tensor) -> Tensor:
            coarse = torch.rand(1, 1, self.cells, self.cells, generator=generator(self.seed, "noise"))
            wide = nn.functional.interpolate(coarse, images.shape[-2:], mode="bilinear")
            return wide.expand(len(images), 1, -1, -1)

    images, labels = patched(12)
    bench, subject = (
        Bench(Patches().eval(), images, labels),
        prepare_attribution(Patches().eval(), images[:1]),
    )
    noise = [Noise(seed=seed, cells=cells) for seed in range(4) for cells in (SIDE, 5)]
    maps = [judge(m, subject, bench, None, lambda _: None) for m in (*noise, RandomMap(9), Edges(), Centre())]
    every = Verdicts(tuple(maps), 0)
    assert sum(len(every.passed(one)) for one in maps) == 0


def note(section: Section) -> str:
    block = section.blocks[0]
    assert isinstance(block, Note)
    assert block.tone == "warning"
    return block.text


# --- the section ----------------------------------------------------------------------------------------------


def test_the_section_has_what_it_promises(found: Report) -> None:
    section = only(found)
    assert [type(block) for block in section.blocks] == [Table, Table, Figure, Figure, Figure, Note]
    table, beaten = (block for block in section.blocks if isinstance(block, Table))
    assert all(column.help for block in (table, beaten) for column in block.columns)
    assert len(table.rows) == len(METHODS) + len(FURTHER) + 3
    for row in beaten.rows:
        passed = [column.name for column, cell in zip(beaten.columns, row, strict=True) if cell == "all"]
        assert ", ".join(passed) == column(section, "Passed")[str(row[0])].replace("none", "")
    road = [value for value in column(section, "ROAD").values() if value is not None]
    assert road == sorted(road, reverse=True)
    assert {len(figure.series) for figure in section.blocks if isinstance(figure, Figure)} == {2, 7}
    for result in section.results:
        _, method, test = result.name.split(".")
        assert result.n == 16
        assert result.ci is not None
        assert isinstance(result.value, float)
        assert result.ci[0] - 1e-9 <= result.value <= result.ci[1] + 1e-9
        assert (result.higher_is_better is None) == (test == "gini")
        assert method in {one.key for one in (*METHODS, *FURTHER, RandomMap(), Edges(), Centre())}
    stable = {r.name.split(".")[1] for r in section.results if r.name.endswith("sensitivity")}
    assert stable == {"gradient", "guided_backprop", "gradcam", "layercam"}


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    images = torch.rand(5, 3, 10, 10, generator=generator(4, "pixels"))
    net = SmallNet()
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    first, again, other = (
        {r.name: (r.value, r.ci) for r in only(judged(net, images, seed=seed)).results} for seed in (0, 0, 1)
    )
    assert first == again
    for key in ("random.deletion", "rise.deletion", "gradient.infidelity", "smoothgrad.gini"):
        assert first[f"trust.{key}"][0] != other[f"trust.{key}"][0]
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("channels", [1, 6])
def test_two_classes_any_number_of_channels_and_no_labels(channels: int) -> None:
    torch.manual_seed(1)  # with some weights no ReLU fires, and no map can be measured
    net = nn.Sequential(
        nn.Conv2d(channels, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    pixels = torch.rand(6, channels, 12, 13, generator=torch.Generator().manual_seed(0))
    labelled, blank = only(judged(net, pixels, torch.arange(6) % 2)), only(judged(net, pixels))
    assert labelled.reason == blank.reason == ""
    assert "four classes" in note(labelled)
    assert "labelled" in note(blank)
    for section in (labelled, blank):
        assert "Pointing game" not in [
            figure.title for figure in section.blocks if isinstance(figure, Figure)
        ]
        assert not any("pointing" in result.name for result in section.results)
        assert {result.n for result in section.results} <= {5, 6}


def test_fewer_than_five_images_are_too_few() -> None:
    assert "at least 5 images" in only(judged(SmallNet(), patched(4)[0])).reason


def test_without_a_backward_pass_the_methods_that_need_none_are_judged() -> None:
    net = OneWay().eval()
    before = fingerprint(net)
    section = only(judged(net, patched(6)[0]))
    assert fingerprint(net) == before
    passed = column(section, "Passed")
    refused = {title for title, value in passed.items() if str(value).startswith("Not applicable")}
    assert {"Gradient", "Integrated gradients", "GradCAM", "SmoothGrad", "LayerCAM"} <= refused
    assert isinstance(column(section, "ROAD")["Occlusion"], float)
    assert isinstance(column(section, "ROAD")["RISE"], float)


def test_progress_ends_where_it_was_announced_to_end() -> None:
    done: list[float] = []
    announced: list[float] = []

    class Recording:
        @contextmanager
        def task(self, label: str, total: float | None) -> Iterator[Advance]:
            if label != "Trust":
                yield lambda _units: None
                return
            assert total is not None
            announced.append(total)
            yield done.append

        def say(self, text: str) -> None:
            raise AssertionError(text)

    space = prepare(loaded(OneWay()), pictures(6), FiltersConfig(images=2), Recording())
    VIEWS.get("trust")(space)
    assert sum(done) == pytest.approx(announced[0])


def test_large_networks_get_coarser_options_and_fewer_images() -> None:
    model = loaded()
    texts = []
    for macs in (1, 10**9):
        space = prepare(replace(model, macs=macs), pictures(18), FiltersConfig(images=2), SILENT)
        section = VIEWS.get("trust")(space)
        last = section.blocks[-1]
        assert isinstance(last, Note)
        texts.append((section.summary, last.text))
    assert "16 images" in texts[0][0]
    assert "8 images" in texts[1][0]
    assert "RISE 256 masks" in texts[0][1]
    assert "RISE 64 masks" in texts[1][1]


def test_methods_and_references_name_the_tests(found: Report) -> None:
    assert any("control" in sentence for sentence in found.methods)
    assert any("Petsiuk" in work for work in found.references)
    assert any("Rong" in work for work in found.references)


# --- comparisons ----------------------------------------------------------------------------------------------


def one(method: Any, **values: Sequence[float]) -> JudgedMaps:
    return JudgedMaps(method, {key: np.array(value, dtype=float) for key, value in values.items()})


def verdicts(*methods: JudgedMaps) -> Verdicts:
    noise = generator(0, "values")
    base = torch.rand(8, generator=noise).tolist()
    low = [x / 100 for x in base]
    controls = [one(make(), road=low, deletion=low) for make in (RandomMap, Edges, Centre)]
    return Verdicts((*methods, *controls), 0)


def test_better_means_the_whole_paired_interval() -> None:
    steady = one(Gradient(), road=[0.5, 0.4, 0.6, 0.5, 0.5, 0.4, 0.6, 0.5], deletion=[0.5] * 8)
    wavering = one(IntegratedGradients(), road=[1.0, -0.9, 1.0, -0.9, 1.0, -0.9, 1.0, -0.9])
    worse = one(Occlusion(), road=[-0.5] * 8, deletion=[-0.5] * 8)
    every = verdicts(steady, wavering, worse)
    assert every.passed(steady) == (ROAD,)
    assert every.passed(wavering) == ()
    assert every.passed(worse) == (DELETION,)  # where less is better
    assert [control.method.title for control in every.equals(worse, ROAD)] == [
        "Random map",
        "Edge detector",
        "Blob in the middle",
    ]
    assert [j.method.key for j in every.sorted()[:1]] == ["gradient"]
    assert every.best(ROAD) == (steady,)
    assert every.best(INSERTION) == ()


def test_ties_are_those_that_the_best_is_not_shown_to_be_better_than() -> None:
    top = one(Gradient(), road=[0.9, 0.8, 0.9, 0.7, 0.9, 0.8, 0.9, 0.7])
    near = one(IntegratedGradients(), road=[0.8, 0.9, 0.8, 0.8, 0.7, 0.9, 0.9, 0.7])
    far = one(Occlusion(), road=[0.5, 0.4, 0.5, 0.3, 0.5, 0.4, 0.5, 0.3])
    assert verdicts(far, near, top).best(ROAD) == (top, near)


def test_equal_values_and_few_images_are_no_advantage() -> None:
    every = verdicts(one(Gradient(), road=[0.3] * 8))
    method, control = every.judged[:2]
    assert not every.better(method, method, ROAD)
    nan = float("nan")
    few = one(Gradient(), road=[0.9, 0.9, 0.9, 0.9, nan, nan, nan, nan])
    assert every.advantage(few, control, ROAD) is None
    assert not every.better(few, control, ROAD)
    assert every.advantage(method, control, POINTING) is None


def test_scores_leave_out_what_is_not_defined() -> None:
    nan = float("nan")
    assert MapScore.of(np.array([nan, nan]), 0) == MapScore(None, 0, None)
    few = MapScore.of(np.array([1.0, 3.0, nan]), 0)
    assert (few.value, few.n, few.ci) == (2.0, 2, None)
    score = MapScore.of(np.array([1.0, 2.0, 3.0, 4.0, 5.0, nan]), 0)
    assert (score.value, score.n) == (3.0, 5)
    assert score.ci is not None
    assert 1.0 <= score.ci[0] < 3.0 < score.ci[1] <= 5.0


def test_a_view_of_images_that_are_gone_is_refused_with_a_reason() -> None:
    space = prepare(loaded(), pictures(6), FiltersConfig(images=2), SILENT)
    with pytest.raises(NotApplicableError, match="at least 5 images"):
        VIEWS.get("trust")(
            replace(space, observed=replace(space.observed, indices=space.observed.indices[:3]))
        )
