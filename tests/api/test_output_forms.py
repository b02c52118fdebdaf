"""The single tools on networks that return more than logits: as on the same network that returns them alone, which is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import probe
from probe.core.state import fingerprint

X = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3])

FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "dictionary": lambda features, logits: {"features": features, "logits": logits},
    "tuple": lambda features, logits: (logits, features[:, :, None]),
    "nested": lambda features, logits: {"out": {"pred": logits}, "features": features},
}


class Residual(nn.Module):
    def __init__(self, form: str = "") -> None:
        super().__init__()
        self.form = form
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.branch = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        features = (x + self.branch(x)).mean((2, 3))
        logits = self.head(features)
        return FORMS[self.form](features, logits) if self.form else logits


def twins(form: str) -> tuple[Residual, Residual]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        alone = Residual()
    other = Residual(form)
    other.load_state_dict(alone.state_dict())
    return alone, other


@pytest.mark.parametrize("form", FORMS)
def test_single_tools_pick_the_logits_out(form: str) -> None:
    alone, other = twins(form)
    before, kind = fingerprint(other), type(other)
    attack = probe.attacks.PGD(steps=3)
    assert torch.equal(attack(alone, X, Y, eps=0.1).images, attack(other, X, Y, eps=0.1).images)
    for method in ("integrated-gradients", "gradcam", "lrp"):
        assert torch.equal(probe.attribute(alone, X, Y, method), probe.attribute(other, X, Y, method)), method
    cuts = [probe.cut(net, "shortcut", example=X) for net in (alone, other)]
    pick = {
        "dictionary": lambda out: out["logits"],
        "tuple": lambda out: out[0],
        "nested": lambda out: out["out"]["pred"],
    }
    assert torch.equal(cuts[0](X), pick[form](cuts[1](X)))
    assert [site.name for site in probe.sites(other, "shortcut", example=X)] == ["add"]
    assert (fingerprint(other), type(other)) == (before, kind)
    assert other.training
    assert type(cuts[1](X)) is type(other(X))  # a cut network returns what the network returned


def test_an_output_that_could_be_either_is_asked_for() -> None:
    class Two(Residual):
        def forward(self, x: Tensor) -> Any:
            logits = super().forward(x)
            return logits, 2 * logits

    with pytest.raises(probe.ProbeError, match=r"could be logits .* output="):
        probe.attacks.PGD()(Two(), X, Y, eps=0.1)


def test_maps_are_no_logits() -> None:
    with pytest.raises(probe.ProbeError, match="segmentation"):
        probe.attribute(Residual().stem, X, Y)
