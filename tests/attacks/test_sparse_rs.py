"""Sparse-RS on linear networks whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from probe.attacks.families.sparse_rs import SparseRS
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS


class OnePixel(nn.Module):
    """Grey images are of class 0 by 1; a pixel's change of 0.5 moves the margin by half of its weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weights = torch.full((16,), 0.1)
        self.weights[5] = weight
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.asked += len(x)
        score = 1 - (x.flatten(1) - 0.5) @ self.weights
        return torch.stack([score, torch.zeros_like(score)], 1)


@pytest.mark.parametrize(("norm", "epsilon"), [("L0", 1.0), ("L1", 0.5)])
@pytest.mark.parametrize(("weight", "broken"), [(2.5, True), (-2.5, True), (1.9, False)])
def test_the_one_pixel_that_matters_is_found_without_gradients(
    norm: str, epsilon: float, weight: float, broken: bool
) -> None:
    images, labels = torch.full((4, 1, 4, 4), 0.5), torch.zeros(4, dtype=torch.long)
    network = OnePixel(weight)
    draws = torch.Generator().manual_seed(0)
    moved = SparseRS(queries=300).perturb(AttackedModel(network), images, labels, NORMS[norm], epsilon, draws)
    assert network.asked <= 300 * 4
    assert (NORMS[norm].size(moved - images) <= epsilon + 1e-6).all()
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    with torch.no_grad():
        assert (network(moved).argmax(1) == 1).tolist() == [broken] * 4
    # The best that one change can do, also where it breaks nothing.
    assert torch.equal((moved - images).flatten(1).abs().argmax(1), torch.full((4,), 5))


def test_every_pixel_may_be_chosen() -> None:
    images, labels = torch.full((2, 3, 2, 2), 0.5), torch.tensor([0, 0])
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    for norm, epsilon in (("L0", 9.0), ("L1", 100.0), ("L1", 0.1)):
        moved = SparseRS(queries=5).perturb(
            AttackedModel(network), images, labels, NORMS[norm], epsilon, torch.Generator().manual_seed(0)
        )
        assert (NORMS[norm].size(moved - images) <= epsilon + 1e-6).all()
