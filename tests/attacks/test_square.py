"""Square and noise: what they ask of a network, what they propose, and when they keep it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchattacks
from helpers.attack_scenes import LINF, TWO, rng, small_batch, small_net
from torch import Tensor, nn

from probe.attacks.families.noise import Noise
from probe.attacks.families.square import Square
from probe.attacks.judge import margin
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS, Norm
from probe.core.seeds import scoped

TWO_NORMS = pytest.mark.parametrize(("norm", "epsilon"), [(LINF, 0.12), (TWO, 1.0)], ids=["Linf", "L2"])


class Asked(nn.Module):
    """Remembers every image it is asked about and its logits; refuses gradients."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net = small_net() if net is None else net
        self.asked: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.requires_grad:
            raise RuntimeError("asked for a gradient")
        logits: Tensor = self.net(x)
        self.asked.append((x.clone(), logits.clone()))
        return logits


class Stubborn(nn.Module):
    """Never changes its mind, though less sure of it the further an image is from grey in one direction."""

    def forward(self, x: Tensor) -> Tensor:
        value = x.flatten(1).mean(1)
        return torch.stack([10 - value, value], 1)


@TWO_NORMS
def test_square_asks_for_no_gradient_and_counts_its_queries(norm: Norm, epsilon: float) -> None:
    images, labels = small_batch()
    model = AttackedModel(Asked())
    Square(queries=30).perturb(model, images, labels, norm, epsilon, rng())
    assert model.gradients == 0
    assert len(images) < model.queries <= 30 * len(images)
    assert len(model.module.asked) <= 30  # type: ignore[arg-type]


@TWO_NORMS
@pytest.mark.parametrize("aimed", [False, True])
def test_square_ends_with_the_lowest_margin_it_saw_and_stops_at_success(
    norm: Norm, epsilon: float, aimed: bool
) -> None:
    images, labels = small_batch()
    broken = 0
    for image, label in zip(images[:8, None], labels[:8, None], strict=True):
        target = (label + 1) % 10 if aimed else None
        net = Asked()
        found = Square(queries=60).perturb(AttackedModel(net), image, label, norm, epsilon, rng(), target)
        margins = [float(margin(z, label, target)) for _, z in net.asked]
        assert torch.equal(found, net.asked[int(np.argmin(margins))][0])
        assert min(margins[:-1], default=1.0) > 0, "went on after success"
        assert len(margins) == 60 or margins[-1] <= 0
        broken += margins[-1] <= 0
        for x, _ in net.asked:
            assert norm.size(x - image) <= epsilon + 1e-5
            assert 0 <= x.min() <= x.max() <= 1
    assert 0 < broken < 8 or aimed


def test_linf_proposals_change_one_square_of_the_best_so_far() -> None:
    image = torch.full((1, 3, 12, 12), 0.5)
    label = torch.tensor([0])
    net = Asked(Stubborn())
    Square(queries=120).perturb(AttackedModel(net), image, label, LINF, 0.1, rng())
    assert len(net.asked) == 120
    best, lowest, kept = net.asked[0][0], float(margin(net.asked[0][1], label)), 0
    stripes = best[0, :, :1].expand(3, 12, 12)
    assert torch.equal(best[0], stripes), "the first is vertical stripes"
    assert torch.allclose((best - image).abs(), torch.tensor(0.1))
    for query, (x, z) in enumerate(net.asked[1:]):
        side = side_by_table(query, 12 * 12)
        rows, columns = (x != best).any(1)[0].nonzero().unbind(1)
        if len(rows):
            assert int(rows.max() - rows.min()) < side
            assert int(columns.max() - columns.min()) < side
        assert torch.allclose((x - image).abs(), torch.tensor(0.1))
        if float(margin(z, label)) < lowest:
            best, lowest, kept = x, float(margin(z, label)), kept + 1
    assert kept > 5


def test_l2_proposals_have_length_epsilon_before_the_range_cuts() -> None:
    image = torch.full((1, 3, 15, 15), 0.5)
    net = Asked(Stubborn())
    Square(queries=150).perturb(AttackedModel(net), image, torch.tensor([0]), TWO, 0.3, rng())
    assert len(net.asked) == 150
    lengths = [float((x - image).double().norm()) for x, _ in net.asked]
    assert lengths == pytest.approx([0.3] * 150, rel=1e-4)
    assert len({x.numpy().tobytes() for x, _ in net.asked}) == 150


# Andriushchenko et al. 2020, section 4: p halved at these of 10,000 queries.
TABLE = [0, 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]


def side_by_table(query: int, pixels: int, p: float = 0.8) -> int:
    halvings = max(i for i, at in enumerate(TABLE) if query > at or i == 0)
    return max(round(math.sqrt(p / 2**halvings * pixels)), 1)


@pytest.mark.parametrize("p", [0.8, 0.1])
def test_squares_shrink_as_published(p: float) -> None:
    images = torch.zeros(1, 1, 1000, 1000)
    attack = Square(queries=10_000, p=p)
    peer = torchattacks.Square(small_net(), n_queries=10_000, p_init=p)
    for at in sorted({q for bound in TABLE for q in (bound, bound + 1, bound + 2)} | {9_999}):
        side = attack._side(at, images, least=1)
        assert side == side_by_table(at, 1_000_000, p)
        assert side == pytest.approx(math.sqrt(peer.p_selection(at) * 1_000_000), abs=0.51)


def test_rescaled_squares_shrink_at_the_same_parts_of_fewer_queries() -> None:
    images = torch.zeros(1, 1, 1000, 1000)
    few, many = Square(queries=1000, rescale=True), Square(queries=10_000)
    for at in range(1000):
        assert few._side(at, images, 1) == many._side(at * 10, images, 1)
    assert Square(queries=1000)._side(500, images, 1) > few._side(500, images, 1)


def test_l2_windows_are_odd_and_fit() -> None:
    attack = Square(queries=10_000)
    for shape in [(8, 8), (9, 13), (3, 3)]:
        images = torch.zeros(1, 1, *shape)
        for at in (0, 20, 100, 3000, 9000):
            side = attack._side(at, images, least=3)
            assert 3 <= side <= min(shape)
            assert side % 2 == 1 or side == min(shape)


@TWO_NORMS
def test_square_leaves_no_more_images_than_torchattacks(norm: Norm, epsilon: float) -> None:
    images, labels = (part[:12] for part in small_batch())
    left = np.zeros(2)
    for seed in range(3):
        peer = torchattacks.Square(
            AttackedModel(small_net()),
            norm=norm.name,
            eps=epsilon,
            n_queries=100,
            seed=seed,
            resc_schedule=False,
        )
        with scoped(seed, "peer"):
            theirs = peer(images, labels)
        model = AttackedModel(small_net())
        ours = Square(queries=100).perturb(model, images, labels, norm, epsilon, rng(seed))
        left += [int((model.verdict(x).argmax(1) == labels).sum()) for x in (ours, theirs)]
    assert 0 < left[1] < 36
    assert left[0] <= left[1] + 4


# Noise


def test_noise_is_uniform_directions_of_full_size_and_stops_at_success() -> None:
    images, labels = small_batch()
    model = AttackedModel(Asked())
    for norm, epsilon in zip(NORMS.values(), (0.4, 4.0, 20.0, 30.0), strict=True):
        net = Asked()
        model = AttackedModel(net)
        found = Noise(draws=6).perturb(model, images, labels, norm, epsilon, rng())
        sizes = [len(x) for x, _ in net.asked]
        hits = [int((z.argmax(1) == labels[: len(z)]).sum()) for _, z in net.asked[:1]]
        assert sizes[0] == len(images)
        assert sizes[1:2] == hits
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) <= 6
        assert model.gradients == 0
        reached = small_net()(found).argmax(1) != labels
        assert reached.any()
        assert (norm.size(found - images) <= epsilon * (1 + 1e-5)).all()


def test_noise_that_never_works_is_noise_all_the_same() -> None:
    image = torch.full((2, 3, 6, 6), 0.5)
    net = Asked(Stubborn())
    found = Noise(draws=4).perturb(AttackedModel(net), image, torch.tensor([0, 0]), TWO, 0.3, rng())
    assert [len(x) for x, _ in net.asked] == [2] * 4
    assert TWO.size(found - image).tolist() == pytest.approx([0.3, 0.3], rel=1e-4)
