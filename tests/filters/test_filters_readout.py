"""The views of similarity and probes: positive controls, their controls, and what they refuse."""

from __future__ import annotations

import dataclasses
import itertools
import warnings

import numpy as np
import pytest
import torch
from helpers.adversarial_runs import image_set, model_of
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import probe
from probe.core import seeds
from probe.core.blocks import Figure, Table
from probe.core.document import Report, Section
from probe.core.errors import UsageError
from probe.core.progress import SILENT
from probe.models.loaded import LoadedModel
from studies.filters import FiltersConfig, run, study
from studies.filters.registries import VIEWS
from studies.filters.representations import represent
from studies.filters.study import prepare


class Blind(nn.Module):
    """Says the same about every image from its second layer on."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.blind = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 10, 1)
        with torch.no_grad():
            self.blind.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blind(self.first(x))).mean((2, 3))


def blind(name: str = "blind") -> LoadedModel:
    torch.manual_seed(0)
    return dataclasses.replace(model_of(Blind(), name), factory=Blind)


def section(report: Report, name: str) -> Section:
    return next(part for part in report.sections if part.id == name)


def test_they_are_made_only_where_they_are_named() -> None:
    optional = {name for name, entry in VIEWS.entries.items() if entry.optional}
    assert {"similarity", "probes"} <= optional
    made = [part.id for part in run(blind(), image_set(12), FiltersConfig(steps=1)).sections]
    assert not optional & set(made)
    everything = run(blind(), image_set(12), FiltersConfig(views=("all",), steps=1))
    assert {part.id for part in everything.sections} == {*VIEWS, "cards"}


def test_a_blind_layer_can_be_read_by_chance_only() -> None:
    images = image_set(100)
    report = run(blind(), images, FiltersConfig(views=("probes",), seed=3))
    found = {result.name: result for result in report.all_results}
    first, last = found["probes.first"], found["probes.blind"]
    assert first.n == last.n
    assert first.ci is not None
    assert last.ci is not None
    assert first.ci[0] > 0.5 > 0.3 > last.ci[1]
    figure = next(block for block in section(report, "probes").blocks if isinstance(block, Figure))
    assert [series.label for series in figure.series] == ["this network", "untrained", "shuffled labels"]
    # scikit-learn's own cross-validation of the same features gives the same number.
    features = represent(blind(), images, ["first"], 32, lambda _: None)
    labels = features.labels
    split = StratifiedKFold(5, shuffle=True, random_state=seeds.derive(3, "probes") % 2**32)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        scores = cross_val_score(classifier, features.layers["first"].astype(float), labels, cv=split)
        sizes = [len(test) for _, test in split.split(labels, labels)]
    assert first.value == pytest.approx(float(np.average(scores, weights=sizes)))
    check = next(check for check in section(report, "probes").checks)
    assert check.status == "pass"


def test_a_layer_that_only_mixes_channels_is_like_the_one_below() -> None:
    model = blind()
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        model.network.blind.weight.copy_(rotation[:, :, None, None])  # type: ignore[union-attr, operator]
    report = run(model, image_set(40), FiltersConfig(views=("similarity",)))
    found = {result.name: result for result in report.all_results}
    assert found["similarity.first|blind"].value == pytest.approx(1, abs=1e-5)
    heatmaps = [block for block in section(report, "similarity").blocks if isinstance(block, Figure)]
    assert len(heatmaps) == 2
    matrix = np.array(heatmaps[0].matrix)
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1)
    table = next(block for block in section(report, "similarity").blocks if isinstance(block, Table))
    assert [row[:2] for row in table.rows] == [("first", "blind"), ("blind", "last")]


class Mixing(nn.Module):
    """Two convolutions; ``mixed`` turns the channels of the second one by a rotation, which CKA does not see."""

    def __init__(self, mixed: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(1, 6, 3, bias=False)
        self.second = nn.Conv2d(6, 6, 3, stride=2, bias=False)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
            if mixed:
                rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
                self.second.weight.copy_(torch.einsum("ij,jkab->ikab", rotation, self.second.weight))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(self.second(self.first(x).relu()).mean((2, 3)), (0, 4))


def test_another_network_whose_channels_are_turned_has_the_same_layers() -> None:
    one, other = model_of(Mixing(), "plain"), model_of(Mixing(True), "turned")
    report = run(one, image_set(30), FiltersConfig(views=("similarity",)), against=other)
    similar = section(report, "similarity")
    rows = {
        row[0]: row
        for row in next(b for b in similar.blocks if isinstance(b, Table) and "turned" in b.title).rows
    }
    for layer in ("first", "second"):
        assert rows[layer][1] == layer
        assert rows[layer][2] == pytest.approx(1, abs=1e-5)
        assert report[f"similarity.against.{layer}"].value == rows[layer][2]
    crossed = next(b for b in similar.blocks if isinstance(b, Figure) and "turned" in b.title)
    assert crossed.matrix is not None
    assert crossed.matrix[0][1] == pytest.approx(crossed.matrix[1][0], abs=1e-5)
    assert crossed.matrix[0][1] < 0.99


def test_another_network_asks_for_the_view_that_compares() -> None:
    config = FiltersConfig(steps=1)
    made = run(blind(), image_set(12), config, against=model_of(Mixing(), "other"))
    assert {"similarity", "weights"} <= {part.id for part in made.sections}
    with pytest.raises(UsageError, match="similarity"):
        run(blind(), image_set(12), FiltersConfig(views=("weights",)), against=model_of(Mixing(), "other"))
    flat = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    flat(torch.zeros(1, 1, 8, 8))
    refused = run(
        blind(), image_set(12), FiltersConfig(views=("similarity",)), against=model_of(flat, "flat")
    )
    assert "flat has no layer" in section(refused, "similarity").reason


def test_a_blind_layer_is_like_nothing() -> None:
    report = run(blind(), image_set(20), FiltersConfig(views=("similarity",)))
    found = {result.name: result for result in report.all_results}
    assert found["similarity.first|blind"].value is None
    assert section(report, "similarity").findings == ()


@pytest.mark.parametrize(
    ("n", "labelled", "view", "said"),
    [
        (4, True, "similarity", "at least 5 images"),
        (8, False, "probes", "labelled"),
        (2, True, "probes", "two classes"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    n: int, labelled: bool, view: str, said: str
) -> None:
    report = run(blind(), image_set(n, labelled), FiltersConfig(views=(view,)))
    assert said in section(report, view).reason


@pytest.mark.parametrize("channels", [1, 6])
def test_two_classes_and_any_number_of_channels(channels: int) -> None:
    net = nn.Sequential(
        nn.Conv2d(channels, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    pixels = torch.rand(20, channels, 12, 12, generator=torch.Generator().manual_seed(0))
    pixels[:10] *= 0.3
    report = probe.filters(
        net, probe.images(pixels, torch.arange(20) // 10), views=["similarity", "probes"], batch_size=8
    )
    assert all(not part.reason for part in report.sections)
    assert float(report["probes.0"]) > 0.8
    assert any(
        "random weights" in text or "factory" in text or "untrained" in text.lower()
        for text in _notes(report)
    )


def _notes(report: Report) -> list[str]:
    return [str(block) for part in report.sections for block in part.blocks]


def test_the_time_of_optional_views_is_foretold_from_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 40)  # a pass of eight images takes 40 s, so that one takes 5 s
    monkeypatch.setattr(study.time, "perf_counter", lambda: float(next(clock)))
    space = prepare(blind(), image_set(12), FiltersConfig(views=("all",)), SILENT)
    always = sum(VIEWS.entries[name].passes[0] for name in ("stimuli", "similarity"))
    each = sum(VIEWS.entries[name].passes[1] for name in ("stimuli", "similarity"))
    minutes = round(5 * (always + 12 * each) / 60)
    assert minutes > 60
    assert f"2 views take about {minutes} minutes" in study._foretold(space, ["stimuli", "similarity"])
    assert "less than a minute" in study._foretold(space, [])
    assert all(any(entry.passes) for entry in VIEWS.entries.values())
