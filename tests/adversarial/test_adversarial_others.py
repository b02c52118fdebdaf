"""Further networks of a run: how they see the images, and what is left of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from helpers.adversarial_networks import Stuck, batch
from helpers.adversarial_runs import NONE, QUICK, image_set, model_of, study
from torch import Tensor

from probe.core.state import fingerprint
from probe.data.images import ImageSet, InputSpec
from probe.models.loaded import LoadedModel
from studies.adversarial import ComparisonModels


@pytest.mark.parametrize("role", ["transfer", "against"])
def test_running_statistics_of_other_networks_are_kept(role: str) -> None:
    other = model_of(Stuck(), "other")
    before = fingerprint(other.module)
    config = dataclasses.replace(QUICK, attacks=("fgsm",), views=(role,), checks=NONE)
    study(config, others=ComparisonModels(**{role: (other,) if role == "transfer" else other}))  # type: ignore[arg-type]
    assert fingerprint(other.module) == before


@pytest.mark.parametrize("change", [{"crop": 0.5}, {"interpolation": "nearest"}])
def test_a_network_that_crops_otherwise_sees_its_own_crop(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """What it is shown differs by the perturbation from its own view, not by the other's picture."""
    shown: list[Tensor] = []
    plain = LoadedModel.logits

    def logits(self: LoadedModel, images: Tensor, batch_size: int = 32) -> Tensor:
        if self.name == "other":
            shown.append(images)
        return plain(self, images, batch_size)

    monkeypatch.setattr(LoadedModel, "logits", logits)
    other = dataclasses.replace(
        model_of(name="other"), input=dataclasses.replace(InputSpec((1, 8, 8), crop=1.0), **change)
    )
    images = _photographs()
    config = dataclasses.replace(QUICK, epsilons=(0.05,), attacks=("fgsm",), views=("transfer",), checks=NONE)
    report = study(config, images, others=ComparisonModels(transfer=(other,)))
    assert not report.sections[0].reason
    own, *moved = shown
    assert len(moved) == 2
    mine = torch.stack([images.get(i, model_of().input) for i in range(len(images))])
    assert float((own - mine[: len(own)]).abs().max()) > 0.1
    for attacked in moved:
        assert 0 < float((attacked - own).abs().max()) <= 0.05 + 1e-5


def _photographs() -> ImageSet:
    """Digits four times as large, which are cropped; what they show is of no matter."""
    small = image_set(6, labelled=False)

    def larger(index: int) -> Any:
        item = small.items[index]
        return dataclasses.replace(item, read=lambda: item.read().resize((37, 37)))

    assert len(batch(n=6)[0]) == 6
    return dataclasses.replace(small, items=[larger(i) for i in range(6)], framed=False)
