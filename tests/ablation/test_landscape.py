"""The loss around trained weights: a linear network in numpy, scale invariance, shared directions, and what is put back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import ablation_networks as nets
from scipy.special import logsumexp
from torch import Tensor, nn

from probe.core.state import fingerprint
from studies.ablation.arms import Arm, from_arrays, to_arrays, train_arm
from studies.ablation.landscape import direction, landscape, rise, steps
from tests.ablation.test_retrain import setting

LABELS = torch.tensor([0, 2, 1, 2])


def pixels(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_every_filter_of_a_direction_has_the_norm_of_the_weights() -> None:
    network = nets.Residual()
    found = direction(network, 3, 0)
    parameters = dict(network.named_parameters())
    assert set(found) == {name for name, value in parameters.items() if value.dim() > 1}
    for name, change in found.items():
        np.testing.assert_allclose(
            change.flatten(1).norm(dim=1), parameters[name].detach().flatten(1).norm(dim=1), rtol=1e-5
        )
        other = direction(network, 3, 1)[name].flatten()
        cosine = float(change.flatten() @ other / change.norm() / other.norm())
        assert abs(cosine) < 5 / np.sqrt(change.numel())


def test_networks_that_share_a_layer_share_its_directions() -> None:
    first, second = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)), nn.Sequential(nn.Conv2d(3, 4, 3))
    one, other = direction(first, 0, 0)["0.weight"], direction(second, 0, 0)["0.weight"]
    one, other = one.flatten(1), other.flatten(1)
    np.testing.assert_allclose(
        one / one.norm(dim=1, keepdim=True), other / other.norm(dim=1, keepdim=True), rtol=1e-5, atol=1e-7
    )


def test_the_landscape_of_a_linear_network_in_numpy() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    images = pixels(4, 3, 2, 2)
    before = fingerprint(network)
    found = landscape(network, images, LABELS, 5, points=5)
    assert fingerprint(network) == before
    weights, bias = (value.detach().double().numpy() for value in network[1].parameters())
    first, second = (direction(network, 5, which)["1.weight"].double().numpy() for which in (0, 1))
    flat = images.flatten(1).double().numpy()
    for row, down in enumerate(np.linspace(-1, 1, 5)):
        for column, across in enumerate(np.linspace(-1, 1, 5)):
            logits = flat @ (weights + across * first + down * second).T + bias
            loss = (logsumexp(logits, axis=1) - logits[np.arange(4), LABELS.numpy()]).mean()
            assert found[row, column] == pytest.approx(loss, rel=1e-5)


def test_the_scale_of_weights_before_a_norm_does_not_matter() -> None:
    def network(scale: float) -> nn.Module:
        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-12), nn.Flatten(), nn.Linear(16, 3)
        )
        made.train()(pixels(8, 3, 4, 4))
        with torch.no_grad():
            made[0].weight.mul_(scale)
            made[1].running_mean.mul_(scale)
            made[1].running_var.mul_(scale**2)
        return made

    images = pixels(4, 3, 4, 4)
    plain, scaled = (landscape(network(scale), images, LABELS, 1, points=3) for scale in (1.0, 64.0))
    np.testing.assert_allclose(plain, scaled, rtol=1e-4)


def test_the_rise_is_the_mean_within_the_reach() -> None:
    x = steps(11)
    bowl = 2 + x[:, None] ** 2 + x[None] ** 2
    near = [a**2 + b**2 for a in x for b in x if np.hypot(a, b) <= 0.5 + 1e-9]
    assert rise(bowl) == pytest.approx(np.mean(near))
    assert rise(np.full((5, 5), 3.0)) == 0
    bowl[5, 6] = np.inf
    assert rise(bowl) == np.inf


def test_weights_are_put_back_after_an_exception_and_a_loss_that_is_not_finite_is_infinite() -> None:
    class Failing(nn.Module):
        def __init__(self, fails: bool) -> None:
            super().__init__()
            self.fc, self.calls, self.fails = nn.Linear(4, 3), 0, fails

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.fails and self.calls == 3:
                raise RuntimeError("no")
            return self.fc(x) * (float("nan") if self.calls == 2 else 1.0)

    network = Failing(True)
    kept = network.fc.weight.detach().clone()
    with pytest.raises(RuntimeError, match="no"):
        landscape(network, pixels(4, 4), LABELS, 0, points=3)
    assert torch.equal(network.fc.weight, kept)
    found = landscape(Failing(False), pixels(4, 4), LABELS, 0, points=3)
    assert found[0, 1] == np.inf
    assert np.isfinite(found).sum() == 8


def test_an_arm_has_its_landscape_and_keeps_it_in_the_journal() -> None:
    trained = train_arm((setting(also=("landscape",)), Arm(("shortcut",), seed=0)))
    assert trained.landscape.shape == (11, 11)
    assert np.array_equal(from_arrays(to_arrays(trained)).landscape, trained.landscape)
    assert train_arm((setting(), Arm((), seed=0))).landscape.size == 0
