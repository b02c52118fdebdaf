"""Certificates in the study: robust accuracy from both sides."""

from __future__ import annotations

import dataclasses

import pytest
from helpers.adversarial_runs import NONE, QUICK, model_of, study, value
from torch import Tensor, nn

from probe.core.errors import UsageError
from studies.adversarial import AdversarialConfig

SMALL = dataclasses.replace(
    QUICK,
    epsilons=(0.005, 0.02),
    views=None,
    checks=NONE,
    certify=("bounds?images=8", "smoothing?n=60&n0=20&images=4"),
)


def test_certified_accuracy_is_at_most_attacked_accuracy() -> None:
    report = study(SMALL)
    sections = {section.id: section for section in report.sections}
    table = sections["bounds"].blocks[1]
    for epsilon, certified, attacked, undecided, n, *_ in table.rows:
        assert 0 <= certified <= attacked <= n == 8, epsilon
        assert undecided == attacked - certified
    assert value(report, "certified_accuracy@0.005") > 0
    rows = sections["smoothing"].blocks[1].rows
    assert [row[3] for row in rows] == [4] * 5
    counts = [row[1] for row in rows]
    assert counts == sorted(counts, reverse=True)
    for _, certified, attacked, *_ in rows[1:]:
        assert certified <= attacked
    assert value(report, "smoothed_accuracy") == counts[0] / 4
    papers = " ".join(report.references)
    assert "Cohen" in papers
    assert "Hendrycks" in papers


def test_without_certify_nothing_is_certified() -> None:
    report = study(dataclasses.replace(SMALL, certify=()))
    assert not {"bounds", "smoothing"} & {section.id for section in report.sections}


class Squashed(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.squash = network, nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.squash(self.network(x))
        return logits


def test_a_network_without_bounds_and_a_target_say_why() -> None:
    config = dataclasses.replace(SMALL, certify=("bounds",), views=("bounds", "smoothing"))
    squashed = model_of(Squashed(model_of().network).eval())
    assert "Tanh" in study(config, model=squashed).sections[0].reason
    for section in study(dataclasses.replace(config, target="3")).sections:
        assert "target" in section.reason


def test_an_unknown_certificate_is_refused() -> None:
    with pytest.raises(UsageError, match="smoothing"):
        AdversarialConfig(certify=("smoothin",))
