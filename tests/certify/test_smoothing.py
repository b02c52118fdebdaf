"""Randomised smoothing against its closed form: of a linear classifier the radius is the distance to its boundary."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.stats import beta, norm
from torch import Tensor

from probe.certify.options import Smoothing, parse_certificates
from probe.certify.smoothing import ABSTAINED, attacked, certificate, clopper_pearson_lower, predict, votes
from probe.core.errors import UsageError

WEIGHT = torch.tensor([3.0, -4.0, 0.0, 0.0]).view(1, 2, 2)  # of length 5


def linear(offset: float) -> Callable[[Tensor], Tensor]:
    """Two classes, the second one where the weight's product is above ``offset``."""

    def logits(x: Tensor) -> Tensor:
        score = (x * WEIGHT).flatten(1).sum(1) - offset
        return torch.stack([-score, score], 1)

    return logits


IMAGE = torch.full((1, 2, 2), 0.5)
DISTANCE = 0.1
"""From the image to the boundary of ``linear(-1)``: (3 · 0.5 − 4 · 0.5 + 1) / 5."""


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.5])
def test_the_radius_approaches_the_distance_to_the_boundary_from_below(sigma: float) -> None:
    options = Smoothing(sigma=sigma, n=20_000, batch=5000)
    found = certificate(linear(-1.0), IMAGE, options, draws())
    share = norm.cdf(DISTANCE / sigma)
    # Four standard errors and the width of the limit at alpha = 0.001.
    loss = 8 * (share * (1 - share) / options.n) ** 0.5 + 1e-3
    assert found.answer == 1
    assert sigma * norm.ppf(share - loss) <= found.radius <= DISTANCE


def test_votes_have_the_normal_distribution() -> None:
    counts = votes(linear(-1.0), IMAGE, Smoothing(sigma=0.1, batch=3000), 10_000, draws(1))
    share = norm.cdf(1.0)
    assert int(counts.sum()) == 10_000
    assert abs(int(counts[1]) / 10_000 - share) < 4 * (share * (1 - share) / 10_000) ** 0.5


def test_on_the_boundary_the_answer_is_withheld() -> None:
    options = Smoothing(sigma=0.1, n=1000)
    assert certificate(linear(-0.5), IMAGE, options, draws()).answer == ABSTAINED
    assert predict(linear(-0.5), IMAGE, options, draws()) == ABSTAINED
    assert predict(linear(-1.0), IMAGE, options, draws()) == 1


@pytest.mark.parametrize(("successes", "n", "alpha"), [(0, 10, 0.05), (7, 10, 0.05), (990, 1000, 0.001)])
def test_the_limit_is_that_of_the_beta_distribution(successes: int, n: int, alpha: float) -> None:
    exact = 0.0 if successes == 0 else beta.ppf(alpha, successes, n - successes + 1)
    assert clopper_pearson_lower(successes, n, alpha) == pytest.approx(exact, abs=1e-9)
    assert clopper_pearson_lower(n, n, alpha) == pytest.approx(alpha ** (1 / n))


def test_the_attack_walks_straight_to_the_boundary() -> None:
    options = Smoothing(sigma=0.1)
    for epsilon in (0.08, 0.12):
        moved = attacked(linear(-1.0), IMAGE, 1, epsilon, options, draws())
        delta = moved - IMAGE
        assert float(delta.norm()) == pytest.approx(epsilon, rel=1e-4)
        assert torch.allclose(delta, -epsilon * WEIGHT / 5, atol=1e-4)
        assert int(linear(-1.0)(moved[None]).argmax()) == (epsilon < DISTANCE)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("bound", "bounds"),
        ("smoothing?sigm=1", "sigma"),
        ("smoothing?sigma=0", "above 0"),
        ("smoothing?alpha=0.7", "below 0.5"),
        ("smoothing?n=1.5", "whole number"),
        ("bounds?images=0", "whole number"),
        ("bounds?images", "key=value"),
    ],
)
def test_wrong_options_get_one_line(text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        parse_certificates([text])
    assert "\n" not in str(caught.value)
