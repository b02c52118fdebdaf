"""The nearest linearised boundary against the Jacobian of all classes, and how many gradients it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probe.attacks.linearised import NearestBoundary
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS
from probe.core.seeds import scoped

CLASSES, SIDE, N = 7, 3, 12
DUAL = {"Linf": 1, "L2": 2, "L1": np.inf}


def network(layers: int) -> nn.Module:
    with scoped(1):
        hidden = [part for _ in range(layers) for part in (nn.Linear(SIDE * SIDE, SIDE * SIDE), nn.Tanh())]
        module = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(SIDE * SIDE, CLASSES)).double()
    return module.eval().requires_grad_(False)


def pixels(seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(N, 1, SIDE, SIDE, generator=draws, dtype=torch.float64)


def by_jacobian(
    module: nn.Module, x: Tensor, labels: Tensor, norm: str
) -> list[tuple[float, NDArray[np.float64]]]:
    """For each image, the deficit and the normal of the other class with the least |gap| over the dual norm."""
    found = []
    for image, label in zip(x, labels.tolist(), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: module(v[None])[0], image).flatten(1).numpy()
        logits = module(image[None])[0].numpy()
        options = []
        for other in set(range(CLASSES)) - {label}:
            normal, gap = jacobian[other] - jacobian[label], logits[label] - logits[other]
            options.append((abs(gap) / np.linalg.norm(normal, DUAL[norm]), gap, normal))
        _, gap, normal = min(options, key=lambda option: option[0])
        found.append((float(gap), normal))
    return found


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_at_every_step_it_is_the_nearest_of_all_classes(norm: str, layers: int) -> None:
    module = network(layers)
    model = AttackedModel(module)
    nearest = NearestBoundary(model, N, NORMS[norm], None)
    x = pixels(0)
    labels = module(x).argmax(1)
    where = torch.arange(N)
    with torch.enable_grad():
        for step in range(4):
            deficit, normal = nearest(x, labels[where], module(x), where)
            for row, (gap, direction) in enumerate(by_jacobian(module, x, labels[where], norm)):
                # The wrapper of attacks returns float32 logits.
                assert float(deficit[row]) == pytest.approx(gap, rel=1e-5)
                np.testing.assert_allclose(normal[row].numpy(), direction, rtol=1e-5, atol=1e-7)
            # Some images leave, and the others move on a little.
            where, x = where[step % 2 :], x[step % 2 :] + 0.01 * pixels(step + 1)[step % 2 + N - len(x) :]


def test_later_steps_take_fewer_gradients_than_there_are_classes() -> None:
    module = network(2)
    model = AttackedModel(module)
    nearest = NearestBoundary(model, N, NORMS["L2"], None)
    x, where = pixels(0), torch.arange(N)
    labels = module(x).argmax(1)
    with torch.enable_grad():
        nearest(x, labels, module(x), where)
        assert model.gradients == N  # one pass for all classes
        nearest(x + 0.001, labels, module(x + 0.001), where)
    assert N <= model.gradients - N < (CLASSES - 1) * N / 2


def test_only_the_candidates_count_and_a_network_without_gradients_has_no_boundary() -> None:
    module = network(0)
    x, where = pixels(0), torch.arange(N)
    logits = module(x)
    labels = logits.argmax(1)
    second = logits.topk(2, 1).indices[:, 1]
    with torch.enable_grad():
        deficit, _ = NearestBoundary(AttackedModel(module), N, NORMS["L2"], 1)(x, labels, logits, where)
        gaps = logits.gather(1, labels[:, None]) - logits.gather(1, second[:, None])
        torch.testing.assert_close(deficit, gaps[:, 0])

        class Constant(nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                return module(images.detach())

        nearest = NearestBoundary(AttackedModel(Constant()), N, NORMS["L2"], None)
        for _ in range(2):
            deficit, normal = nearest(x, labels, logits, where)
            assert not deficit.any()
            assert not normal.any()
