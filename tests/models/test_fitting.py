from __future__ import annotations

import pytest
import torch
from helpers.weight_files import Net, random_state
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.models.weights.checkpoint import CheckpointError
from probe.models.weights.fit_names import clean, compare, load_in_order, load_into, rebuilt_for_classes


def holds(network: nn.Module, state: dict[str, Tensor]) -> bool:
    own = network.state_dict()
    return all(torch.equal(own[key], value) for key, value in state.items())


prefixes = st.lists(st.sampled_from(["module.", "_orig_mod.", "model.", "network."]), max_size=4)


@given(prefixes)
def test_prefixes_in_any_combination(parts: list[str]) -> None:
    network = Net()
    state = random_state(network)
    wrapped = {"".join(parts) + key: value for key, value in state.items()}
    assert load_into(network, wrapped, "x") == ()
    assert holds(network, state)


def test_real_wrappers() -> None:
    """The prefixes that PyTorch itself writes."""
    network = Net()
    state = random_state(network)
    network.load_state_dict(state)
    compiled = torch.compile(nn.DataParallel(network))
    part = Net()
    part.load_state_dict(state)
    part.conv = torch.compile(part.conv)  # type: ignore[assignment]
    for wrapped in (nn.DataParallel(torch.compile(network)), compiled, part):  # type: ignore[arg-type]
        target = Net()
        assert load_into(target, wrapped.state_dict(), "x") == ()  # type: ignore[attr-defined]
        assert holds(target, state)


def test_a_prefix_that_is_the_networks_own_stays() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    state = random_state(Outer())
    assert clean(state, Outer()) == state
    network = Outer()
    load_into(network, {f"module.{key}": value for key, value in state.items()}, "x")
    assert holds(network, state)


def test_counters_may_be_missing() -> None:
    network = Net()
    state = random_state(network)
    del state["bn.num_batches_tracked"]
    assert load_into(network, state, "x") == ()
    assert holds(network, state)


def test_what_does_not_fit_is_named() -> None:
    network = Net()
    state = random_state(network)
    del state["conv.weight"], state["bn.bias"]
    state["fc.weight"] = torch.zeros(7, 4)
    state.update({f"extra{i}": torch.zeros(1) for i in range(5)})
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_into(network, state, "w.pth does not fit net")
    message = str(caught.value)
    for words in (
        "w.pth does not fit net",
        "2 keys missing (conv.weight, bn.bias)",
        "5 keys unexpected (extra0, extra1, extra2, …)",
        "1 key with another shape (fc.weight 7×4, expected 3×4)",
        "--allow-partial",
    ):
        assert words in message
    assert holds(network, before)


def test_partial_loading_says_what_is_left() -> None:
    network = Net()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = random_state(network)
    del state["conv.weight"]
    state["fc.weight"] = torch.zeros(7, 4)
    (note,) = load_into(network, state, "x", allow_partial=True)
    assert "2 of 8 tensors" in note
    assert "conv.weight" in note
    assert torch.equal(network.conv.weight, before["conv.weight"])
    assert torch.equal(network.fc.weight, before["fc.weight"])
    assert torch.equal(network.fc.bias, state["fc.bias"])


def test_partial_loading_of_nothing_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no tensor fits"):
        load_into(Net(), {"other": torch.zeros(2)}, "x", allow_partial=True)


def test_half_precision_is_converted() -> None:
    network = Net()
    state = random_state(network)
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    load_into(network, half, "x")
    assert network.conv.weight.dtype == torch.float32
    assert torch.equal(network.conv.weight, state["conv.weight"].half().float())


def test_loading_in_order_checks_every_shape() -> None:
    network = Net()
    state = random_state(network)
    renamed = {f"layer{i}": value for i, value in enumerate(state.values())}
    load_in_order(network, renamed, "x")
    assert holds(network, state)
    swapped = list(renamed.items())
    swapped[0], swapped[-1] = swapped[-1], swapped[0]
    with pytest.raises(CheckpointError, match="do not correspond"):
        load_in_order(network, dict(swapped), "x")
    with pytest.raises(CheckpointError, match="7 tensors for 8"):
        load_in_order(network, dict(list(renamed.items())[:7]), "x")


def test_a_network_is_rebuilt_for_the_files_classes() -> None:
    state = random_state(Net(num_classes=7))
    found = rebuilt_for_classes(Net(), state, Net)
    assert found is not None
    network, count = found
    assert count == 7
    assert not compare(network, state)
    assert rebuilt_for_classes(Net(), random_state(Net()), Net) is None
    other = {**state, "conv.weight": torch.zeros(4, 1, 3, 3)}
    assert rebuilt_for_classes(Net(), other, Net) is None
