"""Swaps and the two restrictions of convolution, against networks written by hand and explicit sums."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from helpers import ablation_networks as nets
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.core.errors import NotApplicableError, UsageError
from probe.core.seeds import scoped
from probe.core.state import fingerprint
from probe.graph.cost.summary import count_macs
from probe.graph.edit.cut import cut, find_sites, prepare
from probe.graph.edit.local import LocallyConnected2d, MapConv2d, output_size
from probe.graph.edit.structure import SWAPS, get_structure
from probe.models.zoo.inception import GoogLeNet
from probe.models.zoo.nin import NIN
from probe.models.zoo.resnet import ResNet
from probe.models.zoo.vgg import VGG
from studies.ablation.config import AblationConfig
from studies.ablation.retrain import label_of


def swapped(network: nn.Module, text: str, x: Tensor, only: str | None = None) -> nn.Module:
    subject = prepare(network.eval(), x)
    sites = find_sites(subject, get_structure(text))
    with scoped(5, "new weights"):
        return cut(subject, [site for site in sites if only in (None, site.name)])


def forms(network: nn.Module, text: str, x: Tensor) -> list[str]:
    return [site.form for site in find_sites(prepare(network.eval(), x), get_structure(text))]


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [sub for sub in network.modules() if isinstance(sub, nn.Conv2d)]


def support(network: nn.Module, x: Tensor, row: int, column: int) -> tuple[range, range]:
    """The rows and columns of the input that a place of the output sees: positive weights stop no gradient."""
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    leaf = x.abs().requires_grad_(True)
    network(leaf)[0, 0, row, column].backward()
    assert leaf.grad is not None
    seen = [(leaf.grad.abs().sum((0, 1, dim)) > 0).nonzero().flatten().tolist() for dim in (3, 2)]
    return range(seen[0][0], seen[0][-1] + 1), range(seen[1][0], seen[1][-1] + 1)


@settings(max_examples=60, deadline=None)
@given(
    k=st.sampled_from([3, 5, 7]),
    stride=st.integers(1, 3),
    data=st.data(),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
@pytest.mark.parametrize("text", ["swap:kernel", "swap:asymmetric", "swap:mlpconv"])
def test_size_and_receptive_field_stay(
    text: str, k: int, stride: int, data: st.DataObject, groups: int, bias: bool
) -> None:
    padding = data.draw(st.integers(0, k // 2))
    network = nn.Sequential(nn.Conv2d(4, 8, k, stride, padding, groups=groups, bias=bias), nn.ReLU())
    x = torch.rand(1, 4, 17, 16, generator=torch.Generator().manual_seed(0))
    before = network(x)
    made = swapped(network, text, x)
    assert made(x).shape == before.shape
    place = (before.shape[2] // 2, before.shape[3] // 2)
    assert support(made, x, *place) == support(network, x, *place)
    if text == "swap:kernel" and k > 3:
        assert [conv.kernel_size for conv in convolutions(made)] == [(3, 3)] * (k // 2)
    if text == "swap:asymmetric":
        assert [conv.kernel_size for conv in convolutions(made)] == [(1, k), (k, 1)]
    if text == "swap:mlpconv":
        assert [conv.kernel_size for conv in convolutions(made)] == [(k, k), (1, 1), (1, 1)]


@pytest.mark.parametrize(("there", "back"), [("kernel?to=stacked", "kernel?to=large")])
@pytest.mark.parametrize("k", [5, 7])
def test_there_and_back_is_the_shape_of_before(there: str, back: str, k: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, k, 2, k // 2, bias=False), nn.BatchNorm2d(6), nn.GELU())
    x = torch.rand(1, 3, 16, 16)
    stacked = swapped(network, f"swap:{there}", x)
    assert sum(isinstance(sub, nn.BatchNorm2d) for sub in stacked.modules()) == k // 2
    assert sum(isinstance(sub, nn.GELU) for sub in stacked.modules()) == k // 2
    again = swapped(stacked, f"swap:{back}", x)
    (conv,) = convolutions(again)
    assert (conv.kernel_size, conv.stride, conv.padding) == ((k, k), (2, 2), (k // 2, k // 2))
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in network.parameters())


def test_the_twins_of_vgg_are_each_others_swap() -> None:
    x = torch.rand(1, 3, 32, 32)
    for field in (5, 7):
        stacked, single = (VGG(field=field, stacked=is_stacked) for is_stacked in (True, False))
        assert shapes(swapped(stacked, "swap:kernel?to=large", x)) == shapes(single)
        assert shapes(swapped(single, "swap:kernel?to=stacked", x)) == shapes(stacked)


def test_factorised_inception_and_mlpconv_go_back() -> None:
    x = torch.rand(1, 3, 32, 32)
    made = swapped(GoogLeNet(3), "swap:asymmetric?to=square", x)
    assert not [conv for conv in convolutions(made) if conv.kernel_size[0] != conv.kernel_size[1]]
    assert len(forms(GoogLeNet(3), "swap:asymmetric?to=square", x)) == 4 * 3
    plain = swapped(NIN(norm="none"), "swap:mlpconv?to=plain", x)
    assert [conv.kernel_size for conv in convolutions(plain)] == [(5, 5), (5, 5), (3, 3)]


def shapes(network: nn.Module) -> list[tuple[int, ...]]:
    return sorted(tuple(p.shape) for p in network.parameters())


@pytest.mark.parametrize("option", ["A", "B"])
@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("first", [1, 2])
def test_residual_versions_become_the_zoos_own(option: str, bottleneck: bool, first: int) -> None:
    """The same weights of convolutions, and fresh norms, in the network that is written in the other version."""
    depth, block = (11, "bottleneck") if bottleneck else (14, "basic")
    network, other = (
        ResNet(depth, option=option, version=version, block=block).eval()  # type: ignore[arg-type]
        for version in (first, 3 - first)
    )
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = fingerprint(network)
    made = swapped(network, f"swap:residual?to=v{3 - first}", x)
    assert fingerprint(network) == before
    assert not find_sites(prepare(made, x), get_structure(f"swap:residual?to=v{3 - first}"))
    with torch.no_grad():
        for mine, theirs in zip(weights(network), weights(other), strict=True):
            theirs.weight.copy_(mine.weight)
            if theirs.bias is not None and mine.bias is not None:
                theirs.bias.copy_(mine.bias)
    # In train mode norms work with the batch's statistics, so that it shows where they stand.
    torch.testing.assert_close(made.train()(x), other.train()(x), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(made(x), network.train()(x), atol=1e-2)


def weights(network: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    """Convolutions by stage and place: those of a block first, then its projection."""
    for sub in network.modules():
        if isinstance(sub, nn.Conv2d | nn.Linear):
            yield sub


def test_activations_pools_and_norms_become_others() -> None:
    network, x = nets.random_statistics(nets.Plain()), nets.image(size=16)
    made = swapped(network, "swap:activation?to=tanh", x)
    assert any(isinstance(sub, nn.Tanh) for sub in made.modules())
    assert not any(isinstance(sub, nn.ReLU) for sub in made.modules())
    assert forms(network, "swap:activation?to=relu", x) == []
    for text in ("swap:pool", "swap:norm?to=batch", "swap:norm?to=none", "swap:norm?to=lrn"):
        assert forms(network, text, x), text
        assert not torch.allclose(swapped(network, text, x)(x), network(x), atol=1e-5), text


def test_gates_keep_their_sigmoid() -> None:
    network, x = nets.Gated().eval(), nets.image(size=16)
    made = swapped(network, "swap:activation?to=gelu", x)
    gates = [sub for sub in made.modules() if isinstance(sub, nn.Sigmoid)]
    before = [sub for sub in prepare(network, x).network.modules() if isinstance(sub, nn.Sigmoid)]
    assert len(gates) == len(before) > 0


def test_batch_norm_is_put_behind_the_convolutions_of_a_network_without_any() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()).eval()
    x = torch.rand(2, 3, 8, 8)
    made = swapped(network, "swap:norm?to=batch", x).train()
    norms = [sub for sub in made.modules() if isinstance(sub, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [4, 5]
    seen = F.conv2d(x, network[0].weight, network[0].bias)  # type: ignore[arg-type]
    seen = F.relu(F.batch_norm(seen, None, None, norms[0].weight, norms[0].bias, True))
    seen = F.conv2d(seen, network[2].weight, network[2].bias)  # type: ignore[arg-type]
    seen = F.relu(F.batch_norm(seen, None, None, norms[1].weight, norms[1].bias, True))
    torch.testing.assert_close(made(x), seen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["sharing", "locality"])
def test_without_a_restriction_the_network_begins_as_the_same_function(text: str) -> None:
    network, x = nets.random_statistics(nets.Residual()), nets.image(3, size=16)
    made = swapped(network, text, x)
    assert get_structure(text).no_effect_reason
    torch.testing.assert_close(made(x), network(x), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in made.parameters()) > 2 * sum(p.numel() for p in network.parameters())


GEOMETRY = {
    "k": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
    "groups": st.sampled_from([1, 2]),
    "size": st.tuples(st.integers(4, 9), st.integers(4, 9)),
    "bias": st.booleans(),
}


def conv_of(
    k: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], groups: int, bias: bool
) -> nn.Conv2d:
    with scoped(1, "conv"):
        return nn.Conv2d(2, 4, k, stride, padding, groups=groups, bias=bias)


@settings(max_examples=80, deadline=None)
@given(**GEOMETRY)
def test_a_locally_connected_layer_by_explicit_sums(
    k: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
    size: tuple[int, int],
    bias: bool,
) -> None:
    conv = conv_of(k, stride, padding, groups, bias)
    x = torch.rand(2, 2, *size, generator=torch.Generator().manual_seed(2))
    layer = LocallyConnected2d(conv, size)
    shared = conv(x)
    torch.testing.assert_close(layer(x), shared, rtol=1e-5, atol=1e-6)
    places = shared.shape[2] * shared.shape[3]
    assert layer.weight.numel() == places * conv.weight.numel()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(3)))
    found, padded = layer(x), F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    kernels = layer.weight.reshape(shared.shape[2], shared.shape[3], 4, 2 // groups, *k)
    for row in range(shared.shape[2]):
        for column in range(shared.shape[3]):
            top, left = row * stride[0], column * stride[1]
            window = padded[:, :, top : top + k[0], left : left + k[1]]
            for out in range(4):
                first = (out // (4 // groups)) * (2 // groups)
                part = window[:, first : first + 2 // groups]
                wanted = (part * kernels[row, column, out]).sum((1, 2, 3))
                if conv.bias is not None:
                    wanted = wanted + conv.bias[out]
                torch.testing.assert_close(found[:, out, row, column], wanted, rtol=1e-4, atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(**GEOMETRY)
def test_a_kernel_of_the_maps_size_by_fourier_and_by_sums(
    k: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
    size: tuple[int, int],
    bias: bool,
) -> None:
    conv = conv_of(k, stride, padding, groups, bias)
    x = torch.rand(2, 2, *size, generator=torch.Generator().manual_seed(2))
    layer = MapConv2d(conv, size)
    assert all(side >= whole for side, whole in zip(layer.kernel_size, size, strict=True))
    torch.testing.assert_close(layer(x), conv(x), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(3)))
    twin = nn.Conv2d(2, 4, layer.kernel_size, stride, layer.padding, groups=groups, bias=bias)  # type: ignore[arg-type]
    twin.load_state_dict(layer.state_dict())
    leaf, other = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    found, wanted = layer(leaf), twin(other)
    assert tuple(found.shape[2:]) == output_size(layer, size)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    error = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(4))
    found.backward(error)
    wanted.backward(error)
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(layer(x), twin(x))


def test_the_price_of_the_two_restrictions() -> None:
    """Weights k²·C_in·C_out·M′·N′ without sharing, and the same multiplications; (2d + k)² without locality."""
    network, x = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1, bias=False)), torch.rand(1, 3, 16, 16)
    apart, wide = swapped(network, "sharing", x), swapped(network, "locality", x)
    assert sum(p.numel() for p in apart.parameters()) == 9 * 3 * 5 * 8 * 8
    assert count_macs(apart, x) == count_macs(network, x) == 9 * 3 * 5 * 8 * 8
    assert sum(p.numel() for p in wide.parameters()) == 17**2 * 3 * 5
    assert count_macs(wide, x) == 17**2 * 3 * 5 * 8 * 8


@pytest.mark.parametrize("order", [("sharing", "locality"), ("locality", "sharing")])
def test_both_restrictions_go_together(order: tuple[str, str]) -> None:
    network, x = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1, bias=False)).eval(), torch.rand(1, 3, 16, 16)
    subject = prepare(network, x)
    made = cut(subject, [site for text in order for site in find_sites(subject, get_structure(text))])
    assert sum(p.numel() for p in made.parameters()) == 17**2 * 3 * 5 * 8 * 8
    torch.testing.assert_close(made(x), network(x), rtol=1e-4, atol=1e-5)


def test_too_many_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from probe.graph.structures import sharing

    monkeypatch.setattr(sharing, "_MOST", 1000)
    with pytest.raises(NotApplicableError, match="--sites"):
        swapped(nn.Sequential(nn.Conv2d(3, 5, 3)), "sharing", torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize("name", SWAPS.names())
def test_every_swap_says_what_it_is(name: str) -> None:
    swap = get_structure(f"swap:{name}")
    assert swap.name == f"swap:{name}"
    assert swap.text.startswith(swap.name)
    assert swap.arm.startswith("with")
    assert swap.no_effect_reason
    assert SWAPS.entries[name].summary
    assert label_of((swap.text, "shortcut")) == f"{swap.arm} and without shortcut"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("swap:kernel?to=tiny", "stacked or large"),
        ("swap:nosuch", "no swap 'nosuch'"),
        ("swap:activation?to=softmax", "one of relu, sigmoid"),
        ("swap:pool?into=max", "swap 'pool' has no option 'into'"),
        ("swap:residual?to=v3", "v1 or v2"),
        ("swap:norm?to=group", "batch, lrn or none"),
    ],
)
def test_unknown_words_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        get_structure(text)


def test_a_swap_cannot_be_a_lesion() -> None:
    with pytest.raises(UsageError, match="has to be trained"):
        AblationConfig(remove=(), swap=("pool",), mode="lesion")
    assert AblationConfig(remove=("norm",), swap=("pool", "pool")).texts == ("norm", "swap:pool")
