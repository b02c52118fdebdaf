"""Threat models in the report of the adversarial study."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.filters_models import loaded, pictures

import probe
from probe.core.blocks import Figure, Gallery, Note
from probe.core.errors import UsageError
from probe.core.stats import wilson
from studies.adversarial import AdversarialConfig, run


def options(**more: object) -> AdversarialConfig:
    chosen = {"attacks": ("fgsm",), "views": ("threats",), "checks": (), "epsilons": (0.05,), **more}
    return AdversarialConfig(**chosen)  # type: ignore[arg-type]


def test_every_threat_has_its_curve_and_its_control() -> None:
    threats = (
        "spatial?rotations=5&shifts=3",
        "colour?hues=5&saturations=3",
        "universal?steps=3",
        "patch?steps=3",
    )
    report = run(loaded(), pictures(10), options(threats=threats))
    (section,) = report.sections
    assert not section.reason
    figures = [block for block in section.blocks if isinstance(block, Figure)]
    assert len(figures) == 4
    for figure, n in zip(figures, (10, 10, 5, 5), strict=True):
        worst, control = figure.series
        assert list(worst.y) == sorted(worst.y, reverse=True)
        assert worst.y[0] == control.y[0]
        for line in (worst, control):
            for share, low, high in zip(line.y, line.low, line.high, strict=True):
                assert (low, high) == pytest.approx(wilson(round(share * n), n))
    names = {result.name: result for result in section.results}
    robust = report.results[0].name
    assert names[f"{robust}:spatial@1"].n == 10
    assert {name.partition("@")[0].partition(":")[2] for name in names} == {
        "spatial",
        "colour",
        "universal",
        "patch",
    }
    assert all(gallery.strips for gallery in section.blocks if isinstance(gallery, Gallery))


def test_what_does_not_apply_is_told_and_the_rest_is_measured() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    pixels = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    given = {"attacks": ["fgsm"], "views": ["threats"], "checks": [], "eps": 0.1}
    data = probe.images(pixels, torch.arange(6) % 2)
    both = probe.adversarial(net, data, threats=["colour", "spatial?rotations=3&shifts=1"], **given)
    notes = [block.text for block in both.sections[0].blocks if isinstance(block, Note)]
    assert len(notes) == 1
    assert "three channels" in notes[0]
    assert any(result.name.startswith("robust_accuracy:spatial@") for result in both.all_results)
    alone = probe.adversarial(net, data, threats=["colour"], **given)
    assert "three channels" in alone.sections[0].reason


def test_targeted_runs_count_only_what_reaches_the_target() -> None:
    report = run(loaded(), pictures(10), options(target="0", threats=("spatial?rotations=5&shifts=3",)))
    values = [result.value for result in report.sections[0].results]
    assert values
    assert all(isinstance(value, float) and math.isfinite(value) for value in values)


def test_a_run_without_threats_has_no_such_section_and_bad_names_are_refused() -> None:
    report = run(loaded(), pictures(4), options(views=None, attacks=("fgsm",)))
    assert "threats" not in {section.id for section in report.sections}
    with pytest.raises(UsageError, match="spatial"):
        options(threats=("spatail",))
