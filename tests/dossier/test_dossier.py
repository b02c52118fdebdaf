"""What a dossier measures, against hooks, closed forms and scipy; and which layer it measures it on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.filters_models import pictures
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from probe.core.document import Check, Report
from probe.core.errors import UsageError
from probe.core.progress import SILENT
from probe.core.seeds import generator
from probe.core.stats import holm
from probe.core.subject import DataInfo, ModelInfo
from probe.graph.edit.cut import find_sites
from probe.graph.edit.structure import get_structure
from probe.graph.trace.layers import ConvolutionInfo
from probe.models.load import load_model
from probe.models.loaded import LoadedModel
from probe.report.assemble import assemble
from probe.tools.dossier import run
from probe.tools.dossier.choose import (
    DossierChoice,
    DossierConfig,
    automatic,
    choose_layers,
    present_structures,
)
from probe.tools.dossier.correlations import correlations, correlations_section, detectable
from probe.tools.dossier.count_checks import checks, count_checks, in_words
from probe.tools.dossier.measure import (
    CLEAN_LOSS_INCREASE,
    OUTCOMES,
    AttackedImages,
    Channels,
    Lesion,
    frequencies,
    lesions,
    relative_change,
)
from probe.tools.dossier.sections import _findings as channel_findings
from probe.tools.dossier.sections import sites_section
from studies.ablation.evaluate import Answers, Comparison, subject_of
from studies.ablation.evaluate import compare as compare_answers
from studies.adversarial.registries import CHECKS

NETWORK = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.bn(self.conv(x)))

def net(num_classes=3):
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), Block(6), Block(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, num_classes),
    )
    network.input_size = (3, 16, 16)
    return network
"""


@pytest.fixture
def model(tmp_path, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    return load_model("net.py:net", weights="none", mean=(0.5,), std=(0.5,), device="cpu", offline=True)


@pytest.mark.slow
def test_two_processes_relate_what_one_process_relates(model: LoadedModel) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        images = pictures(24, labels=[i % 3 for i in range(24)])
        here, there = (
            run(model, images, DossierConfig(quick=True, batch_size=8, jobs=jobs)) for jobs in (1, 2)
        )
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(
        (here.report, *here.parts.values()), (there.report, *there.parts.values()), strict=True
    ):
        assert repr([(r.name, r.value, r.ci) for r in one.all_results]) == repr(
            [(r.name, r.value, r.ci) for r in other.all_results]
        )
        assert repr(one.samples) == repr(other.samples)
    assert len(here.report.all_results) > 3


def test_a_lesion_is_what_a_hook_makes_of_it(model: LoadedModel) -> None:
    draws = generator(0, "dossier test")
    clean, hit = (torch.rand(5, 3, 16, 16, generator=draws) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 0, 1])
    subject = subject_of(model)
    sites = [s for s in find_sites(subject, get_structure("filter")) if s.name in ("0:1", "0:4")]
    found = lesions(model, subject, sites, AttackedImages(clean, hit, labels, 0.1, 2), 2, SILENT, "filters")
    assert [one.site for one in found] == ["0:1", "0:4"]

    def loss(images: Tensor, channel: int | None) -> float:
        def silence(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, channel] = 0
            return output

        handle = (
            model.network.get_submodule("1").register_forward_hook(silence) if channel is not None else None
        )
        with torch.no_grad():
            value = F.cross_entropy(model.module(images).double(), labels)
        if handle is not None:
            handle.remove()
        return float(value)

    for one, channel in zip(found, (1, 4), strict=True):
        assert one.clean.loss_change == pytest.approx(loss(clean, channel) - loss(clean, None), abs=1e-6)
        assert one.attacked.loss_change == pytest.approx(loss(hit, channel) - loss(hit, None), abs=1e-6)
    assert found[0].clean.loss_change != found[0].attacked.loss_change


def test_frequencies_are_those_of_stripes() -> None:
    flat = torch.ones(1, 1, 7, 7)
    coarse, fine = (
        torch.cos(2 * math.pi * f * torch.arange(7.0)).expand(7, 7)[None, None] for f in (0.25, 0.5)
    )
    single = torch.zeros(1, 1, 7, 7)
    single[0, 0, 3, 3] = 2.0
    found = frequencies(torch.cat([flat, coarse, fine, single, torch.zeros(1, 1, 7, 7)]))
    assert found[0] < found[1] < found[2]
    assert found[1] == pytest.approx(0.25, abs=0.06)
    # A single pixel has all frequencies in equal parts: the mean radius over the spectrum's square.
    axis = np.fft.fftfreq(32)
    assert found[3] == pytest.approx(np.hypot(axis[:, None], axis[None, :]).mean())
    assert math.isnan(found[4])


def test_the_relative_change_is_a_ratio_of_lengths() -> None:
    clean = torch.zeros(2, 3, 1, 2)
    attacked = clean.clone()
    clean[0, 0], attacked[0, 0] = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0])
    clean[1, 1], attacked[1, 1] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    expected = torch.tensor([[0.2, 0, 0], [0, math.sqrt(2), 0]], dtype=torch.float64)
    torch.testing.assert_close(relative_change(clean, attacked), expected)


def convolution(name: str, channels: int, kernel: int = 3, groups: int = 1) -> ConvolutionInfo:
    return ConvolutionInfo(name, nn.Conv2d(groups, channels, kernel, groups=groups), (channels, 8, 8))


def test_the_layer_is_the_last_that_can_be_measured_whole() -> None:
    stem, middle, late = convolution("stem", 16), convolution("middle", 32), convolution("late", 64)
    pointwise, depthwise = convolution("pointwise", 32, 1), convolution("depthwise", 32, 3, 32)
    assert automatic([stem, middle, late], 32) is middle
    assert automatic([stem, depthwise, pointwise, late], 32) is stem
    assert automatic([depthwise, pointwise, late], 32) is depthwise
    assert automatic([pointwise, late], 32) is pointwise
    assert automatic([convolution("tiny", 4), convolution("huge", 512), late], 32) is late
    assert automatic([convolution("tiny", 4), convolution("small", 8)], 32).name == "small"


def test_wanted_layers_may_hold_the_convolution(model: LoadedModel) -> None:
    (chosen,) = choose_layers(model, ("2",), 4)
    assert (chosen.name, chosen.answers, chosen.total) == ("2.conv", "2.bn", 6)
    assert chosen.channels == (0, 2, 3, 5)
    with pytest.raises(UsageError, match="no convolution 'head'"):
        choose_layers(model, ("head",), 4)
    assert present_structures(subject_of(model)) == ("block", "shortcut")


def channels(measures: dict[str, np.ndarray]) -> Channels:
    n = len(next(iter(measures.values())))
    return Channels(DossierChoice(convolution("conv", n), "conv", tuple(range(n))), (), measures)


def test_correlations_are_spearmans_with_holms_correction() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=24)
    looks = {"filter norm": base + 0.05 * rng.normal(size=24), "mean maximum activation": np.ones(24)}
    measures = {name: rng.normal(size=24) for name in OUTCOMES} | looks
    measures[OUTCOMES[0]] = base**3
    found = {(one.first, one.second): one for one in correlations([channels(measures)], 0)}
    assert len(found) == 3 + 3, "one of equal values has no correlation"
    for (first, second), one in found.items():
        assert one.value == pytest.approx(spearmanr(measures[first], measures[second]).statistic)
        assert one.ci[0] <= one.value <= one.ci[1]
        assert one.p <= one.corrected <= 1
    strong = found[OUTCOMES[0], "filter norm"]
    assert strong.significant
    assert strong.corrected == pytest.approx(6 * strong.p)
    assert sum(one.significant for one in found.values()) == 1
    again = correlations([channels(measures)], 0)
    assert again == tuple(found.values())
    section = correlations_section(again, [channels(measures)])
    assert "1 of 6 rank correlations" in section.findings[0]


@pytest.mark.parametrize("n", [8, 32])
def test_detectable_is_where_the_test_turns(n: int) -> None:
    least = detectable(n)
    rng = np.random.default_rng(1)
    x = rng.normal(size=n)
    x = (x - x.mean()) / np.linalg.norm(x - x.mean())
    y = rng.normal(size=n)
    y -= y.mean()
    y -= (y @ x) * x
    y /= np.linalg.norm(y)
    for shift, significant in ((0.01, True), (-0.01, False)):
        r = least + shift
        assert (pearsonr(x, r * x + math.sqrt(1 - r * r) * y).pvalue < 0.05) == significant
    assert detectable(n, 20) > least
    assert detectable(2) == 1.0


def report_with(*statuses: str, study: str = "adversarial") -> Report:
    made = tuple(Check(f"check {i}", status, None, "") for i, status in enumerate(statuses))  # type: ignore[arg-type]
    model, data = ModelInfo("net", "", "", None, 1, None, (1, 2, 2), 2, ""), DataInfo("d", 1, 1, True)
    return assemble(
        study=study,
        title="",
        model=model,
        data=data,
        config={},
        seconds=0,
        headline=(),
        sections=(),
        checks=made,
    )


def test_checks_are_counted_and_never_praised() -> None:
    total = len(CHECKS.names())
    every = count_checks("adversarial", report_with(*["pass"] * total))
    assert every.status == "pass"
    assert every.text == f"none of the {total} checks found a fault"
    some = count_checks("adversarial", report_with("pass", "pass", "not applicable"))
    assert (some.made, some.total) == (2, total)
    assert some.text == (
        f"none of the 2 checks found a fault; {total - 2} of {total} were not made or not applicable"
    )
    none = count_checks("adversarial", report_with())
    assert (none.status, none.text) == ("warn", f"none of the {total} checks was made")
    bad = count_checks("ablation", report_with("pass", "fail", "warn"))
    assert bad.status == "fail"
    assert bad.text == "of 3 checks, 1 failed (check 1) and 1 gave a warning (check 2)"
    filters = count_checks("filters", report_with())
    assert (filters.status, filters.text) == ("not applicable", "there are no checks for this run")
    parts = {"filters": report_with(), "adversarial": report_with(), "ablation": report_with("pass")}
    texts = [in_words(parts), *(check.detail for check in checks(parts))]
    assert not any(word in text.lower() for text in texts for word in ("reliable", "trusted"))
    assert "adversarial, none of the" in texts[0]


def site(name: str, clean: int, attacked: int, n: int = 20) -> Lesion:
    def against(correct: int) -> Comparison:
        answers = [
            Answers(np.array([0] * right + [1] * (n - right)), np.full(n, 1.0)) for right in (18, correct)
        ]
        return compare_answers(*answers, np.zeros(n, dtype=np.int64))

    return Lesion(name, against(clean), against(attacked))


def test_the_site_with_the_lowest_accuracy_has_its_p_and_its_ties() -> None:
    images = AttackedImages(torch.zeros(20, 1), torch.zeros(20, 1), torch.zeros(20), 0.1, 9)
    three = (site("a", 6, 10), site("b", 17, 17), site("c", 10, 6))
    (text,) = sites_section({"block": three}, images, True).findings
    assert "Of 3 sites" in text
    assert "without block a, as without 1 other of them" in text
    p = holm([one.p for lesion in three for one in (lesion.clean, lesion.attacked)])[0]
    assert f"−60.0 points (p = {p:.2g} after Holm)" in text
    assert "not tested" in text
    (single,) = sites_section({"block": three[:2]}, images, True).findings
    assert "as without" not in single


def test_channels_that_share_the_largest_value_are_told() -> None:
    measures = {name: np.array([0.1, 0.5, 0.5, 0.2]) for name in OUTCOMES}
    measures[CLEAN_LOSS_INCREASE] = np.array([-0.1, 0.0, -0.2, -0.3])
    (text,) = channel_findings(channels(measures))
    assert "2 channels, such as 1" in text
    assert "silencing none of them increases the clean loss" in text
