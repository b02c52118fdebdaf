"""Every family of the zoo goes through every study, and its digits recipe is one that trains it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from probe.data.load import load_images
from probe.graph.edit.truncate import truncate
from probe.models.load import load_model
from probe.models.source import ZOO
from studies import ablation, adversarial, filters
from studies.filters.registries import VIEWS
from tests.helpers.zoo_families import FAMILIES


def test_every_family_is_looked_at() -> None:
    """A family is a file; resnet's named depths are one."""
    files = {entry.module.rpartition(".")[2] for entry in ZOO.entries.values()}
    assert files == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs_through_every_study(family: str) -> None:
    structure, name = FAMILIES[family]
    images = load_images("digits", n=6)
    model = load_model(f"zoo:{name}", weights="none", num_classes=10, device="cpu", offline=True)
    looked = filters.run(model, images, filters.FiltersConfig(images=1, steps=1, channels=(0,)))
    assert len(looked.sections) == sum(not entry.optional for entry in VIEWS.entries.values())
    assert not any(section.reason for section in looked.sections), [s.reason for s in looked.sections]
    attacked = adversarial.run(
        model,
        images,
        adversarial.AdversarialConfig(epsilons=(0.05,), attacks=("fgsm",), views=("curve",), checks=()),
    )
    assert any(one.name.startswith("robust_accuracy") for one in attacked.all_results)
    cut = ablation.run(
        model, images, ablation.AblationConfig(remove=(structure,), mode="lesion", draws=1, max_sites=2)
    )
    assert not any(section.reason for section in cut.sections), [s.reason for s in cut.sections]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_digits(
    family: str, trained_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training happens when weights are asked for, and their provenance says what came of it."""
    monkeypatch.setenv("PROBE_CACHE", str(trained_digits))
    model = load_model(f"zoo:{family}", weights="digits", device="cpu", offline=True)
    images = load_images("digits")
    right = sum(
        int((model.logits(batch.images).argmax(1) == batch.labels).sum())
        for batch in images.batches(model.input, 128)
    )
    assert right / len(images) >= 0.97


SHARED = """
from torch import nn

class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_size = (1, 12, 12)
        self.conv = nn.Conv2d(1, 6, 3)
        self.relu = nn.ReLU()
        self.fc1 = nn.Linear(600, 8)
        self.fc2 = nn.Linear(8, 10)

    def forward(self, x):
        return self.fc2(self.relu(self.fc1(self.relu(self.conv(x)).flatten(1))))
"""
"""One ReLU behind a convolution and behind a dense layer, as many networks of users have it."""


def test_an_activation_shared_with_a_dense_layer_is_looked_at_as_a_map(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SHARED)
    model = load_model(f"{tmp_path / 'net.py'}:Shared", weights="none", device="cpu", offline=True)
    images = load_images("digits", n=4)
    config = filters.FiltersConfig(
        views=("activations", "features"), layers=("relu",), channels=(1,), steps=2
    )
    report = filters.run(model, images, config)
    assert [section.reason for section in report.sections] == ["", ""]
    example = torch.rand(1, 1, 12, 12)
    with torch.no_grad():
        maps = truncate(model.network, "relu", example)(example)
        assert torch.equal(maps, model.network.relu(model.network.conv(example)))  # type: ignore[operator]
