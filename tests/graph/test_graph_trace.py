from __future__ import annotations

import re
import threading
from contextlib import suppress

import pytest
import torch
from helpers import graph_networks as nets
from torch import Tensor, fx, nn

from probe.core.errors import NotApplicableError, UsageError
from probe.core.state import fingerprint
from probe.graph.trace.trace import TraceError, no_side_effects, output_node, shared_copy, trace

NETWORKS = [nets.Plain, nets.LateChange, nets.ChangedInput, nets.SizeDependent, nets.RankOnly, nets.Constants]


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("size", [16, 15])
def test_the_graph_gives_the_networks_output_on_other_images(make: type[nn.Module], size: int) -> None:
    network = nets.seeded(make)
    traced = trace(network, nets.images(2, size))
    others = nets.images(5, size, seed=7)
    with torch.no_grad():
        torch.testing.assert_close(traced(others.clone()), network(others.clone()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "make", [*NETWORKS, nets.Branching, nets.BatchDependent, nets.Raises, nets.SideEffects]
)
def test_tracing_leaves_network_example_and_random_state_alone(make: type[nn.Module]) -> None:
    network, example = nets.seeded(make).train(), nets.images()
    before, kept, state = fingerprint(network), example.clone(), torch.get_rng_state()
    with suppress(TraceError, RuntimeError):
        trace(network, example)
    assert fingerprint(network) == before
    assert torch.equal(example, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_error_of_the_network_itself_passes_through() -> None:
    with pytest.raises(RuntimeError, match="broken network"):
        trace(nets.Raises(), nets.images())


def test_parameters_are_shared_and_submodules_are_not() -> None:
    network = nets.seeded(nets.Plain).train()
    traced = trace(network, nets.images())
    assert not any(sub.training for sub in traced.modules())
    own = dict(network.named_parameters())
    assert {name for name, _ in traced.named_parameters()} == set(own)
    assert all(parameter is own[name] for name, parameter in traced.named_parameters())
    assert traced.get_submodule("relu") is not network.relu
    with torch.no_grad():
        network.fc.bias += 1.0
    network.eval()
    torch.testing.assert_close(traced(nets.images()), network(nets.images()))


def test_a_graph_is_not_traced_again() -> None:
    traced = trace(nets.seeded(nets.Plain), nets.images())
    assert trace(traced, nets.images()) is traced
    assert trace(traced, nets.images(3)) is not traced


def test_data_dependent_control_flow_is_refused_with_the_source_line() -> None:
    with open(nets.__file__, encoding="utf-8") as source:
        line = next(i for i, text in enumerate(source, 1) if "the line that cannot be traced" in text)
    with pytest.raises(TraceError, match=re.escape(f"graph_networks.py:{line}")) as caught:
        trace(nets.seeded(nets.Branching), nets.images())
    assert "values of a tensor" in str(caught.value)
    assert isinstance(caught.value, NotApplicableError)
    assert "\n" not in str(caught.value)


def test_a_loop_over_the_batch_is_refused() -> None:
    with pytest.raises(TraceError, match="number of images"):
        trace(nets.seeded(nets.BatchDependent), nets.images())


def test_a_graph_that_depends_on_the_size_refuses_other_sizes() -> None:
    traced = trace(nets.seeded(nets.SizeDependent), nets.images(2, 15))
    with pytest.raises(TraceError, match="depends on their size"):
        traced(nets.images(2, 16))


def test_a_graph_that_asks_for_the_rank_only_takes_other_sizes() -> None:
    network = nets.seeded(nets.RankOnly)
    traced = trace(network, nets.images(2, 15))
    torch.testing.assert_close(traced(nets.images(1, 20)), network(nets.images(1, 20)))


class _Unsteady(nn.Module):
    """Runs one way when it is traced and another when it is not."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if isinstance(x, fx.Proxy) else x + 1.001


class _Nearly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if isinstance(x, fx.Proxy) else x + 1.000001


def test_a_graph_with_another_output_is_refused() -> None:
    with pytest.raises(TraceError, match="The output of the traced network differs"):
        trace(_Unsteady(), nets.images())
    trace(_Nearly(), nets.images())


class _NotANumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x - 0.5) / (x > 2)


def test_outputs_that_are_not_finite_can_be_equal() -> None:
    trace(_NotANumber(), nets.images())


def test_every_node_tells_its_shape_and_its_modules() -> None:
    network, example = nets.seeded(nets.Plain), nets.images(2, 16)
    traced = trace(network, example)
    seen: dict[str, tuple[int, ...]] = {}

    class Look(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            result = super().run_node(n)
            seen[n.name] = tuple(result.shape)
            return result

    with torch.no_grad():
        Look(traced).run(example.clone())
    assert {node.name: node.meta["shape"] for node in traced.graph.nodes} == seen
    paths = {node.target: node.meta["path"] for node in traced.graph.nodes if node.op == "call_module"}
    assert paths["body.0"] == ("body", "body.0")
    assert all(isinstance(node.meta["path"], tuple) for node in traced.graph.nodes)


def test_output_nodes_carry_what_hooks_see() -> None:
    network, example = nets.seeded(nets.Plain), nets.images()
    traced = trace(network, example)
    hooked: dict[str, Tensor] = {}
    for name, sub in network.named_modules():
        sub.register_forward_hook(lambda _m, _a, out, name=name: hooked.update({name: out.clone()}))
    values: dict[str, Tensor] = {}

    class Look(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            result = super().run_node(n)
            values[n.name] = result.clone()
            return result

    with torch.no_grad():
        network(example)
        Look(traced).run(example.clone())
    hooked.pop("")
    assert set(hooked) == {"conv1", "bn1", "conv2", "relu", "body", "body.0", "body.1", "fc"}
    for name, value in hooked.items():
        torch.testing.assert_close(values[output_node(traced, name).name], value)


def test_output_node_names_layers_that_are_close() -> None:
    traced = trace(nets.seeded(nets.Plain), nets.images())
    with pytest.raises(UsageError, match=r"no layer 'cnv1'\. Did you mean 'conv1'"):
        output_node(traced, "cnv1")


def test_output_node_of_what_has_no_single_output() -> None:
    traced = trace(nets.seeded(nets.Several), nets.images())
    for name in ("unused", "pair"):
        with pytest.raises(TraceError, match=f"Layer '{name}' has no output"):
            output_node(traced, name)
    assert output_node(traced, "alias") is output_node(traced, "tail")


def test_hooks_and_reparametrised_weights_are_followed() -> None:
    network = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU())
    network[0].register_forward_hook(lambda _m, _a, out: out * 2)
    traced = trace(network, nets.images())
    torch.testing.assert_close(traced(nets.images(seed=3)), network(nets.images(seed=3)))


def test_attributes_that_cannot_be_copied_are_shared() -> None:
    network = nets.seeded(nets.Plain)
    network.lock, network.torch = threading.Lock(), torch
    network.body.features = [network.conv1(nets.images())]
    copy = shared_copy(network)
    assert copy.lock is network.lock
    assert copy.conv1 is not network.conv1
    assert copy.conv1.weight is network.conv1.weight
    trace(network, nets.images())


def test_modules_in_plain_lists_are_copied_with_the_module() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    network.listed = [network[0]]
    copy = shared_copy(network)
    assert copy.listed[0] is copy[0]


def test_isolated_puts_buffers_and_random_state_back_after_an_error() -> None:
    network = nets.SideEffects()
    state = torch.get_rng_state()

    def run() -> None:
        with no_side_effects(network):
            network(nets.images())
            assert network.calls.item() == 1
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert network.calls.item() == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_random_networks_are_compared_with_the_same_numbers() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    trace(Noisy(), nets.images())
