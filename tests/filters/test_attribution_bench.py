"""The tests of attribution maps, on linear networks in numpy, against dense solves, captum and definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from helpers.attribution_networks import Residual, drawn, linear_network, pixels
from torch import Tensor, nn

from probe.core.seeds import generator
from studies.filters.attribution import bench
from studies.filters.attribution.attribute import Gradient, IntegratedGradients, baseline_of, prepare
from studies.filters.attribution.bench import SHARES, Bench, Mosaics, area, gini, groups, mosaic
from studies.filters.attribution.cells import CellGrid, blurred, evidence, imputed

TARGETS = torch.tensor([2, 0, 3])


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def linear() -> tuple[nn.Module, Tensor, Bench]:
    net, images = drawn(linear_network()), pixels()
    return net, images, Bench(net, images, TARGETS)


# --- cells ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "side", "shape"), [((12, 14), 1, (12, 14)), ((224, 224), 4, (56, 56)), ((57, 30), 2, (29, 15))]
)
def test_cells_are_pixels_up_to_56_and_squares_beyond(
    size: tuple[int, int], side: int, shape: tuple[int, int]
) -> None:
    grid = CellGrid.of(size)
    assert (grid.side, grid.shape) == (side, shape)
    values = torch.rand(2, *size, generator=generator(0, "cells"), dtype=torch.float64)
    means = grid.means(values)
    for row, col in ((0, 0), (shape[0] - 1, shape[1] - 1)):
        block = values[:, row * side : (row + 1) * side, col * side : (col + 1) * side]
        torch.testing.assert_close(means[:, row, col], block.mean((1, 2)))
    wide = grid.pixels(means)
    assert wide.shape == values.shape
    torch.testing.assert_close(wide[:, -1, -1], means[:, -1, -1])


def test_ranks_are_those_of_the_evidence_and_ties_are_spread() -> None:
    grid = CellGrid.of((8, 8))
    values = torch.rand(2, 8, 8, generator=generator(0, "ranks"))
    ranks = grid.ranks(values, 0)
    for one, found in zip(values, ranks, strict=True):
        np.testing.assert_array_equal(np.argsort(-one.numpy().ravel()), np.argsort(found.numpy()))
    tied = grid.ranks(torch.zeros(2, 8, 8), 0)
    assert torch.equal(tied[0], tied[1])
    assert sorted(tied[0].tolist()) == list(range(64))
    assert tied[0].tolist() != list(range(64))
    assert not torch.equal(tied, grid.ranks(torch.zeros(2, 8, 8), 1))
    assert int(grid.removed(ranks, 0.25).sum()) == 2 * 16
    first, last = grid.removed(ranks, 0.5), grid.removed(ranks, 0.5, last=True)
    assert bool((first ^ last).all())


def test_evidence_is_signed_where_the_sign_means_something() -> None:
    maps = torch.tensor([1.0, -3.0, float("nan")]).view(1, 3, 1, 1)[:, :2]
    assert evidence(IntegratedGradients(), maps).item() == -2.0
    assert evidence(Gradient(), maps).item() == 4.0
    assert evidence(Gradient(), torch.full((1, 1, 2, 2), float("nan"))).sum() == 0.0


def test_blurring_keeps_a_constant_and_the_mean_of_what_is_far_from_the_border() -> None:
    flat = torch.full((1, 3, 20, 24), 0.3, dtype=torch.float64)
    torch.testing.assert_close(blurred(flat), flat)
    point = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    point[0, 0, 20, 20] = 1.0
    smooth = blurred(point)[0, 0].numpy()
    assert smooth.sum() == pytest.approx(1.0)
    y = np.arange(41) - 20
    assert (smooth.sum(1) * y**2).sum() == pytest.approx(4.1**2, rel=0.05)


# --- imputation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_imputation_is_the_dense_solution(share: float) -> None:
    rng = np.random.default_rng(0)
    cells, removed = rng.random((3, 9, 11)), rng.random((9, 11)) < share
    found = imputed(cells, removed, np.zeros_like(cells))
    system, right = np.eye(99), cells.reshape(3, 99).T.copy()
    for row, col in np.argwhere(removed):
        place = row * 11 + col
        system[place], right[place] = 0, 0
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                y, x = row + down, col + across
                if (down or across) and 0 <= y < 9 and 0 <= x < 11:
                    weight = 1 / 12 if down and across else 1 / 6
                    system[place, place] += weight
                    system[place, y * 11 + x] -= weight
    np.testing.assert_allclose(found.reshape(3, 99).T, np.linalg.solve(system, right), atol=1e-10)
    np.testing.assert_array_equal(found[:, ~removed], cells[:, ~removed])
    assert found.min() >= cells.min()
    assert found.max() <= cells.max()
    noise = rng.normal(size=cells.shape)
    np.testing.assert_allclose(imputed(cells, removed, noise) - found, noise * removed)


def test_imputation_of_a_plane_is_the_plane_inside() -> None:
    y, x = np.mgrid[:9, :9]
    plane, removed = (0.05 * y + 0.03 * x)[None], np.zeros((9, 9), bool)
    removed[2:7, 3:6] = True
    np.testing.assert_allclose(imputed(plane, removed, np.zeros((1, 9, 9))), plane, atol=1e-12)


@pytest.mark.parametrize("gone", [True, False])
def test_nothing_to_impute_from_or_for_is_an_error(gone: bool) -> None:
    with pytest.raises(ValueError, match="removed"):
        imputed(np.zeros((1, 3, 3)), np.full((3, 3), gone), np.zeros((1, 3, 3)))


# --- curves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_curves_of_a_linear_network_are_those_of_numpy(kind: str) -> None:
    net, images, judged = linear()
    maps = IntegratedGradients(steps=2).attribute(prepare(net, images[:1]), images, TARGETS)
    found = getattr(judged, kind)(judged.ranks(IntegratedGradients(), maps))
    assert found.shape == (3, len(SHARES))
    weight, bias = net[1].weight.numpy(), net[1].bias.numpy()  # type: ignore[index, union-attr]
    smooth = blurred(images).numpy()
    for i, target in enumerate(TARGETS.tolist()):
        image = images[i].numpy()
        mean = image.mean((1, 2), keepdims=True) + 0 * image
        before, after = (image, mean) if kind == "deletion" else (smooth[i], image)
        order = np.argsort(-maps[i].sum(0).numpy().ravel())
        curve = []
        for share in SHARES:
            mixed = before.reshape(3, -1).copy()
            chosen = order[: round(share * 168)]
            mixed[:, chosen] = after.reshape(3, -1)[:, chosen]
            curve.append(softmax(weight @ mixed.ravel() + bias)[target])
        np.testing.assert_allclose(found[i], curve, rtol=1e-9)
        assert area(found)[i] == pytest.approx(np.trapezoid(curve, SHARES))


def test_the_contributions_of_a_linear_network_delete_better_than_their_opposite() -> None:
    net, images, judged = linear()
    maps = IntegratedGradients(steps=2).attribute(prepare(net, images[:1]), images, TARGETS)
    good, bad = (judged.ranks(IntegratedGradients(), sign * maps) for sign in (1, -1))
    assert bool((area(judged.deletion(good)) < area(judged.deletion(bad))).all())
    assert bool((area(judged.insertion(good)) > area(judged.insertion(bad))).all())
    assert float(judged.road(good).min()) > 0
    # The opposite ranking exchanges first and last; the noise on imputed pixels is small.
    np.testing.assert_allclose(judged.road(good), -judged.road(bad), atol=0.05)


def test_road_is_the_difference_by_hand() -> None:
    net, images, judged = linear()
    maps = torch.rand(3, 1, 12, 14, generator=generator(0, "road"), dtype=torch.float64)
    ranks = judged.ranks(IntegratedGradients(), maps)
    found, gaps = judged.road(ranks), []
    for share in bench.ROAD_SHARES:
        count, both = round(share * 168), []
        for chosen in (ranks >= 168 - count, ranks < count):
            removed = chosen.view(3, 12, 14).numpy()
            filled = np.stack(
                [imputed(i.numpy(), r, np.zeros((3, 12, 14))) for i, r in zip(images, removed, strict=True)]
            )
            both.append(softmax(net(torch.from_numpy(filled)).numpy())[np.arange(3), TARGETS.numpy()])
        gaps.append(both[0] - both[1])
    np.testing.assert_allclose(found, np.mean(gaps, 0), atol=0.02)
    assert np.array_equal(found, judged.road(ranks))


# --- infidelity and sensitivity -------------------------------------------------------------------------------


def test_infidelity_of_the_exact_gradient_of_a_linear_network_is_zero() -> None:
    net, images, judged = linear()
    subject = prepare(net, images[:1])
    for method in (Gradient(), IntegratedGradients(steps=2)):
        maps = method.attribute(subject, images, TARGETS)
        assert judged.infidelity(method, 7 * maps).max() < 1e-10  # whatever its scale
        assert judged.infidelity(method, -maps).min() == 1.0
    noise = torch.randn(3, 3, 12, 14, generator=generator(0, "noise"), dtype=torch.float64)
    assert judged.infidelity(IntegratedGradients(), noise).min() > 0.3


def test_infidelity_is_captums_over_the_mean_squared_drop() -> None:
    net, images = drawn(Residual()), pixels()
    judged = Bench(net, images, TARGETS)
    maps = Gradient().attribute(prepare(net, images[:1]), images, TARGETS)
    flat, windows = baseline_of(images, "mean"), judged.windows

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        """All windows on each image in turn, as captum repeats the images."""
        boxes = windows.repeat(3, 1, 1)[:, None]
        base = flat.repeat_interleave(len(windows), 0)
        return (inputs - base) * boxes, torch.where(boxes, base, inputs)

    theirs = captum_infidelity(
        net, perturb, images, maps, target=TARGETS, n_perturb_samples=len(windows), normalize=True
    ).numpy()
    power = (judged.drops**2).mean(1)
    ours = judged.infidelity(Gradient(), maps)
    told = [np.sign(1 - value) for value in ours]  # captum allows a negative scale
    assert sum(told) >= 1
    for own, other, square, sign in zip(ours, theirs, power, told, strict=True):
        if sign > 0:
            assert own == pytest.approx(other / square, rel=1e-6)


def test_infidelity_where_nothing_drops_is_undefined() -> None:
    assert np.isnan(bench.infidelity(np.ones((1, 4)), np.zeros((1, 4)))).all()
    assert bench.infidelity(np.zeros((1, 4)), np.ones((1, 4))).tolist() == [1.0]


def test_windows_are_a_quarter_to_half_of_the_sides() -> None:
    boxes = linear()[2].windows
    assert len(boxes) == bench.WINDOWS
    for box in boxes:
        rows, cols = box.any(1).sum(), box.any(0).sum()
        assert 3 <= int(rows) <= 6
        assert 4 <= int(cols) <= 7
        assert int(box.sum()) == int(rows * cols)
    tiny = Bench(nn.Identity(), torch.zeros(1, 1, 1, 1), torch.zeros(1, dtype=torch.long)).windows
    assert bool(tiny.all())


def test_sensitivity_is_captums_with_the_same_noise() -> None:
    net, images = drawn(Residual()), pixels()
    judged, subject = Bench(net, images, TARGETS), prepare(net, images[:1])

    def attribute(changed: Tensor) -> Tensor:
        return Gradient().attribute(subject, changed, TARGETS)

    source = generator(0, "sensitivity")
    noise = torch.stack(
        [0.02 * (2 * torch.rand(3, 12, 14, generator=source) - 1) for _ in range(bench.DRAWS)]
    )

    def perturb(inputs: Tensor) -> Tensor:
        return inputs + noise.repeat(3, 1, 1, 1).double()

    def explain(inputs: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        (given,) = (inputs,) if isinstance(inputs, Tensor) else inputs
        targets = TARGETS.repeat_interleave(len(given) // 3)
        return (Gradient().attribute(subject, given, targets),)

    theirs = sensitivity_max(explain, images, perturb, n_perturb_samples=bench.DRAWS).numpy()
    np.testing.assert_allclose(judged.sensitivity(attribute, attribute(images)), theirs, rtol=1e-5)
    assert np.isnan(judged.sensitivity(lambda x: 0 * x, 0 * images)).all()


# --- Gini index -----------------------------------------------------------------------------------------------


def test_gini_is_its_definition() -> None:
    """Σᵢ Σⱼ |vᵢ − vⱼ| / (2 n² mean)."""
    maps = torch.randn(3, 2, 5, 4, generator=generator(0, "gini"), dtype=torch.float64)
    sizes = maps.abs().sum(1).flatten(1).numpy()
    expected = np.abs(sizes[:, :, None] - sizes[:, None]).sum((1, 2)) / (2 * 20**2 * sizes.mean(1))
    np.testing.assert_allclose(gini(maps), expected)
    single = torch.zeros(1, 1, 5, 4)
    single[0, 0, 2, 2] = -3.0
    assert gini(single)[0] == pytest.approx(1 - 1 / 20)
    assert gini(torch.ones(1, 1, 5, 4))[0] == pytest.approx(0.0)
    assert np.isnan(gini(torch.zeros(1, 1, 5, 4))).all()


# --- mosaics --------------------------------------------------------------------------------------------------


def test_a_mosaic_has_its_images_in_reading_order() -> None:
    values = torch.tensor([0.1, 0.4, 0.6, 0.9])
    made = mosaic(values.view(4, 1, 1, 1).expand(4, 2, 9, 6))
    assert made.shape == (2, 9, 6)
    torch.testing.assert_close(made[0, [0, 0, 8, 8], [0, 5, 0, 5]], values)
    assert float(made[0, 3, 2]) == pytest.approx(0.1)
    assert float(made[0, 4, 3]) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="2 × 2"):
        mosaic(torch.zeros(4, 1, 1, 6))


def test_shares_of_a_mosaic_count_positive_evidence_in_the_right_cell() -> None:
    found = torch.zeros(4, 5, 6, dtype=torch.float64)
    found[:, 0, 0], found[:, 4, 5], found[:, 0, 5] = 3.0, 1.0, -9.0
    made = Mosaics(torch.zeros(1, 3, 5, 6), torch.tensor([[5, 6, 7, 8]]))
    np.testing.assert_allclose(made.shares(found), [0.75, 0, 0, 0.25])
    assert made.shares(-found.abs()).tolist() == [0.25] * 4
    images, targets = made.cases
    assert images.shape == (4, 3, 5, 6)
    assert targets.tolist() == [5, 6, 7, 8]


def test_a_map_that_does_not_depend_on_the_class_is_right_by_chance_exactly() -> None:
    found = torch.rand(1, 9, 7, generator=generator(0, "free"), dtype=torch.float64).expand(4, 9, 7)
    made = Mosaics(torch.zeros(1, 3, 9, 7), torch.tensor([[0, 1, 2, 3]]))
    assert made.shares(found).mean() == pytest.approx(0.25)


def test_groups_are_of_different_classes_and_the_most_confident_first() -> None:
    labels, sure = [0, 0, 1, 2, 3, 1, 2, 3, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert groups(labels, sure, 5) == [[0, 2, 3, 4], [1, 5, 6, 7]]
    assert groups(labels, sure, 1) == [[0, 2, 3, 4]]
    assert groups([0, 1, 2, 2], [0.5] * 4, 2) == []
