"""When reduced precision is used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from probe.core import precision
from probe.core.precision import bf16_pays, fast_bf16


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
    assert bf16_pays(nn.Sequential(nn.Conv2d(4, 4, 3)), cpu)
    assert bf16_pays(nn.Sequential(nn.Conv2d(8, 8, 3, groups=2)), cpu)
    assert not bf16_pays(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), cpu)
    assert not bf16_pays(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)), cpu)
