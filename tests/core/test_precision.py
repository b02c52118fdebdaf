"""When reduced precision is used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from probe.core import precision
from probe.core.precision import accepts_bf16, bf16_pays, fast_bf16
from probe.core.state import fingerprint


def test_fast_bf16_is_a_question_of_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not fast_bf16(cpu)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert fast_bf16(cpu)
    assert not fast_bf16(torch.device("mps"))


def test_convolutions_of_tiny_groups_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_bf16", lambda device: True)
    cpu = torch.device("cpu")
    assert bf16_pays(nn.Sequential(nn.Conv2d(4, 4, 3)), cpu, (4, 8, 8))
    assert bf16_pays(nn.Sequential(nn.Conv2d(8, 8, 3, groups=2)), cpu, (8, 8, 8))
    assert not bf16_pays(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), cpu, (4, 8, 8))
    assert not bf16_pays(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)), cpu, (8, 8, 8))


class _Scattering(nn.Module):
    """Adds its maps into a float32 tensor of its own, which autocast cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.conv(x))
        return torch.zeros(maps.shape).scatter_add(1, torch.zeros(maps.shape, dtype=torch.long), maps)


def test_a_network_that_mixes_types_under_autocast_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_bf16", lambda device: True)
    network, plain = _Scattering().train(), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = fingerprint(network), fingerprint(plain), torch.get_rng_state()
    assert not accepts_bf16(network, (3, 8, 8))
    assert not bf16_pays(network, torch.device("cpu"), (3, 8, 8))
    assert accepts_bf16(plain, (3, 8, 8))
    assert (fingerprint(network), fingerprint(plain)) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
