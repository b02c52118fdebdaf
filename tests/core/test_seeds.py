"""One seed, one result; the global generators are left alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from probe.core.seeds import derive, generator, scoped


def draws() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_streams_differ_by_key_and_repeat_by_seed() -> None:
    values = {derive(seed, *keys) for seed in (0, 1) for keys in ((), ("a",), ("b",), ("a", 1), ("a", "1x"))}
    assert len(values) == 10
    assert all(0 <= value < 2**63 for value in values)
    first = torch.rand(4, generator=generator(5, "x"))
    assert torch.equal(first, torch.rand(4, generator=generator(5, "x")))
    assert not torch.equal(first, torch.rand(4, generator=generator(5, "y")))


@pytest.mark.parametrize("fails", [False, True])
def test_scoped_restores_the_global_generators(fails: bool) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index,union-attr]
    try:
        with scoped(3, "weights"):
            inside = draws()
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # type: ignore[index]
    assert states[2] == random.getstate()
    with scoped(3, "weights"):
        assert draws() == inside
