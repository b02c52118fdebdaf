"""A view or a check that fails is reported in its place; the rest of the report is made, and nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

import probe
from probe.cli import main as cli
from probe.core.progress import SILENT
from studies.adversarial.registries import CHECKS
from studies.base import run_checks, run_views

PIXELS = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def fails(*_: Any) -> Any:
    raise RuntimeError("planted trouble\nmore lines")


def model() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
    return probe.wrap(network, mean=0, std=1, input_size=(1, 8, 8))


def test_a_view_that_fails_stands_in_its_place() -> None:
    (section,) = run_views([("activations", fails)], None, 0, SILENT, "views")
    assert section.failed
    assert "RuntimeError: planted trouble (test_failing_parts.py, line" in section.reason
    assert "more lines" not in section.reason


def test_a_check_that_fails_is_a_warning() -> None:
    (check,) = run_checks([("batch-dependence", fails)], None, SILENT)
    assert (check.name, check.status) == ("Batch dependence", "warn")
    assert "planted trouble" in check.detail


def test_the_rest_of_the_report_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from studies.filters.views import activations

    monkeypatch.setattr(activations, "standout", fails)
    report = probe.filters(model(), PIXELS, views=["weights", "activations"])
    assert report.status == "incomplete"
    assert [section.failed for section in report.sections] == [False, True]
    assert any("failed and is missing" in warning for warning in report.warnings)
    assert report["weights.0.near_duplicates"].n == 4


def test_the_exit_code_is_4_and_the_results_say_incomplete(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studies.filters.views import activations

    monkeypatch.setattr(activations, "standout", fails)
    monkeypatch.chdir(tmp_path)
    words = "filters -m zoo:lenet --weights none -d digits -n 4 --views weights,activations -q --offline --out out"
    assert cli.run(words.split()) == 4
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["status"] == "incomplete"
    assert "planted trouble" in " ".join(results["warnings"])


def test_a_failing_check_keeps_an_evaluation_from_being_called_reliable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from studies.adversarial.checks import zero_epsilon

    monkeypatch.setattr(zero_epsilon, "_fixed_attacks", fails)
    labels = model().logits(PIXELS).argmax(1)
    report = probe.adversarial(model(), (PIXELS, labels), eps=0.05, attacks="pgd", views=["curve"])
    assert len(report.checks) == len(CHECKS.names())
    assert [check.name for check in report.checks if "could not be made" in check.detail] == ["Zero epsilon"]
    assert report.verdict.word != "Reliable"
