from __future__ import annotations

import pytest
import torch
from helpers.weight_files import Net, random_state
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.models.weights.checkpoint import CheckpointError
from probe.models.weights.fit_names import compare, fit_names, load_in_order, load_into, rebuilt_for_classes


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
    assert fit_names(state, Outer()).state == state
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


@pytest.mark.parametrize(
    "prefix", ["model.", "net.", "encoder.", "student.backbone.", "module._orig_mod.model."]
)
def test_a_network_under_any_prefix_beside_other_tensors(prefix: str) -> None:
    network, state = Net(), random_state(Net())
    file = {f"{prefix}{key}": value for key, value in state.items()}
    file |= {"criterion.weight": torch.ones(3), "val_acc.tp": torch.zeros(3)}
    notes = load_into(network, file, "x")
    assert holds(network, state)
    assert "criterion.weight" in notes[-1]
    assert "val_acc.tp" in notes[-1]


class Defended(nn.Module):
    """A network inside a defence, with a mean of pixels that no file of the network has."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3,), 0.5))
        self.inner = inner if inner is not None else Net()


@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
@pytest.mark.parametrize("deep", [False, True])
def test_the_file_of_a_network_that_another_wraps(prefix: str, deep: bool) -> None:
    network = Defended(Defended()) if deep else Defended()
    state = random_state(Net())
    notes = load_into(network, {f"{prefix}{key}": value for key, value in state.items()}, "x")
    assert holds(network.inner.inner if deep else network.inner, state)  # type: ignore[arg-type]
    assert torch.equal(network.mean, torch.full((3,), 0.5))  # type: ignore[arg-type]
    assert "'inner.inner'" in notes[-1] if deep else "'inner'" in notes[-1]


def test_a_wrapped_network_needs_all_of_its_weights_and_no_other_part_with_weights() -> None:
    state = random_state(Net())
    first = next(iter(state))
    with pytest.raises(CheckpointError, match=rf"missing \(inner\.{first}"):
        load_into(Defended(), {key: value for key, value in state.items() if key != first}, "x")
    two = Defended()
    two.head = nn.Linear(2, 2)  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match="missing"):
        load_into(two, state, "x")


def test_a_loss_beside_the_networks_own_keys_is_left_aside_and_other_tensors_are_not() -> None:
    network, state = Net(), random_state(Net())
    (note,) = load_into(network, {**state, "criterion.weight": torch.ones(3)}, "x")
    assert "criterion.weight" in note
    with pytest.raises(CheckpointError, match=r"layer4\.weight"):
        load_into(network, {**state, "layer4.weight": torch.ones(3)}, "x")


class Renaming(nn.Module):
    """Takes the names that its weights had in an older version."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)
        self._register_load_state_dict_pre_hook(self._rename)

    @staticmethod
    def _rename(state: dict[str, torch.Tensor], prefix: str, *_: object) -> None:
        for name in ("weight", "bias"):
            if f"{prefix}head.{name}" in state:
                state[f"{prefix}fc.{name}"] = state.pop(f"{prefix}head.{name}")


def test_the_networks_own_hooks_may_rename() -> None:
    network, weights = Renaming(), torch.randn(3, 2)
    notes = load_into(network, {"head.weight": weights, "head.bias": torch.zeros(3)}, "x")
    assert torch.equal(network.fc.weight, weights)
    assert "renamed" in notes[-1]


def test_parametrised_weights_load_from_their_own_and_from_older_files() -> None:
    new = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    other = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    load_into(other, new.state_dict(), "x")
    assert torch.equal(other.weight, new.weight)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (torch.zeros(3, 4, dtype=torch.complex64), "complex"),
        (torch.zeros(3, 4, dtype=torch.int32), "int32"),
        (torch.zeros(3, 4).to_sparse(), "sparse"),
        (torch.empty(3, 4, device="meta"), "meta"),
        (torch.zeros(3, 4, dtype=torch.float8_e4m3fn), "float8"),
    ],
)
def test_what_is_no_ordinary_number_is_refused_by_name(value: torch.Tensor, word: str) -> None:
    state = random_state(Net())
    state["fc.weight"] = value
    with pytest.raises(CheckpointError, match=f"fc.weight is .*{word}"):
        load_into(Net(), state, "x")


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.float16, "float16"), (torch.bfloat16, "bfloat16"), (torch.float64, "float64")]
)
def test_other_precisions_are_noted(dtype: torch.dtype, name: str) -> None:
    state = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in random_state(Net()).items()
    }
    (note,) = load_into(Net(), state, "x")
    assert name in note
    assert "float32" in note
